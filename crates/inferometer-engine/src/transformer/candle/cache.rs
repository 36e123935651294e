//! Keys and values of one layer: two tensors [kv_heads, room, head_dim] that grow in steps. With a window the positions
//! before it are dropped, many at a time, so that what is held always lies in order and in one piece.

use candle_core::{DType, Device, Tensor};

use super::failed;
use crate::transformer::backend::LayerCache;
use crate::transformer::extent::Extent;
use inferometer_host::Result;

/// Room grows by multiples of this many positions.
pub const STEP: usize = 256;

#[derive(Debug)]
pub struct Cache {
    /// Keys and values, each [kv_heads, room, head_dim]; positions from `held` on mean nothing.
    tensors: Option<(Tensor, Tensor)>,
    kv_heads: usize,
    head_dim: usize,
    extent: Extent,
}

impl Cache {
    #[must_use]
    pub fn new(kv_heads: usize, head_dim: usize, window: Option<usize>) -> Self {
        Self { tensors: None, kv_heads, head_dim, extent: Extent::new(window) }
    }

    /// Positions that fit without growing.
    fn room(&self) -> usize {
        self.tensors.as_ref().map_or(0, |(keys, _)| keys.dims()[1])
    }

    /// Writes keys and values [kv_heads, T, head_dim] behind what is held; nothing that is held moves unless the room
    /// is used up. With a window, what lies before it is dropped then.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn append(&mut self, keys: &Tensor, values: &Tensor) -> Result<()> {
        let count = keys.dim(1).map_err(failed)?;
        let (held, spare) = (self.held(), self.extent.spare());
        if held + count > self.room() && spare > 0 {
            self.move_to(spare, self.room().max(held - spare + count))?;
        }
        self.grow(self.held() + count)?;
        let (held_keys, held_values) = self.tensors.as_ref().expect("room was just made");
        held_keys.slice_set(keys, 1, self.held()).map_err(failed)?;
        held_values.slice_set(values, 1, self.held()).map_err(failed)?;
        self.extent.append(count);
        Ok(())
    }

    /// Keys and values with all their room: [kv_heads, room, head_dim]. `None` before the first append.
    #[must_use]
    pub fn tensors(&self) -> Option<&(Tensor, Tensor)> {
        self.tensors.as_ref()
    }

    /// Positions in the tensors; the last ones count.
    #[must_use]
    pub fn held(&self) -> usize {
        self.extent.held()
    }

    /// Positions that a query looks back at, itself included.
    #[must_use]
    pub fn window(&self) -> usize {
        self.extent.window()
    }

    fn grow(&mut self, len: usize) -> Result<()> {
        if len <= self.room() { Ok(()) } else { self.move_to(0, len) }
    }

    /// Moves what is held, without the first `drop` positions, into tensors with room for `len`.
    fn move_to(&mut self, drop: usize, len: usize) -> Result<()> {
        let room = self.extent.room(len, STEP);
        // Zeroed memory is mapped when first written, so room that is never used costs address space only.
        let empty = || Tensor::zeros((self.kv_heads, room, self.head_dim), DType::F32, &Device::Cpu).map_err(failed);
        let (keys, values) = (empty()?, empty()?);
        let kept = self.held() - drop;
        if let (Some((old_keys, old_values)), 1..) = (&self.tensors, kept) {
            for (new, old) in [(&keys, old_keys), (&values, old_values)] {
                let held = old.narrow(1, drop, kept).and_then(|t| t.contiguous()).map_err(failed)?;
                new.slice_set(&held, 1, 0).map_err(failed)?;
            }
        }
        self.tensors = Some((keys, values));
        self.extent.drop_first(drop);
        Ok(())
    }
}

impl LayerCache for Cache {
    fn extent(&self) -> &Extent {
        &self.extent
    }

    fn extent_mut(&mut self) -> &mut Extent {
        &mut self.extent
    }

    fn reserve(&mut self, len: usize) -> Result<()> {
        self.grow(len.min(self.window().saturating_add(STEP)))
    }

    fn bytes(&self) -> u64 {
        2 * (self.kv_heads * self.room() * self.head_dim * size_of::<f32>()) as u64
    }
}

#[cfg(test)]
mod tests;
