//! A mixture of experts: each expert runs once, on the positions that chose it.

use candle_core::Tensor;

use super::{CandleBackend, Matrix, failed, tensor, with_values};
use crate::transformer::backend::{Backend, Routing};
use crate::transformer::experts::{ExpertMatrix, ExpertWeights};
use inferometer_host::Result;

/// The matrices of a layer's experts.
#[derive(Debug)]
pub struct Experts {
    each: Vec<Expert>,
    hidden: usize,
}

#[derive(Debug)]
struct Expert {
    /// Gate and up, stacked.
    gate_up: Matrix,
    gate_up_bias: Option<Vec<f32>>,
    down: Matrix,
    down_bias: Option<Vec<f32>>,
}

/// A position that an expert computes.
struct Place {
    position: usize,
    weight: f32,
}

impl Experts {
    pub fn load(backend: &mut CandleBackend, weights: ExpertWeights) -> Result<Self> {
        let ExpertWeights { gate, up, down } = weights;
        let bias = |matrix: &ExpertMatrix, at: usize| matrix.bias.as_ref().map(|bias| bias.slice(at).to_f32());
        let hidden = down.weights.first().map_or(0, |down| down.shape()[0]);
        let mut each = Vec::with_capacity(down.weights.len());
        let biases: Vec<_> = (0..down.weights.len())
            .map(|at| (bias(&gate, at).zip(bias(&up, at)).map(|(gate, up)| [gate, up].concat()), bias(&down, at)))
            .collect();
        let matrices = gate.weights.into_iter().zip(up.weights).zip(down.weights);
        for (((gate, up), down), (gate_up_bias, down_bias)) in matrices.zip(biases) {
            let gate_up = backend.matrix(vec![gate, up])?;
            each.push(Expert { gate_up, gate_up_bias, down: backend.matrix(vec![down])?, down_bias });
        }
        Ok(Self { each, hidden })
    }

    /// x [T, hidden], logits [T, experts]: [T, hidden].
    pub fn mix(&self, on: &CandleBackend, x: &Tensor, logits: &Tensor, routing: Routing) -> Result<Tensor> {
        let places = with_values(logits, |logits| self.places(logits, routing))?;
        let count = x.dim(0).map_err(failed)?;
        let mut out = vec![0.0; count * self.hidden];
        for (expert, places) in self.each.iter().zip(places).filter(|(_, places)| !places.is_empty()) {
            let rows = with_values(x, |x| gathered(x, self.hidden, &places))?;
            let made = expert.forward(on, &tensor(rows, (places.len(), self.hidden))?, routing)?;
            with_values(&made, |made| {
                for (place, row) in places.iter().zip(made.chunks_exact(self.hidden)) {
                    let out = &mut out[place.position * self.hidden..][..self.hidden];
                    out.iter_mut().zip(row).for_each(|(out, x)| *out += place.weight * x);
                }
            })?;
        }
        tensor(out, (count, self.hidden))
    }

    /// The positions of each expert, in order.
    fn places(&self, logits: &[f32], routing: Routing) -> Vec<Vec<Place>> {
        let mut places: Vec<Vec<Place>> = self.each.iter().map(|_| Vec::new()).collect();
        for (position, logits) in logits.chunks_exact(self.each.len()).enumerate() {
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
            let highest = logits[order[0]];
            let power = |at: &usize| (logits[*at] - highest).exp();
            let chosen = &order[..routing.per_token.min(order.len())];
            let of = if routing.normalized { chosen } else { &order[..] };
            let sum: f32 = of.iter().map(power).sum();
            chosen.iter().for_each(|at| places[*at].push(Place { position, weight: power(at) / sum }));
        }
        places
    }
}

impl Expert {
    fn forward(&self, on: &CandleBackend, x: &Tensor, routing: Routing) -> Result<Tensor> {
        let inside = biased(on, on.apply(x, &self.gate_up)?, self.gate_up_bias.as_ref())?;
        biased(on, on.apply(&on.gate(&inside, routing.activation)?, &self.down)?, self.down_bias.as_ref())
    }
}

fn biased(on: &CandleBackend, x: Tensor, bias: Option<&Vec<f32>>) -> Result<Tensor> {
    match bias {
        Some(bias) => on.add_vector(&x, bias),
        None => Ok(x),
    }
}

fn gathered(x: &[f32], width: usize, places: &[Place]) -> Vec<f32> {
    places.iter().flat_map(|place| &x[place.position * width..][..width]).copied().collect()
}
