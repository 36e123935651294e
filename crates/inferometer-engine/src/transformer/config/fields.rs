//! Typed reading of the fields of a `config.json`. Absent and null mean the same.

use std::fmt::Display;
use std::path::Path;

use serde_json::Value as Json;

use crate::transformer::rope::{Llama3, Rotation, Scaling, Yarn};
use inferometer_host::Result;
use inferometer_protocol::EngineError;

/// Upper limits of each size: many times those of real models, but small enough that lists of
/// tensors stay short and products do not overflow.
pub mod most {
    pub const LAYERS: usize = 1 << 10;
    pub const HEADS: usize = 1 << 12;
    pub const HEAD_DIM: usize = 1 << 12;
    /// Width of all heads together.
    pub const HEADS_WIDTH: usize = 1 << 18;
    pub const HIDDEN: usize = 1 << 18;
    pub const INTERMEDIATE: usize = 1 << 20;
    pub const VOCABULARY: usize = 1 << 22;
    pub const CONTEXT: usize = 1 << 28;
    pub const EXPERTS: usize = 1 << 12;
}

/// The value of a layer type that sees all positions.
const FULL: &str = "full_attention";
/// The value of a layer type that sees the last positions.
const SLIDING: &str = "sliding_attention";

/// An object of a configuration. Every error names the file.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    pub json: &'a Json,
    pub path: &'a Path,
}

impl<'a> Fields<'a> {
    pub fn wrong(&self, problem: impl Display) -> EngineError {
        EngineError::model(format!("{}: {problem}", self.path.display()))
    }

    pub fn unsupported(&self, what: impl Display) -> EngineError {
        self.wrong(format!("{what} is not supported by this engine"))
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a Json> {
        self.json.get(name).filter(|value| !value.is_null())
    }

    /// A value of the kind that `read` takes; `kind` in words.
    fn typed<T>(&self, name: &str, kind: &str, read: impl FnOnce(&'a Json) -> Option<T>) -> Result<Option<T>> {
        self.get(name)
            .map(|value| read(value).ok_or_else(|| self.wrong(format!("{name} = {value} is not {kind}"))))
            .transpose()
    }

    pub fn text(&self, name: &str) -> Result<Option<&'a str>> {
        self.typed(name, "a text", Json::as_str)
    }

    pub fn texts(&self, name: &str) -> Result<Option<Vec<&'a str>>> {
        self.typed(name, "a list of texts", |value| value.as_array()?.iter().map(Json::as_str).collect())
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.typed(name, "true or false", Json::as_bool)
    }

    pub fn number(&self, name: &str) -> Result<Option<f64>> {
        self.typed(name, "a number", Json::as_f64)
    }

    pub fn numbers(&self, name: &str) -> Result<Option<Vec<f64>>> {
        self.typed(name, "a list of numbers", |value| value.as_array()?.iter().map(Json::as_f64).collect())
    }

    pub fn count(&self, name: &str) -> Result<Option<usize>> {
        self.typed(name, "a whole number", |value| value.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    /// A size of at least one and at most `most`; `default` if it is absent.
    pub fn size_or(&self, name: &str, most: usize, default: usize) -> Result<usize> {
        match self.count(name)? {
            None => Ok(default),
            Some(n) if n == 0 || n > most => {
                Err(self.wrong(format!("{name} is {n}; it must be from 1 to {most}, beyond which no model goes")))
            }
            Some(n) => Ok(n),
        }
    }

    /// A size of at least one and at most `most`.
    pub fn size(&self, name: &str, most: usize) -> Result<usize> {
        if self.get(name).is_none() {
            return Err(self.wrong(format!("{name} is absent")));
        }
        self.size_or(name, most, 0)
    }

    /// A number above zero; `default` if it is absent.
    pub fn positive_or(&self, name: &str, default: f64) -> Result<f64> {
        match self.number(name)?.unwrap_or(default) {
            x if x.is_finite() && x > 0.0 => Ok(x),
            x => Err(self.wrong(format!("{name} is {x}; it must be above zero"))),
        }
    }

    /// A number above zero.
    pub fn positive(&self, name: &str) -> Result<f64> {
        if self.get(name).is_none() {
            return Err(self.wrong(format!("{name} is absent")));
        }
        self.positive_or(name, 0.0)
    }

    /// Refuses any value but the given one; absent is fine.
    pub fn only(&self, name: &str, value: &Json) -> Result<()> {
        match self.get(name) {
            Some(found) if found != value => Err(self.unsupported(format!("{name} = {found}"))),
            _ => Ok(()),
        }
    }

    /// An object inside.
    #[must_use]
    pub fn inside(&self, name: &str) -> Option<Fields<'a>> {
        Some(Fields { json: self.get(name).filter(|value| value.is_object())?, path: self.path })
    }

    /// For each layer, how many positions it sees: by `layer_types` if there is any, else by
    /// `slides`. `None`: all.
    pub fn windows(&self, layers: usize, slides: impl Fn(usize) -> bool) -> Result<Vec<Option<usize>>> {
        let kinds = self.texts("layer_types")?;
        if let Some(kinds) = &kinds
            && kinds.len() != layers
        {
            return Err(self.wrong(format!("layer_types has {} entries for {layers} layers", kinds.len())));
        }
        let window = || self.size("sliding_window", most::CONTEXT).map(Some);
        (0..layers)
            .map(|at| match kinds.as_ref().map(|kinds| kinds[at]) {
                Some(FULL) => Ok(None),
                Some(SLIDING) => window(),
                Some(other) => Err(self.unsupported(format!("layer_types with {other:?}"))),
                None if slides(at) => window(),
                None => Ok(None),
            })
            .collect()
    }

    /// The rotary embedding of the first `dims` components of a head: from `rope_parameters`
    /// (newer files) or `rope_theta` and `rope_scaling`.
    pub fn rotation(&self, dims: usize, context: usize) -> Result<Rotation> {
        let inside = self.inside("rope_parameters");
        let theta = match inside.map(|inside| inside.number("rope_theta")).transpose()?.flatten() {
            Some(_) => inside.unwrap_or(*self).positive("rope_theta")?,
            None => self.positive_or("rope_theta", 10_000.0)?,
        };
        let scaling = match inside.or_else(|| self.inside("rope_scaling")) {
            Some(scaling) => self.scaling(&scaling, dims, context)?,
            None => Scaling::None,
        };
        Ok(Rotation::new(dims, theta, &scaling))
    }

    fn scaling(&self, of: &Fields<'_>, dims: usize, context: usize) -> Result<Scaling> {
        let kind = match of.text("rope_type")? {
            Some(kind) => Some(kind),
            None => of.text("type")?,
        };
        let said = |name: &str| format!("{name} of the {} rope scaling", kind.unwrap_or_default());
        let number =
            |name: &str| of.positive(name).map_err(|_| self.wrong(format!("{} must be above zero", said(name))));
        let original = || number("original_max_position_embeddings");
        match kind {
            None | Some("default") => Ok(Scaling::None),
            Some("linear") => Ok(Scaling::Linear(number("factor")?)),
            Some("llama3") => {
                let found = Llama3 {
                    factor: number("factor")?,
                    low_freq_factor: number("low_freq_factor")?,
                    high_freq_factor: number("high_freq_factor")?,
                    original_context: original()?,
                };
                if found.high_freq_factor <= found.low_freq_factor {
                    return Err(self.wrong("high_freq_factor of the llama3 rope scaling must be above low_freq_factor"));
                }
                Ok(Scaling::Llama3(found))
            }
            Some("yarn") => {
                for name in ["mscale", "mscale_all_dim"] {
                    if of.get(name).is_some() {
                        return Err(self.unsupported(said(name)));
                    }
                }
                Ok(Scaling::Yarn(Yarn {
                    factor: number("factor")?,
                    beta_fast: of.positive_or("beta_fast", 32.0)?,
                    beta_slow: of.positive_or("beta_slow", 1.0)?,
                    original_context: of.positive_or("original_max_position_embeddings", context as f64)?,
                    truncate: of.flag("truncate")?.unwrap_or(true),
                    magnitude: of.number("attention_factor")?,
                }))
            }
            // `transformers` takes the short factors as long as all positions are within the
            // original context. The cached keys of a growing conversation would then be of two
            // kinds, so that the long factors are taken throughout, as mlx_lm does.
            Some("longrope" | "su") => {
                let factors = of.numbers("long_factor")?.unwrap_or_default();
                if factors.len() != dims / 2 || !factors.iter().all(|factor| factor.is_finite() && *factor > 0.0) {
                    return Err(self.wrong(format!("{} must be {} numbers above zero", said("long_factor"), dims / 2)));
                }
                let original = match self.number("original_max_position_embeddings")? {
                    Some(_) => self.positive("original_max_position_embeddings")?,
                    None => original()?,
                };
                let longer = context as f64 / original;
                let usual = if longer <= 1.0 { 1.0 } else { (1.0 + longer.ln() / original.ln()).sqrt() };
                let magnitude = of.number("attention_factor")?.unwrap_or(usual);
                Ok(Scaling::Each { factors, magnitude })
            }
            Some(other) => Err(self.unsupported(format!("rope scaling {other:?}"))),
        }
    }
}
