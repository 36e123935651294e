//! Keys and values of one layer: two arrays [1, kv_heads, room, head_dim] that are written in
//! place.
//!
//! MLX's arrays are values: "writing" makes a new array, which takes over the memory if nothing
//! else holds it. With a window, older positions are dropped many at a time, so that the held ones
//! are always in order and contiguous.

use mlx_rs::ops::{concatenate, zeros_dtype};
use mlx_rs::{Array, Dtype};

use super::calls::{mlx, replace, size, slice};
use crate::transformer::backend::LayerCache;
use crate::transformer::extent::Extent;
use inferometer_host::Result;

/// Room grows by multiples of this many positions, as in mlx-lm.
pub const STEP: usize = 256;

#[derive(Debug)]
pub struct Cache {
    arrays: Option<[Array; 2]>,
    kv_heads: i32,
    head_dim: i32,
    extent: Extent,
    /// Positions that fit.
    room: usize,
    /// Least room of the next allocation.
    wanted: usize,
}

/// Keys and values that T queries see: [1, kv_heads, n, head_dim] each; the last T are the queries'
/// own.
pub struct View {
    pub keys: Array,
    pub values: Array,
    /// n
    pub len: usize,
}

impl Cache {
    pub fn new(kv_heads: usize, head_dim: usize, window: Option<usize>) -> Result<Self> {
        Ok(Self {
            arrays: None,
            kv_heads: size(kv_heads)?,
            head_dim: size(head_dim)?,
            extent: Extent::new(window),
            room: 0,
            wanted: 0,
        })
    }

    /// Positions that a query sees, including itself.
    pub fn window(&self) -> usize {
        self.extent.window()
    }

    /// Appends [1, kv_heads, T, head_dim].
    pub fn append(&mut self, keys: &Array, values: &Array) -> Result<()> {
        let count = keys.shape()[2] as usize;
        let held = self.extent.held();
        if held + count > self.room {
            let drop = self.extent.spare();
            self.move_to(drop, held - drop + count, keys.dtype())?;
        }
        let held = self.extent.held();
        let (at, end) = (self.start(held)?, self.end(held + count)?);
        let [old_keys, old_values] = self.arrays.take().expect("room was just made");
        self.arrays =
            Some([mlx(|| replace(&old_keys, keys, &at, &end))?, mlx(|| replace(&old_values, values, &at, &end))?]);
        self.extent.append(count);
        Ok(())
    }

    /// The keys and values that the last `count` positions see.
    pub fn view(&self, count: usize) -> Result<View> {
        let held = self.extent.held();
        let len = held.min(self.window().saturating_add(count - 1));
        let (at, end) = (self.start(held - len)?, self.end(held)?);
        let part = |x: &Array| mlx(|| slice(x, &at, &end));
        let [keys, values] = self.arrays.as_ref().expect("the queries' own positions were appended");
        Ok(View { keys: part(keys)?, values: part(values)?, len })
    }

    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.arrays.iter().flatten()
    }

    fn start(&self, at: usize) -> Result<[i32; 4]> {
        Ok([0, 0, size(at)?, 0])
    }

    fn end(&self, at: usize) -> Result<[i32; 4]> {
        Ok([1, self.kv_heads, size(at)?, self.head_dim])
    }

    /// Moves the held positions, without the first `drop`, to arrays with room for `len`.
    fn move_to(&mut self, drop: usize, len: usize, dtype: Dtype) -> Result<()> {
        // One position always stays free. MLX does not copy an append that fills the whole array:
        // the strided append replaces the array, which makes attention many times slower.
        let len = len.max(self.wanted) + 1;
        let room = self.extent.room(len, STEP);
        let kept = self.extent.held() - drop;
        let shape = [1, self.kv_heads, size(room - kept)?, self.head_dim];
        let (at, end) = (self.start(drop)?, self.end(self.extent.held())?);
        let moved = |old: Option<&Array>| {
            let empty = mlx(|| zeros_dtype(&shape, dtype))?;
            match old.filter(|_| kept > 0) {
                Some(old) => mlx(|| concatenate(&[slice(old, &at, &end)?, empty], 2)),
                None => Ok(empty),
            }
        };
        let old = self.arrays.take();
        let [keys, values] = [0, 1].map(|which| moved(old.as_ref().map(|arrays| &arrays[which])));
        self.arrays = Some([keys?, values?]);
        self.room = room;
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
        // The first keys determine the dtype, so memory is allocated with them.
        self.wanted = len.min(self.window().saturating_add(STEP));
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.arrays().map(|x| x.nbytes() as u64).sum()
    }
}

#[cfg(test)]
mod tests;
