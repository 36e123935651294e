//! Keys and values of one layer: two tensors [kv_heads, room, head_dim] that grow in steps. With a
//! window, older positions are dropped many at a time, so that the held ones are always in order
//! and contiguous.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Device, Tensor};

use super::failed;
use crate::transformer::backend::LayerCache;
use crate::transformer::extent::Extent;
use inferometer_host::Result;

/// Room grows by multiples of this many positions.
pub const STEP: usize = 256;

/// Type of the keys and values in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    F32,
    /// Half the memory, and half the bytes read for a token; values are rounded to 11 bits.
    F16,
}

impl Element {
    pub const ALL: [Element; 2] = [Element::F32, Element::F16];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
        }
    }

    #[must_use]
    pub fn dtype(self) -> DType {
        match self {
            Element::F32 => DType::F32,
            Element::F16 => DType::F16,
        }
    }
}

/// Bytes allocated for all caches of a model. Can be read from any thread.
#[derive(Debug, Clone, Default)]
pub struct Total(Arc<AtomicU64>);

impl Total {
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts in a total as long as it lives.
#[derive(Debug)]
struct Counted {
    bytes: u64,
    total: Total,
}

impl Counted {
    fn new(bytes: u64, total: &Total) -> Self {
        total.0.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, total: total.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.total.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub struct Cache {
    element: Element,
    /// Where the bytes of `tensors` are counted.
    total: Total,
    counted: Option<Counted>,
    /// Keys and values, each [kv_heads, room, head_dim]; positions from `held` on are unused.
    tensors: Option<(Tensor, Tensor)>,
    kv_heads: usize,
    head_dim: usize,
    extent: Extent,
}

impl Cache {
    #[must_use]
    pub fn new(kv_heads: usize, head_dim: usize, window: Option<usize>, element: Element) -> Self {
        let (total, extent) = (Total::default(), Extent::new(window));
        Self { element, total, counted: None, tensors: None, kv_heads, head_dim, extent }
    }

    /// Counts its bytes in this total, from the first allocation on.
    #[must_use]
    pub fn counted_in(self, total: &Total) -> Self {
        Self { total: total.clone(), ..self }
    }

    /// Positions that fit without growing.
    fn room(&self) -> usize {
        self.tensors.as_ref().map_or(0, |(keys, _)| keys.dims()[1])
    }

    /// Appends f32 keys and values [kv_heads, T, head_dim]. Held positions move only if the room is
    /// used up; with a window, older positions are dropped then.
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
        for (held, new) in [(held_keys, keys), (held_values, values)] {
            // Without a copy if it has the type already.
            let new = new.to_dtype(self.element.dtype()).map_err(failed)?;
            held.slice_set(&new, 1, self.held()).map_err(failed)?;
        }
        self.extent.append(count);
        Ok(())
    }

    /// Type of the keys and values.
    #[must_use]
    pub fn element(&self) -> Element {
        self.element
    }

    /// Keys and values including unused room: [kv_heads, room, head_dim]. `None` before the first
    /// append.
    #[must_use]
    pub fn tensors(&self) -> Option<&(Tensor, Tensor)> {
        self.tensors.as_ref()
    }

    /// Positions in the tensors; attention sees the last ones.
    #[must_use]
    pub fn held(&self) -> usize {
        self.extent.held()
    }

    /// Positions that a query sees, including itself.
    #[must_use]
    pub fn window(&self) -> usize {
        self.extent.window()
    }

    /// Bytes of keys and values with that much room.
    fn bytes_of(&self, room: usize) -> u64 {
        2 * (self.kv_heads * room * self.head_dim * self.element.dtype().size_in_bytes()) as u64
    }

    fn grow(&mut self, len: usize) -> Result<()> {
        if len <= self.room() { Ok(()) } else { self.move_to(0, len) }
    }

    /// Moves the held positions, without the first `drop`, into tensors with room for `len`.
    fn move_to(&mut self, drop: usize, len: usize) -> Result<()> {
        let room = self.extent.room(len, STEP);
        // Zeroed memory is mapped on the first write, so unused room costs only address space.
        let shape = (self.kv_heads, room, self.head_dim);
        // While positions move, both old and new room are counted.
        let counted = Counted::new(self.bytes_of(room), &self.total);
        let empty = || Tensor::zeros(shape, self.element.dtype(), &Device::Cpu).map_err(failed);
        let (keys, values) = (empty()?, empty()?);
        let kept = self.held() - drop;
        if let (Some((old_keys, old_values)), 1..) = (&self.tensors, kept) {
            for (new, old) in [(&keys, old_keys), (&values, old_values)] {
                let held = old.narrow(1, drop, kept).and_then(|t| t.contiguous()).map_err(failed)?;
                new.slice_set(&held, 1, 0).map_err(failed)?;
            }
        }
        self.tensors = Some((keys, values));
        self.counted = Some(counted);
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
        self.bytes_of(self.room())
    }
}

#[cfg(test)]
mod tests;
