//! The `auto` engine: the transformer on the best tensor library that this build has and that works
//! on this machine.
//!
//! It uses MLX if available, else candle. Its receipts are those of the transformer; `details.auto`
//! and the label in tables and charts name the choice and the reason.

use std::collections::BTreeMap;

use crate::transformer::{BACKEND, Library, NAME as TRANSFORMER, Transformer};
use inferometer_host::{Engine, Load, Result, Session};
use inferometer_protocol::{EngineSpec, Offer, Settings};

pub const NAME: &str = "auto";

/// The engine in the registry.
pub struct Auto;

/// The choice on this machine.
struct Selected {
    library: Library,
    /// Such as `candle: this build has no MLX`.
    why: String,
}

fn choice() -> Selected {
    let mlx = Library::Mlx;
    chosen(mlx.missing().or_else(|| mlx.doubt()), &mlx.place().unwrap_or_default())
}

/// `missing` is why MLX is not available or not fit, `place` is where it computes.
fn chosen(missing: Option<String>, place: &str) -> Selected {
    match missing {
        None => {
            let slow =
                if place == "cpu" { "; on the CPU it is slow: the engine `transformer` takes candle" } else { "" };
            Selected {
                library: Library::Mlx,
                why: format!("mlx: this build has it, and it works here ({place}){slow}"),
            }
        }
        Some(why) => Selected { library: Library::Candle, why: format!("candle: {why}") },
    }
}

impl Engine for Auto {
    fn name(&self) -> &'static str {
        NAME
    }

    fn offer(&self) -> Offer {
        let library = choice().library;
        let offer = Transformer.offer();
        let taken = offer.variants.into_iter().find(|variant| variant.value == library.name());
        Offer {
            name: NAME,
            label: match library {
                Library::Candle => "auto: candle",
                Library::Mlx => "auto: mlx",
            },
            meaning: "the transformer engine on MLX where this build has it and it works, else on candle",
            options: Vec::new(),
            honours: taken.map_or(offer.honours, |variant| variant.honours),
            variants: Vec::new(),
            ..offer
        }
    }

    fn receipt_name(&self) -> &'static str {
        TRANSFORMER
    }

    fn notes(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(NAME.to_owned(), choice().why)])
    }

    fn environment(&self, spec: &EngineSpec, toggles: &Settings, cpus: Option<usize>) -> Vec<(&'static str, String)> {
        Transformer.environment(&delegated(spec), toggles, cpus)
    }

    fn open(&self, load: &Load) -> Result<Box<dyn Session>> {
        Transformer.open(&Load { engine: delegated(&load.engine), ..load.clone() })
    }
}

/// The same engine with the selected library named.
fn delegated(spec: &EngineSpec) -> EngineSpec {
    let mut spec = spec.clone();
    spec.options.insert(BACKEND.to_owned(), choice().library.name().into());
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mlx_is_taken_where_it_is_and_the_reason_is_said() {
        let mlx = chosen(None, "metal: Apple M2 Max");
        assert_eq!(mlx.library, Library::Mlx);
        assert!(mlx.why.starts_with("mlx: ") && mlx.why.contains("Apple M2 Max"), "{}", mlx.why);
        let candle = chosen(Some("no MLX in here".to_owned()), "");
        assert_eq!((candle.library, candle.why.as_str()), (Library::Candle, "candle: no MLX in here"));
    }

    /// Holds in builds with and without MLX.
    #[test]
    fn its_offer_is_that_of_what_it_takes() {
        let (offer, library) = (Auto.offer(), choice().library);
        let options = Settings::from([(BACKEND.to_owned(), library.name().into())]);
        assert_eq!(&offer.honours, Transformer.offer().honours(&options));
        assert!(offer.label.ends_with(library.name()), "{}", offer.label);
        assert!(Auto.notes()[NAME].starts_with(library.name()));
        assert_eq!(library == Library::Mlx, Library::Mlx.missing().is_none() && Library::Mlx.doubt().is_none());
    }
}
