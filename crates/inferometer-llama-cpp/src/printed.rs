//! Facts that llama.cpp tells by printing them only, when it loads a model. What it does not print
//! in the expected form is not known.

use std::collections::BTreeMap;

/// Sizes of buffers by purpose, such as `CPU KV buffer size = 45.00 MiB`. A purpose of which
/// nothing was printed is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Buffers {
    pub weights: Option<u64>,
    /// Keys and values, and the state of recurrent layers.
    pub kv_cache: Option<u64>,
    /// Activations and logits.
    pub work: Option<u64>,
}

impl Buffers {
    /// Adds up the sizes in what llama.cpp printed.
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        for (purpose, bytes) in lines.into_iter().filter_map(size) {
            let sum = match purpose {
                "model" => &mut all.weights,
                "KV" | "RS" => &mut all.kv_cache,
                "compute" | "output" => &mut all.work,
                _ => continue,
            };
            *sum = Some(sum.unwrap_or(0) + bytes);
        }
        all
    }

    /// All bytes, if every purpose is known.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        Some(self.weights? + self.kv_cache? + self.work?)
    }
}

/// The last word before `buffer size`, and the bytes.
fn size(line: &str) -> Option<(&str, u64)> {
    let (before, after) = line.split_once(" buffer size = ")?;
    let mib: f64 = after.trim().strip_suffix(" MiB")?.trim().parse().ok()?;
    let bytes = mib * 1024.0 * 1024.0;
    (bytes.is_finite() && bytes >= 0.0).then_some((before.split_whitespace().last()?, bytes as u64))
}

/// How many tensors have which type, from lines such as `- type q4_1:  210 tensors`.
pub fn tensor_types<'a>(lines: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, u64> {
    let of = |line: &'a str| {
        let (name, count) = line.trim().strip_prefix("- type ")?.split_once(':')?;
        Some((name.trim().to_owned(), count.trim().strip_suffix(" tensors")?.trim().parse().ok()?))
    };
    lines.into_iter().filter_map(of).collect()
}

/// The type of most matrices: vectors stay in f32.
#[must_use]
pub fn weight_format(types: &BTreeMap<String, u64>) -> Option<String> {
    let most = |(name, count): &(&String, &u64)| (*name != "f32", **count);
    types.iter().max_by_key(most).map(|(name, _)| name.clone())
}

/// Whether flash attention is used, from `flash_attn = auto` and how llama.cpp decided.
pub fn flash_attention<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<bool> {
    let mut used = None;
    for line in lines.into_iter().map(str::trim) {
        if let Some(("flash_attn", value)) = line.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            used = match value {
                "enabled" => Some(true),
                "disabled" => Some(false),
                _ => used,
            };
        } else if let Some(decided) = line.strip_prefix("Flash Attention ") {
            used = Some(decided == "enabled");
        }
    }
    used
}

/// Layers on a GPU and all of them, from `offloaded 25/31 layers to GPU`.
pub fn offloaded<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<(u32, u32)> {
    let of = |line: &str| {
        let (on, all) = line.trim().strip_prefix("offloaded ")?.split_once(' ')?.0.split_once('/')?;
        Some((on.parse().ok()?, all.parse().ok()?))
    };
    lines.into_iter().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn sizes_add_up_by_purpose() {
        let printed = [
            "  CPU_Mapped model buffer size =    90.50 MiB",
            "CUDA0 model buffer size = 10.00 MiB",
            "       CPU KV buffer size =   180.00 MiB",
            "size =  180.00 MiB (  8192 cells,  30 layers,  1/1 seqs), K (f16):   90.00 MiB, V (f16):   90.00 MiB",
            "       CPU  output buffer size =     0.25 MiB",
            "       CPU compute buffer size =    98.25 MiB",
            "n_ctx = 8192",
        ];
        let found = Buffers::of(printed);
        let (weights, kv_cache, work) = (100 * MIB + MIB / 2, 180 * MIB, 98 * MIB + MIB / 2);
        assert_eq!(found, Buffers { weights: Some(weights), kv_cache: Some(kv_cache), work: Some(work) });
        assert_eq!(found.total(), Some(weights + kv_cache + work));
    }

    #[test]
    fn what_is_not_printed_is_not_known() {
        let odd = [
            "CPU KV buffer size = many MiB",
            "KV buffer size = -1 MiB",
            "CPU KV buffer size = 1 GiB",
            " buffer size = 1 MiB",
        ];
        assert_eq!(Buffers::of(odd), Buffers::default());
        assert_eq!(Buffers::of(["CPU KV buffer size = 1.00 MiB"]).total(), None);
    }

    #[test]
    fn the_weights_have_the_type_of_most_matrices() {
        let printed =
            ["- type  f32:   61 tensors", "- type q4_1:  210 tensors", "- type q8_0:    1 tensors", "- kv 0: x"];
        let types = tensor_types(printed);
        assert_eq!(
            types.iter().map(|(name, n)| (name.as_str(), *n)).collect::<Vec<_>>(),
            [("f32", 61), ("q4_1", 210), ("q8_0", 1)]
        );
        assert_eq!(weight_format(&types).as_deref(), Some("q4_1"));
        assert_eq!(weight_format(&tensor_types(["- type f32: 9 tensors"])).as_deref(), Some("f32"));
        assert_eq!(weight_format(&BTreeMap::new()), None);
    }

    #[test]
    fn what_was_decided_counts_not_what_was_asked() {
        assert_eq!(flash_attention(["flash_attn            = auto", "Flash Attention enabled"]), Some(true));
        assert_eq!(
            flash_attention(["flash_attn = auto", "Flash Attention not supported, set to disabled"]),
            Some(false)
        );
        assert_eq!(flash_attention(["flash_attn = enabled"]), Some(true));
        assert_eq!(flash_attention(["flash_attn = disabled"]), Some(false));
        assert_eq!(flash_attention(["flash_attn = auto", "n_ctx = 1"]), None);
        assert_eq!(offloaded(["offloaded 25/31 layers to GPU"]), Some((25, 31)));
        assert_eq!(offloaded(["offloading 25 layers"]), None);
    }
}
