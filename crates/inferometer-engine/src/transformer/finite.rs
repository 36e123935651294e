//! Values that are not finite, NaN or infinity: whether there are any, and where in the forward
//! pass they begin.

use std::fmt;
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::model::{KvCache, Model};
use inferometer_host::Result;
use inferometer_protocol::{EngineError, ErrorKind};

/// How long a failed forward pass is repeated to find its first layer at fault. Far below any
/// time-out of a harness: that the values are not finite must be told, whether the place is found
/// or not.
const PATIENCE: Duration = Duration::from_secs(5);
/// Tokens in one forward pass of the repetition.
const CHUNK: usize = 512;

/// Whether no value is NaN or infinite. Reads bits and does not branch, so that the loop becomes
/// vector code.
#[must_use]
pub fn all_finite(values: &[f32]) -> bool {
    values.iter().fold(0, |largest, x| magnitude(*x).max(largest)) < NOT_FINITE
}

/// Magnitude from which on a value is infinite or NaN.
pub const NOT_FINITE: i32 = 0x7f80_0000;

/// The bits without the sign: ordered as the values' magnitudes are.
#[must_use]
pub fn magnitude(value: f32) -> i32 {
    value.to_bits() as i32 & i32::MAX
}

/// A part of the model whose output holds a value that is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Embedding,
    /// From 0, of so many.
    Layer(usize, usize),
    /// The final normalization or the output projection.
    Head,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Embedding => write!(f, "first in the embedding"),
            Place::Layer(at, of) => write!(f, "first in layer {at} (of layers 0 to {})", of - 1),
            Place::Head => write!(f, "first in the final norm or the output projection"),
        }
    }
}

/// Of values that are not finite: `error` with the place where the forward pass of `tokens` first
/// goes wrong, found by repeating it layer by layer. Any other error as it is.
#[must_use]
pub fn located<B: Backend>(error: EngineError, model: &Model<B>, tokens: &[u32]) -> EngineError {
    if error.kind != ErrorKind::NotFinite {
        return error;
    }
    let place = match first(model, tokens, Instant::now() + PATIENCE) {
        Ok(Some(place)) => place.to_string(),
        Ok(None) => "the layers' own outputs are finite, as far as they could be repeated".to_owned(),
        Err(error) => format!("the place was not found: {error}"),
    };
    let then = "`inferometer model verify` names tensors whose weights are not finite";
    EngineError::new(error.kind, format!("{}: {place}; {then}", error.message))
}

/// The first part whose output is not finite; `None` where all is well or the time is over.
fn first<B: Backend>(model: &Model<B>, tokens: &[u32], until: Instant) -> Result<Option<Place>> {
    let mut cache: KvCache<B> = model.cache()?;
    cache.reserve(tokens.len())?;
    let mut values = Vec::new();
    for chunk in tokens.chunks(CHUNK) {
        let mut place = None;
        let looked = model.layer_by_layer(chunk, &mut cache, &mut |at, x| {
            place = Some(at);
            model.backend.read(x, &mut values)?;
            let well = all_finite(&values);
            Ok(well && Instant::now() < until)
        });
        match looked {
            Ok(true) => {}
            Ok(false) if all_finite(&values) => return Ok(None),
            Ok(false) => return Ok(place),
            // A product that refuses such values: they came out of the part before, or of what lies
            // within this one.
            Err(error) if error.kind == ErrorKind::NotFinite => {
                return Ok(place.map(|at| at.next(model.config.shape.layers)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

impl Place {
    fn next(self, layers: usize) -> Self {
        match self {
            Place::Embedding => Place::Layer(0, layers),
            Place::Layer(at, _) if at + 1 < layers => Place::Layer(at + 1, layers),
            Place::Layer(..) | Place::Head => Place::Head,
        }
    }
}
