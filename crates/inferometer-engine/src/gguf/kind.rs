//! Types of stored tensors.
//!
//! Source: `enum ggml_type` in `ggml.h` and the block structures in `ggml-common.h`.

use std::fmt;

use candle_core::quantized::GgmlDType;

/// Makes the enum and its table: number in files, name, values and bytes of a block, type of
/// candle.
macro_rules! types {
    ($($variant:ident $id:literal $name:literal $values:literal $bytes:literal $candle:expr,)*) => {
        /// How the numbers of a tensor are stored.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types)]
        pub enum GgmlType {
            $($variant,)*
        }

        impl GgmlType {
            const ALL: &[GgmlType] = &[$(GgmlType::$variant,)*];

            /// Number in files, name, values of a block, bytes of a block, type of candle.
            const fn row(self) -> (u32, &'static str, usize, usize, Option<GgmlDType>) {
                match self {
                    $(GgmlType::$variant => ($id, $name, $values, $bytes, $candle),)*
                }
            }
        }
    };
}

types! {
    F32 0 "F32" 1 4 Some(GgmlDType::F32),
    F16 1 "F16" 1 2 Some(GgmlDType::F16),
    Q4_0 2 "Q4_0" 32 18 Some(GgmlDType::Q4_0),
    Q4_1 3 "Q4_1" 32 20 Some(GgmlDType::Q4_1),
    Q5_0 6 "Q5_0" 32 22 Some(GgmlDType::Q5_0),
    Q5_1 7 "Q5_1" 32 24 Some(GgmlDType::Q5_1),
    Q8_0 8 "Q8_0" 32 34 Some(GgmlDType::Q8_0),
    Q8_1 9 "Q8_1" 32 36 Some(GgmlDType::Q8_1),
    Q2K 10 "Q2_K" 256 84 Some(GgmlDType::Q2K),
    Q3K 11 "Q3_K" 256 110 Some(GgmlDType::Q3K),
    Q4K 12 "Q4_K" 256 144 Some(GgmlDType::Q4K),
    Q5K 13 "Q5_K" 256 176 Some(GgmlDType::Q5K),
    Q6K 14 "Q6_K" 256 210 Some(GgmlDType::Q6K),
    Q8K 15 "Q8_K" 256 292 Some(GgmlDType::Q8K),
    IQ2_XXS 16 "IQ2_XXS" 256 66 None,
    IQ2_XS 17 "IQ2_XS" 256 74 None,
    IQ3_XXS 18 "IQ3_XXS" 256 98 None,
    IQ1_S 19 "IQ1_S" 256 50 None,
    IQ4_NL 20 "IQ4_NL" 32 18 None,
    IQ3_S 21 "IQ3_S" 256 110 None,
    IQ2_S 22 "IQ2_S" 256 82 None,
    IQ4_XS 23 "IQ4_XS" 256 136 None,
    I8 24 "I8" 1 1 None,
    I16 25 "I16" 1 2 None,
    I32 26 "I32" 1 4 None,
    I64 27 "I64" 1 8 None,
    F64 28 "F64" 1 8 None,
    IQ1_M 29 "IQ1_M" 256 56 None,
    BF16 30 "BF16" 1 2 Some(GgmlDType::BF16),
    TQ1_0 34 "TQ1_0" 256 54 None,
    TQ2_0 35 "TQ2_0" 256 66 None,
    MXFP4 39 "MXFP4" 32 17 None,
    NVFP4 40 "NVFP4" 64 36 None,
    Q1_0 41 "Q1_0" 128 18 None,
    Q2_0 42 "Q2_0" 64 18 None,
}

impl GgmlType {
    /// The type of that number in files.
    #[must_use]
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.id() == id)
    }

    /// Its number in files.
    #[must_use]
    pub const fn id(self) -> u32 {
        self.row().0
    }

    /// Values in a block, the smallest unit that is stored.
    #[must_use]
    pub const fn block_values(self) -> usize {
        self.row().2
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        self.row().3
    }

    /// The type of candle with the same blocks.
    #[must_use]
    pub const fn candle(self) -> Option<GgmlDType> {
        self.row().4
    }

    /// Names of the types that candle has, for messages.
    #[must_use]
    pub fn supported() -> String {
        let with = Self::ALL.iter().filter(|kind| kind.candle().is_some());
        with.map(|kind| kind.to_string()).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_those_of_candle() {
        for kind in GgmlType::ALL {
            assert_eq!(GgmlType::from_id(kind.id()), Some(*kind));
            let Some(candle) = kind.candle() else { continue };
            assert_eq!((candle.block_size(), candle.type_size()), (kind.block_values(), kind.block_bytes()), "{kind}");
            assert_eq!(format!("{candle:?}"), format!("{kind:?}"));
        }
        assert_eq!(GgmlType::from_id(4), None);
        assert!(GgmlType::supported().contains("Q4_K, Q5_K") && !GgmlType::supported().contains("MXFP4"));
    }
}
