use super::*;
use candle_core::{Device, Tensor};

const KINDS: [GgmlDType; 8] = [
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

fn wave(count: usize, f: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * f).sin() * (1.0 + (i % 7) as f32) + 0.3).collect()
}

fn quantized(kind: GgmlDType, columns: usize, inputs: usize) -> QTensor {
    let plain = Tensor::from_vec(wave(columns * inputs, 0.37), (columns, inputs), &Device::Cpu).unwrap();
    QTensor::quantize(&plain, kind).unwrap()
}

/// Each type with each set of instructions of this machine that multiplies it.
fn cases() -> impl Iterator<Item = (GgmlDType, Instructions)> {
    let bits = |kind| with_kind!(kind, K => K::BITS, else unreachable!());
    KINDS.into_iter().flat_map(move |kind| {
        Instructions::found().into_iter().filter(move |with| with.exact(bits(kind))).map(move |with| (kind, with))
    })
}

/// Compared with candle's dequantized weights and the same 8-bit inputs multiplied in f64.
#[test]
fn a_product_is_that_of_the_rounded_values() {
    for (kind, with) in cases() {
        // Few and many rows, whole and partial groups of rows, one and several threads, columns
        // that do not fill a tile, inputs of several chunks.
        for (columns, blocks, rows) in
            [(16, 1, 1), (48, 3, 3), (64, 32, 1), (128, 16, 8), (32, 2, 21), (16, 2, 150), (21, 2, 1), (21, 2, 11)]
        {
            let inputs = blocks * kind.block_size();
            let stored = quantized(kind, columns, inputs);
            let weights = stored.dequantize(&Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
            let packed = Packed::with(with, kind, inputs, &[&stored.data().unwrap()], &mut |_| {}).unwrap();
            let x = wave(rows * inputs, 0.73);
            let out = packed.product(&x);
            for (row, (x, out)) in x.chunks(inputs).zip(out.chunks(columns)).enumerate() {
                let rounded: Vec<f64> = x.chunks(BLOCK).flat_map(rounded).collect();
                for (column, (weights, got)) in weights.iter().zip(out).enumerate() {
                    let products = rounded.iter().zip(weights).map(|(x, w)| x * f64::from(*w));
                    let (want, size) = products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()));
                    assert!(
                        (f64::from(*got) - want).abs() < 1e-5 * size,
                        "{kind:?}, {}, {rows} rows: {row}, {column}: {got} for {want}",
                        with.name()
                    );
                }
                assert_eq!(packed.product(x), out, "{kind:?}: a row alone gives the same as among others");
            }
        }
    }
}

fn rounded(block: &[f32]) -> Vec<f64> {
    let scale = block.iter().fold(0f32, |most, x| most.max(x.abs())) / 127.0;
    block.iter().map(|x| f64::from((x / scale).round() * scale)).collect()
}

#[test]
fn rows_are_those_that_candle_dequantizes() {
    for (kind, with) in cases() {
        let inputs = 2 * kind.block_size();
        let stored = quantized(kind, 40, inputs);
        let weights = stored.dequantize(&Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
        let packed = Packed::with(with, kind, inputs, &[&stored.data().unwrap()], &mut |_| {}).unwrap();
        let got = packed.rows_at(&[33, 0, 39]);
        for (got, want) in got.iter().zip([&weights[33], &weights[0], &weights[39]].into_iter().flatten()) {
            assert!((got - want).abs() <= 1e-6 * want.abs().max(1.0), "{kind:?}: {got} for {want}");
        }
    }
}

#[test]
fn weights_keep_the_bits_of_the_file() {
    for kind in KINDS.into_iter().filter(|kind| fits(*kind, 32, 512)) {
        let stored = quantized(kind, 32, 512);
        let packed = Packed::new(&stored).unwrap();
        let bytes = stored.storage_size_in_bytes() as u64;
        // Scales of 6 bits get 8: an eighth of a bit for each weight.
        let more = if matches!(kind, GgmlDType::Q4K | GgmlDType::Q5K) { 32 * 512 / 64 } else { 0 };
        assert_eq!(packed.bytes(), bytes + more, "{kind:?}");
    }
}

/// Also parts that do not fill tiles.
#[test]
fn stacked_parts_are_one_matrix() {
    let kind = GgmlDType::Q4_1;
    if !fits(kind, 1, 64) {
        return;
    }
    let parts = [quantized(kind, 5, 64), quantized(kind, 40, 64), quantized(kind, 3, 64)];
    let data: Vec<_> = parts.iter().map(|part| part.data().unwrap()).collect();
    let stack = Packed::stacked(kind, 64, &data.iter().map(|data| &**data).collect::<Vec<_>>(), &mut |_| {}).unwrap();
    let x = wave(64, 0.73);
    let each: Vec<f32> = parts.iter().flat_map(|part| Packed::new(part).unwrap().product(&x)).collect();
    assert_eq!(stack.product(&x), each);
}

#[test]
fn inputs_of_zero_give_zero() {
    for (kind, with) in cases() {
        let stored = quantized(kind, 16, 256);
        let packed = Packed::with(with, kind, 256, &[&stored.data().unwrap()], &mut |_| {}).unwrap();
        assert_eq!(packed.product(&[0.0; 256]), [0.0; 16]);
    }
}

#[test]
fn damaged_bytes_are_refused_or_found() {
    for kind in KINDS.into_iter().filter(|kind| fits(*kind, 16, 256)) {
        let stored = quantized(kind, 16, 256);
        let mut bytes = stored.data().unwrap().into_owned();
        let error = |bytes: &[u8]| Packed::from_bytes(kind, 16, 256, bytes).unwrap_err();
        assert!(error(&bytes[..bytes.len() - 1]).message.contains("whole rows"));
        assert!(error(&[]).message.contains("whole rows"));
        let row = bytes.len() / 16;
        assert!(error(&bytes[row..]).message.contains("15 rows"));
        // Each f16 is at the front or at the end of a block.
        let at = if kind == GgmlDType::Q6K { kind.type_size() - 2 } else { 0 };
        bytes[row * 3 + at..][..2].copy_from_slice(&half::f16::INFINITY.to_le_bytes());
        let damaged = Packed::from_bytes(kind, 16, 256, &bytes).unwrap();
        assert!(Packed::new(&stored).unwrap().is_finite() && !damaged.is_finite(), "{kind:?}");
        let out = damaged.product(&wave(256, 0.73));
        assert!(out.iter().enumerate().all(|(column, x)| x.is_finite() == (column != 3)), "{kind:?}");
        assert!(damaged.rows_at(&[3]).iter().any(|x| !x.is_finite()));
    }
}

/// The caller gives back the file's pages as they are packed: it must hear of every byte once, and
/// before the end.
#[test]
fn the_caller_hears_of_the_bytes_that_are_read() {
    let kind = GgmlDType::Q8_0;
    if instructions(kind).is_none() {
        return;
    }
    let row = vec![0_u8; 1024 / kind.block_size() * kind.type_size()];
    let stored = row.repeat(2 * AT_ONCE / row.len() + 100);
    let mut heard = Vec::new();
    Packed::stacked(kind, 1024, &[&stored], &mut |bytes| heard.push(bytes)).unwrap();
    assert_eq!(heard.iter().sum::<usize>(), stored.len());
    assert!(heard.len() > 2 && heard.iter().all(|bytes| *bytes <= AT_ONCE), "{heard:?}");
}
