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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADS: usize = 2;
    const DIM: usize = 4;

    /// Keys [HEADS, count, DIM] whose values name position and head; the values are their negatives.
    fn entries(from: usize, count: usize) -> (Tensor, Tensor) {
        let mut data = Vec::new();
        for head in 0..HEADS {
            for at in from..from + count {
                data.extend((0..DIM).map(|i| (head * 1_000_000 + at * 10 + i) as f32));
            }
        }
        let keys = Tensor::from_vec(data, (HEADS, count, DIM), &Device::Cpu).unwrap();
        (keys.clone(), keys.neg().unwrap())
    }

    fn content(cache: &Cache) -> (Vec<f32>, Vec<f32>) {
        let read = |t: &Tensor| t.narrow(1, 0, cache.held()).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        cache.tensors().map_or_else(Default::default, |(k, v)| (read(k), read(v)))
    }

    proptest! {
        /// Against a plain list of positions: whatever the order of appends and truncations, what is held is what a list
        /// would hold.
        #[test]
        fn holds_what_a_list_would(steps in prop::collection::vec((1usize..300, 0usize..700, any::<bool>()), 1..8)) {
            let mut cache = Cache::new(HEADS, DIM, None);
            let mut list: Vec<usize> = Vec::new();
            let mut next = 0;
            for (count, keep, cut) in steps {
                let (keys, values) = entries(next, count);
                cache.append(&keys, &values).unwrap();
                list.extend(next..next + count);
                next += count;
                if cut {
                    cache.truncate(keep);
                    list.truncate(keep);
                }
            }
            prop_assert_eq!(cache.len(), list.len());
            let want: Vec<f32> = (0..HEADS)
                .flat_map(|h| list.iter().flat_map(move |at| (0..DIM).map(move |i| (h * 1_000_000 + at * 10 + i) as f32)))
                .collect();
            let (keys, values) = content(&cache);
            prop_assert_eq!(&keys, &want);
            prop_assert_eq!(values, want.iter().map(|x| -x).collect::<Vec<_>>());
        }
    }

    #[test]
    fn room_grows_in_steps_and_an_append_inside_it_moves_nothing() {
        let mut cache = Cache::new(HEADS, DIM, None);
        assert_eq!((cache.len(), cache.bytes()), (0, 0));
        let (keys, values) = entries(0, 3);
        cache.append(&keys, &values).unwrap();
        assert_eq!(cache.room(), STEP);
        assert_eq!(cache.bytes(), (2 * HEADS * STEP * DIM * 4) as u64);
        let before = cache.tensors().unwrap().0.id();
        let (keys, values) = entries(3, STEP - 3);
        cache.append(&keys, &values).unwrap();
        assert_eq!(cache.tensors().unwrap().0.id(), before);
        let (keys, values) = entries(STEP, 1);
        cache.append(&keys, &values).unwrap();
        assert_eq!((cache.room(), cache.len()), (2 * STEP, STEP + 1));
        cache.truncate(0);
        assert_eq!((cache.room(), cache.len()), (2 * STEP, 0));
    }

    /// Whatever came and went, what attention looks at are the last positions of a plain list, as long as only that is
    /// taken back which the cache says it can.
    #[test]
    fn a_window_keeps_the_last_of_a_list() {
        let window = 7;
        let mut cache = Cache::new(HEADS, DIM, Some(window));
        let mut list: Vec<usize> = Vec::new();
        let mut next = 0;
        for (count, back) in [(3, 1), (300, 0), (1, 1), (600, 1), (250, 2), (1, 1), (5, 5), (700, 1), (3, 0), (2, 2)] {
            let (keys, values) = entries(next, count);
            cache.append(&keys, &values).unwrap();
            list.extend(next..next + count);
            next += count;
            let keep = list.len() - back;
            assert!(back > 1 || cache.can_truncate(keep), "the last one can always be taken back");
            if cache.can_truncate(keep) {
                cache.truncate(keep);
                list.truncate(keep);
            }
            assert_eq!((cache.seen(), cache.len()), (list.len(), list.len().min(window)));
            let (keys, _) = content(&cache);
            let held = keys.len() / HEADS / DIM;
            let first: Vec<usize> = keys[..held * DIM].chunks(DIM).map(|row| row[0] as usize / 10).collect();
            assert_eq!(first[held - cache.len()..], list[list.len() - cache.len()..]);
        }
        assert!(!cache.can_truncate(20) && cache.can_truncate(0));
        assert!(cache.bytes() <= (2 * HEADS * DIM * 4 * (window + 700 + 2 * STEP)) as u64, "it does not grow for ever");
        cache.truncate(0);
        assert_eq!((cache.seen(), cache.len()), (0, 0));
    }
}
