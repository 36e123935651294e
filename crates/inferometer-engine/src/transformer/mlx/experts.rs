//! A mixture of experts on MLX: stacked matrices and products that gather them.

use mlx_rs::ops::indexing::take_along_axis;
use mlx_rs::ops::{argpartition_axis, gather_mm, gather_qmm, softmax_axis};
use mlx_rs::{Array, Dtype};

use super::calls::{failed, mlx, size, slice};
use super::weights::{self, Matrix};
use super::{Held, MlxBackend};
use crate::transformer::backend::Routing;
use crate::transformer::experts::{ExpertMatrix, ExpertWeights};
use inferometer_host::Result;

/// The matrices of a layer's experts.
#[derive(Debug)]
pub struct Experts {
    gate: Stack,
    up: Stack,
    down: Stack,
}

/// One matrix of every expert, and its bias [count, rows].
#[derive(Debug)]
struct Stack {
    form: Form,
    bias: Option<Array>,
}

#[derive(Debug)]
enum Form {
    /// [count, in, out]
    Plain(Array),
    /// [count, out, in] packed, with scales and biases.
    Quantized { packed: Array, scales: Array, biases: Array, group_size: i32, bits: i32 },
}

impl Experts {
    pub fn load(weights: ExpertWeights, dtype: Option<Dtype>, held: &mut Held) -> Result<Self> {
        let mut stack = |matrix| Stack::load(matrix, dtype, held);
        Ok(Self { gate: stack(weights.gate)?, up: stack(weights.up)?, down: stack(weights.down)? })
    }

    /// x [T, hidden], logits [T, experts]: [T, hidden].
    pub fn mix(&self, on: &MlxBackend, x: &Array, logits: &Array, routing: Routing) -> Result<Array> {
        let [count, experts] = *logits.shape() else { return Err(failed("router logits should be [T, experts]")) };
        let chosen = size(routing.per_token)?;
        let order = mlx(|| argpartition_axis(logits, experts - chosen, -1))?;
        let chosen = mlx(|| slice(&order, &[0, experts - chosen], &[count, experts]))?;
        let weights = mlx(|| {
            let over = if routing.normalized { take_along_axis(logits, &chosen, -1)? } else { logits.clone() };
            let weights = softmax_axis(&over, -1, true)?;
            if routing.normalized { Ok(weights) } else { take_along_axis(&weights, &chosen, -1) }
        })?;
        // [T, 1, 1, hidden], for each chosen expert one row.
        let x = mlx(|| x.reshape(&[count, 1, 1, -1]))?;
        let (gate, up) = (self.gate.apply(&x, &chosen)?, self.up.apply(&x, &chosen)?);
        let inside = on.activated(&gate, &up, routing.activation)?;
        let each = self.down.apply(&inside, &chosen)?;
        mlx(|| each.squeeze_axes(&[-2])?.multiply(weights.expand_dims(-1)?)?.sum_axis(-2, false))
    }
}

impl Stack {
    fn load(matrix: ExpertMatrix, dtype: Option<Dtype>, held: &mut Held) -> Result<Self> {
        let count = size(matrix.weights.len())?;
        let bias = matrix.bias.map(|bias| weights::array(&bias, dtype)).transpose()?;
        held.converted.extend(matrix.weights.iter().filter_map(weights::converted));
        let all = Matrix::new(matrix.weights, dtype)?;
        held.bytes += all.bytes() + bias.as_ref().map_or(0, |bias| bias.nbytes() as u64);
        held.formats.extend(all.formats());
        let form = match all {
            Matrix::Plain { rows, .. } => Form::Plain(mlx(|| stacked(&rows, count)?.swap_axes(-1, -2))?),
            Matrix::Quantized(q) => {
                let all = |part: &Array| mlx(|| stacked(part, count));
                let (packed, scales, biases) = (all(&q.packed)?, all(&q.scales)?, all(&q.biases)?);
                Form::Quantized { packed, scales, biases, group_size: q.group_size, bits: q.bits }
            }
            Matrix::Parts(_) => return Err(failed("the experts of a layer should be stored alike")),
        };
        Ok(Self { form, bias })
    }

    /// x [T, 1 or k, 1, in] times the matrices of the chosen experts [T, k]: [T, k, 1, out].
    fn apply(&self, x: &Array, chosen: &Array) -> Result<Array> {
        let product = mlx(|| match &self.form {
            Form::Plain(matrices) => gather_mm(x, matrices, None, chosen, false),
            Form::Quantized { packed, scales, biases, group_size, bits } => {
                gather_qmm(x, packed, scales, biases, None, chosen, true, *group_size, *bits, false)
            }
        })?;
        match &self.bias {
            None => Ok(product),
            Some(bias) => mlx(|| product.add(bias.take_axis(chosen, 0)?.expand_dims(-2)?)),
        }
    }
}

/// Rows of all experts as one matrix for each.
fn stacked(rows: &Array, count: i32) -> std::result::Result<Array, mlx_rs::error::Exception> {
    let [all, columns] = *rows.shape() else { return rows.reshape(&[count, -1]) };
    rows.reshape(&[count, all / count, columns])
}
