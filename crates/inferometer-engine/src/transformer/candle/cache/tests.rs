use super::*;
use proptest::prelude::*;

const HEADS: usize = 2;
const DIM: usize = 4;

/// Keys [HEADS, count, DIM] with numbers that encode position and head; the values are their
/// negatives.
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
    /// After any order of appends and truncations, the cache holds the same positions as a plain
    /// list.
    #[test]
    fn holds_what_a_list_would(steps in prop::collection::vec((1usize..300, 0usize..700, any::<bool>()), 1..8)) {
        let mut cache = Cache::new(HEADS, DIM, None, Element::F32);
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
    let mut cache = Cache::new(HEADS, DIM, None, Element::F32);
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

/// After any appends, and truncations that the cache allows, attention sees the last positions of a
/// plain list.
#[test]
fn a_window_keeps_the_last_of_a_list() {
    let window = 7;
    let mut cache = Cache::new(HEADS, DIM, Some(window), Element::F32);
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

#[test]
fn f16_takes_half_the_memory_and_keeps_what_it_can_hold() {
    let mut cache = Cache::new(1, DIM, None, Element::F16);
    let mut want = Vec::new();
    for first in [0, 10, STEP] {
        let data: Vec<f32> = (0..10 * DIM).map(|i| (first + i) as f32 * 0.25).collect();
        let keys = Tensor::from_vec(data.clone(), (1, 10, DIM), &Device::Cpu).unwrap();
        cache.append(&keys, &keys).unwrap();
        want.extend(data);
    }
    let (held, _) = cache.tensors().unwrap();
    let held = held.narrow(1, 0, cache.held()).and_then(|held| held.to_dtype(DType::F32)).unwrap();
    assert_eq!(held.flatten_all().unwrap().to_vec1::<f32>().unwrap(), want);
    assert_eq!(cache.bytes(), (2 * STEP * DIM * 2) as u64);
}

/// What is dropped or replaced is counted no longer.
#[test]
fn a_total_counts_what_its_caches_hold() {
    let total = Total::default();
    let make = |element| Cache::new(HEADS, DIM, None, element).counted_in(&total);
    let (mut wide, mut narrow) = (make(Element::F32), make(Element::F16));
    assert_eq!(total.bytes(), 0);
    for count in [1, STEP, 3 * STEP] {
        for cache in [&mut wide, &mut narrow] {
            let (keys, values) = entries(cache.seen(), count);
            cache.append(&keys, &values).unwrap();
        }
        assert_eq!(wide.bytes(), 2 * narrow.bytes());
        assert_eq!(total.bytes(), wide.bytes() + narrow.bytes());
    }
    drop(wide);
    assert_eq!(total.bytes(), narrow.bytes());
    drop(narrow);
    assert_eq!(total.bytes(), 0);
}
