mod folders;

use proptest::prelude::*;
use safetensors::Dtype;

use super::*;

fn floats(name: &str, shape: [usize; 2], values: &[f32]) -> HostTensor {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    HostTensor { name: name.to_owned(), shape: shape.to_vec(), dtype: Dtype::F32, bytes }
}

#[test]
fn numbers_are_taken_from_the_low_bits_first_and_each_group_has_its_scale() {
    // Two rows of one group of 32. The first word of the first row has the numbers 8, 7, .. 1.
    let mut packed = 0x1234_5678u32.to_le_bytes().to_vec();
    packed.resize(16, 0);
    packed.extend([0xff; 16]);
    let four = QuantizedTensor {
        name: "m.weight".to_owned(),
        shape: [2, 32],
        bits: 4,
        group_size: 32,
        packed: packed.clone(),
        scales: floats("m.scales", [2, 1], &[0.5, -2.0]),
        biases: floats("m.biases", [2, 1], &[1.0, 3.0]),
    };
    let values = Weight::Quantized(four.clone()).to_f32();
    assert_eq!(values[..9], [5.0, 4.5, 4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0]);
    assert_eq!((values.len(), &values[32..]), (64, &[-27.0; 32][..]));

    let eight = QuantizedTensor { shape: [1, 32], bits: 8, ..four };
    let values = eight.to_f32();
    assert_eq!(values[..5], [61.0, 44.0, 27.0, 10.0, 1.0]);
    assert_eq!((values.len(), values[16]), (32, 128.5));
}

/// One row, packed with the same scale and bias for every group.
fn row(values: &[f32], affine: Affine, quantization: Quantization) -> QuantizedTensor {
    let (bits, group_size) = (quantization.bits(), quantization.group_size());
    let groups = quantization.groups(values.len());
    let mut packed = vec![0; quantization.words(values.len()) * 4];
    affine.pack(values, bits, &mut packed);
    QuantizedTensor {
        name: "m.weight".to_owned(),
        shape: [1, values.len()],
        bits,
        group_size,
        packed,
        scales: floats("m.scales", [1, groups], &vec![affine.scale; groups]),
        biases: floats("m.biases", [1, groups], &vec![affine.bias; groups]),
    }
}

fn any_quantization() -> impl Strategy<Value = Quantization> {
    let sizes = (prop::sample::select(&Quantization::BITS[..]), prop::sample::select(&Quantization::GROUP_SIZES[..]));
    sizes.prop_map(|(bits, group_size)| Quantization::new(bits, group_size).unwrap())
}

proptest! {
    #[test]
    fn numbers_come_back_as_they_were_packed(
        quantization in any_quantization(),
        numbers in prop::collection::vec(any::<u8>(), 128 * 3),
    ) {
        let top = (1u32 << quantization.bits()) - 1;
        let values: Vec<f32> = numbers.iter().map(|n| (u32::from(*n) & top) as f32).collect();
        let packed = row(&values, Affine { scale: 1.0, bias: 0.0 }, quantization);
        prop_assert_eq!(packed.to_f32(), values);
    }

    #[test]
    fn quantized_values_are_within_a_step_and_the_farther_end_is_met(
        quantization in any_quantization(),
        values in prop::collection::vec(-1e3f32..1e3, 128),
        offset in prop::sample::select(vec![0.0f32, 3e3, -3e3]),
    ) {
        let values: Vec<f32> = values.iter().map(|x| x + offset).take(quantization.group_size()).collect();
        let affine = Affine::of(&values, quantization.bits());
        let back = row(&values, affine, quantization).to_f32();
        let farthest = values.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
        for (x, back) in values.iter().zip(back) {
            prop_assert!((x - back).abs() <= affine.scale.abs() * 1.001, "{x} became {back}, steps of {}", affine.scale);
            prop_assert!(*x != farthest || back == farthest, "{x} became {back}");
        }
    }
}

#[test]
fn groups_without_a_range_are_kept() {
    for value in [0.0, 1.5, -2e-3] {
        let affine = Affine::of(&[value; 32], 4);
        let back = row(&[value; 32], affine, Quantization::new(4, 32).unwrap()).to_f32();
        assert!(affine.scale != 0.0 && back == [value; 32], "{value}: {back:?}");
    }
}
