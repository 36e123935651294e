//! The quantization of a folder's matrices, from `config.json`.
//!
//! Source: `load_model` of the `mlx_lm` library: `quantization` has `group_size` and `bits` (and
//! `mode`) for all matrices that have scales. Under the name of a single matrix it has that
//! matrix's own `group_size` and `bits`, or `false` if it is not quantized. `mlx_lm.convert` leaves
//! matrices out whose rows the group size does not divide, and does not list them.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::mxfp4;
use super::plan::{FeedForward, Layer, Plan};
use super::weights::Format;
use inferometer_protocol::Quantization;

/// How the matrices of a folder are quantized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    all: Format,
    /// By the name of the matrix without `.weight`, such as `model.layers.0.mlp.up_proj`.
    exceptions: BTreeMap<String, Format>,
}

impl Stored {
    /// Reads the object under `key` in `config.json`, for the model of that plan.
    ///
    /// # Errors
    /// A message that names the key.
    pub fn from_json(key: &str, json: &Json, plan: &Plan) -> Result<Option<Self>, String> {
        let Json::Object(object) = json else {
            return Err(format!("{key} is no object with group_size and bits"));
        };
        match object.get("quant_method") {
            None => {}
            // Only the experts are quantized, and their tensors say so by their names.
            Some(method) if method == "mxfp4" && plan.layers.iter().any(Layer::has_alternating_experts) => {
                return Ok(None);
            }
            Some(method) => {
                return Err(format!(
                    "{key}.quant_method = {method}: of stored quantizations this engine reads MLX's formats alone (take                      the f32, f16 or bf16 model, or convert it with mlx_lm.convert)"
                ));
            }
        }
        let all = quantization(key, object)?;
        let mut exceptions = BTreeMap::new();
        for (name, value) in object {
            if matches!(name.as_str(), "group_size" | "bits" | "mode") {
                continue;
            }
            let key = format!("{key}.{name:?}");
            if !is_matrix(name, plan) {
                return Err(format!("{key} is neither a setting that this engine knows nor a matrix of this model"));
            }
            let own = match value {
                Json::Bool(true) => all,
                Json::Bool(false) => Format::Plain,
                Json::Object(object) => quantization(&key, object)?,
                _ => return Err(format!("{key} is neither true, false nor an object with group_size and bits")),
            };
            exceptions.insert(name.clone(), own);
        }
        Ok(Some(Self { all, exceptions }))
    }

    /// How the matrix `name` with rows of `columns` values is quantized, if it is not named itself:
    /// like all if it is `packed` and groups fill its rows.
    #[must_use]
    pub fn of(&self, name: &str, columns: usize, packed: bool) -> Format {
        let group = match self.all {
            Format::Affine(quantization) => quantization.group_size(),
            _ => mxfp4::BLOCK,
        };
        let usual = if packed && columns.is_multiple_of(group) { self.all } else { Format::Plain };
        self.exceptions.get(name).copied().unwrap_or(usual)
    }
}

fn is_matrix(name: &str, plan: &Plan) -> bool {
    let of_experts = |feed_forward: &FeedForward| {
        let FeedForward::Experts(experts) = feed_forward else { return false };
        let prefix = [Some(&experts.stacks.stacked), experts.stacks.single.as_ref()].into_iter().flatten();
        prefix.into_iter().any(|prefix| {
            name.strip_prefix(prefix.as_str())
                .is_some_and(|rest| ["gate_proj", "up_proj", "down_proj"].iter().any(|part| rest.ends_with(part)))
        })
    };
    let in_layer = |layer: &Layer| {
        layer.matrices().flat_map(|matrix| &matrix.parts).any(|part| part.name == name)
            || of_experts(&layer.feed_forward)
    };
    name == plan.embedding || name == plan.head || plan.layers.iter().any(in_layer)
}

impl Layer {
    fn has_alternating_experts(&self) -> bool {
        matches!(&self.feed_forward, FeedForward::Experts(experts) if experts.stacks.alternating.is_some())
    }
}

/// `group_size` and `bits` of an object, both required, and `mode`.
fn quantization(key: &str, object: &Map<String, Json>) -> Result<Format, String> {
    match object.get("mode").map(Json::as_str) {
        None | Some(Some("affine")) => {}
        Some(Some("mxfp4")) => {
            let usual = [("group_size", mxfp4::BLOCK), ("bits", 4)];
            return match usual.into_iter().find(|(name, size)| object.get(*name).is_none_or(|n| n != size)) {
                Some((name, size)) => Err(format!("{key}.{name} must be {size} in mode mxfp4")),
                None => Ok(Format::Mxfp4),
            };
        }
        Some(_) => {
            let mode = &object["mode"];
            return Err(format!(
                "{key}.mode = {mode} is not supported by this engine; it reads \"affine\" and \"mxfp4\""
            ));
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
    let found = Quantization::new(bits, group_size).expect("both were just found among those it has");
    Ok(Format::Affine(found))
}
