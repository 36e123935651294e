//! The matrices of a layer's experts, read from a folder whatever their layout there.

use super::checkpoint::Checkpoint as _;
use super::expected::Layout;
use super::mxfp4::{self, Mxfp4Tensor};
use super::plan::Experts;
use super::quantized::{QuantizedTensor, Weight};
use super::weights::{Expected, Format, HostTensor, WeightFolder, unchecked};
use inferometer_host::Result;

/// One matrix of every expert.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertMatrix {
    /// [rows, columns] each.
    pub weights: Vec<Weight>,
    /// [count, rows]
    pub bias: Option<HostTensor>,
}

/// The matrices of a layer's experts.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertWeights {
    pub gate: ExpertMatrix,
    pub up: ExpertMatrix,
    pub down: ExpertMatrix,
}

impl WeightFolder {
    pub(super) fn experts_of(&self, experts: &Experts) -> Result<ExpertWeights> {
        match experts.stacks.layout(|name| self.has(name)) {
            Layout::Single(prefix) => {
                let all = |name: &str| {
                    let weights = (0..experts.count).map(|at| self.matrix(&format!("{prefix}.{at}.{name}")));
                    Ok(ExpertMatrix { weights: weights.collect::<Result<_>>()?, bias: None })
                };
                Ok(ExpertWeights { gate: all("gate_proj")?, up: all("up_proj")?, down: all("down_proj")? })
            }
            Layout::Stacked(prefix) => {
                let all = |name: &str| {
                    let module = format!("{prefix}.{name}");
                    let bias = experts.bias.then(|| self.read(&format!("{module}.bias"))).transpose()?;
                    Ok(ExpertMatrix { weights: self.stack(&module)?, bias })
                };
                Ok(ExpertWeights { gate: all("gate_proj")?, up: all("up_proj")?, down: all("down_proj")? })
            }
            Layout::Alternating(prefix) => {
                let both = self.blocks(&format!("{prefix}.gate_up_proj"))?;
                let bias = self.read(&format!("{prefix}.gate_up_proj_bias"))?;
                let half = |from: usize| ExpertMatrix {
                    weights: both.iter().map(|tensor| Weight::Mxfp4(every_other_row(tensor, from))).collect(),
                    bias: Some(every_other(&bias, from)),
                };
                let down = ExpertMatrix {
                    weights: self.blocks(&format!("{prefix}.down_proj"))?.into_iter().map(Weight::Mxfp4).collect(),
                    bias: Some(self.read(&format!("{prefix}.down_proj_bias"))?),
                };
                Ok(ExpertWeights { gate: half(0), up: half(1), down })
            }
        }
    }

    /// The matrices of a stacked weight.
    fn stack(&self, module: &str) -> Result<Vec<Weight>> {
        let name = format!("{module}.weight");
        let Some(Expected { shape, format, .. }) = self.weight(&name) else { return Err(unchecked(&name)) };
        let [count, rows, columns] = *shape.as_slice() else { return Err(unchecked(&name)) };
        let values = self.read(&name)?;
        let part = |suffix: &str| self.read(&format!("{module}.{suffix}"));
        match *format {
            Format::Plain => Ok((0..count).map(|at| Weight::Plain(values.slice(at))).collect()),
            Format::Affine(quantization) => {
                let (scales, biases) = (part("scales")?, part("biases")?);
                let one = |at: usize| QuantizedTensor {
                    name: name.clone(),
                    shape: [rows, columns],
                    bits: quantization.bits(),
                    group_size: quantization.group_size(),
                    packed: values.slice(at).bytes,
                    scales: scales.slice(at),
                    biases: biases.slice(at),
                };
                Ok((0..count).map(|at| Weight::Quantized(one(at))).collect())
            }
            Format::Mxfp4 | Format::Mxfp4Blocks => {
                Ok(mxfp4(&name, [rows, columns], &values, &part("scales")?).into_iter().map(Weight::Mxfp4).collect())
            }
        }
    }

    /// The matrices of a weight in gpt-oss's own format.
    fn blocks(&self, name: &str) -> Result<Vec<Mxfp4Tensor>> {
        let Some(Expected { shape, .. }) = self.weight(name) else { return Err(unchecked(name)) };
        let [_, rows, columns] = *shape.as_slice() else { return Err(unchecked(name)) };
        let (blocks, scales) = (self.read(&format!("{name}_blocks"))?, self.read(&format!("{name}_scales"))?);
        Ok(mxfp4(name, [rows, columns], &blocks, &scales))
    }
}

/// Stacked numbers and exponents, one matrix each.
fn mxfp4(name: &str, shape: [usize; 2], packed: &HostTensor, scales: &HostTensor) -> Vec<Mxfp4Tensor> {
    let one = |at| Mxfp4Tensor {
        name: name.to_owned(),
        shape,
        packed: packed.slice(at).bytes,
        scales: scales.slice(at).bytes,
    };
    (0..scales.shape[0]).map(one).collect()
}

fn every_other_row(tensor: &Mxfp4Tensor, from: usize) -> Mxfp4Tensor {
    let [rows, columns] = tensor.shape;
    let rows_of = |bytes: &[u8], width: usize| -> Vec<u8> {
        bytes.chunks_exact(width).skip(from).step_by(2).flatten().copied().collect()
    };
    Mxfp4Tensor {
        name: tensor.name.clone(),
        shape: [rows / 2, columns],
        packed: rows_of(&tensor.packed, columns / 2),
        scales: rows_of(&tensor.scales, columns / mxfp4::BLOCK),
    }
}

/// Every other value of each row of a tensor [count, n].
fn every_other(tensor: &HostTensor, from: usize) -> HostTensor {
    let width = tensor.bytes.len() / tensor.shape.iter().product::<usize>().max(1);
    let values = tensor.bytes.chunks_exact(width.max(1)).skip(from).step_by(2);
    let shape = vec![tensor.shape[0], tensor.shape[1] / 2];
    HostTensor { shape, bytes: values.flatten().copied().collect(), ..tensor.clone() }
}
