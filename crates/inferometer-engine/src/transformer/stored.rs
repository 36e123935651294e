//! The quantization of a folder's matrices, from `config.json`.
//!
//! Source: `load_model` of the `mlx_lm` library: `quantization` has `group_size` and `bits` (and
//! `mode`) for all matrices. Under the name of a single matrix it has that matrix's own
//! `group_size` and `bits`, or `false` if it is not quantized. `mlx_lm.convert` does not quantize
//! matrices whose rows the group size does not divide, and does not list them.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use inferometer_protocol::Quantization;

/// Names of a layer's matrices.
const IN_LAYER: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// How the matrices of a folder are quantized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    all: Quantization,
    /// By the name of the matrix without `.weight`, such as `model.layers.0.mlp.up_proj`.
    exceptions: BTreeMap<String, Option<Quantization>>,
}

impl Stored {
    /// Reads the object under `key` in `config.json`, for a model of `layers` layers.
    ///
    /// # Errors
    /// A message that names the key.
    pub fn from_json(key: &str, json: &Json, layers: usize) -> Result<Self, String> {
        let Json::Object(object) = json else {
            return Err(format!("{key} is no object with group_size and bits"));
        };
        if let Some(method) = object.get("quant_method") {
            return Err(format!(
                "{key}.quant_method = {method}: of stored quantizations this engine reads MLX's affine format alone (take the \
                 f32, f16 or bf16 model, or convert it with mlx_lm.convert)"
            ));
        }
        let all = quantization(key, object)?;
        let mut exceptions = BTreeMap::new();
        for (name, value) in object {
            if matches!(name.as_str(), "group_size" | "bits" | "mode") {
                continue;
            }
            let key = format!("{key}.{name:?}");
            if !is_matrix(name, layers) {
                return Err(format!("{key} is neither a setting that this engine knows nor a matrix of this model"));
            }
            let own = match value {
                Json::Bool(quantized) => quantized.then_some(all),
                Json::Object(object) => Some(quantization(&key, object)?),
                _ => return Err(format!("{key} is neither true, false nor an object with group_size and bits")),
            };
            exceptions.insert(name.clone(), own);
        }
        Ok(Self { all, exceptions })
    }

    /// How the matrix `name` with rows of `columns` values is quantized; `None`: it is not.
    #[must_use]
    pub fn of(&self, name: &str, columns: usize) -> Option<Quantization> {
        let usual = || columns.is_multiple_of(self.all.group_size()).then_some(self.all);
        self.exceptions.get(name).copied().unwrap_or_else(usual)
    }
}

fn is_matrix(name: &str, layers: usize) -> bool {
    if matches!(name, "model.embed_tokens" | "lm_head") {
        return true;
    }
    let in_layer = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    in_layer.is_some_and(|(layer, part)| {
        layer.parse::<usize>().is_ok_and(|at| at < layers && at.to_string() == layer) && IN_LAYER.contains(&part)
    })
}

/// `group_size` and `bits` of an object, both required, and `mode`.
fn quantization(key: &str, object: &Map<String, Json>) -> Result<Quantization, String> {
    match object.get("mode").map(Json::as_str) {
        None | Some(Some("affine")) => {}
        Some(_) => {
            let mode = &object["mode"];
            return Err(format!("{key}.mode = {mode} is not supported by this engine; it reads \"affine\""));
        }
    }
    let one_of = |name: &str, known: &[u64]| {
        let list = known.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        match object.get(name) {
            None => Err(format!("{key}.{name} is absent; it must be one of {list}")),
            Some(value) => value
                .as_u64()
                .filter(|n| known.contains(n))
                .ok_or_else(|| format!("{key}.{name} = {value} is not supported by this engine; it reads {list}")),
        }
    };
    let group_size = one_of("group_size", &Quantization::GROUP_SIZES.map(|n| n as u64))? as usize;
    let bits = one_of("bits", &Quantization::BITS.map(u64::from))? as u32;
    Ok(Quantization::new(bits, group_size).expect("both were just found among those it has"))
}
