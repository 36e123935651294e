//! Which weights a plan needs, and in which tensors a folder has them.

use safetensors::Dtype;

use super::config::Config;
use super::plan::{Experts, FeedForward, Layer, Matrix, Norm, Stacks};
use super::weights::{Expected, Format};

/// What decides how a weight is stored.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// The configuration alone, for a folder that is to be made.
    Described,
    /// The tensors of a folder and their dtypes; of the configuration only the sizes.
    Tensors(&'a dyn Fn(&str) -> Option<Dtype>),
}

impl Source<'_> {
    fn tensor(&self, name: &str) -> Option<Dtype> {
        match self {
            Source::Described => None,
            Source::Tensors(look) => look(name),
        }
    }

    /// The format of the matrices under `module`, which have rows of `columns` values.
    fn format(&self, config: &Config, module: &str, columns: usize) -> Format {
        let Some(stored) = &config.stored else { return Format::Plain };
        let packed = match self {
            Source::Described => true,
            Source::Tensors(look) => {
                look(&format!("{module}.scales")).is_some() || look(&format!("{module}.weight")) == Some(Dtype::U32)
            }
        };
        stored.of(module, columns, packed)
    }
}

/// Where the matrices of a layer's experts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout<'a> {
    Stacked(&'a str),
    Single(&'a str),
    Alternating(&'a str),
}

impl Stacks {
    /// The layout of a folder in which `has` tells whether a tensor of that name is there.
    #[must_use]
    pub fn layout(&self, has: impl Fn(&str) -> bool) -> Layout<'_> {
        let stacked = || has(&format!("{}.gate_proj.weight", self.stacked));
        match (&self.single, &self.alternating) {
            (Some(single), _) if !stacked() => Layout::Single(single),
            (_, Some(alternating)) if has(&format!("{alternating}.gate_up_proj_blocks")) => {
                Layout::Alternating(alternating)
            }
            _ => Layout::Stacked(&self.stacked),
        }
    }
}

/// Every weight that a model of this configuration has, including the output projection of a tied
/// model if its folder has that too.
#[must_use]
pub fn expected(config: &Config, source: &Source<'_>) -> Vec<Expected> {
    let plan = &config.plan;
    let mut list = List { config, source: *source, weights: Vec::new() };
    list.matrix(&plan.embedding, &[plan.vocabulary], plan.hidden);
    list.norm(&plan.norm);
    let head = ["weight", "scales"].iter().any(|part| source.tensor(&format!("{}.{part}", plan.head)).is_some());
    if !plan.tied || head {
        list.matrix(&plan.head, &[plan.vocabulary], plan.hidden);
    }
    plan.layers.iter().for_each(|layer| list.layer(layer, plan.hidden));
    list.weights
}

/// Numbers in the weights of a model: the embedding counts once if it is also the output
/// projection.
#[must_use]
pub fn parameters(config: &Config) -> u64 {
    let weights = expected(config, &Source::Described);
    weights.iter().map(|weight| weight.shape.iter().product::<usize>() as u64).sum()
}

struct List<'a> {
    config: &'a Config,
    source: Source<'a>,
    weights: Vec<Expected>,
}

impl List<'_> {
    fn vector(&mut self, name: String, shape: Vec<usize>) {
        self.weights.push(Expected::plain(name, shape));
    }

    fn norm(&mut self, norm: &Norm) {
        self.vector(format!("{}.weight", norm.name), vec![norm.width]);
    }

    fn layer(&mut self, layer: &Layer, hidden: usize) {
        let Layer { attention, feed_forward, .. } = layer;
        self.norm(&layer.input_norm);
        self.parts(&attention.qkv);
        self.parts(&attention.output);
        attention.q_norm.iter().chain(&attention.k_norm).for_each(|norm| self.norm(norm));
        if let Some(sinks) = &attention.sinks {
            self.vector(sinks.clone(), vec![attention.heads]);
        }
        layer.attention_norm.iter().chain([&layer.feed_forward_norm]).for_each(|norm| self.norm(norm));
        match feed_forward {
            FeedForward::Dense(dense) => {
                self.parts(&dense.gate_up);
                self.parts(&dense.down);
            }
            FeedForward::Experts(experts) => {
                self.parts(&experts.router);
                self.experts(experts, hidden);
            }
        }
        layer.added_norm.iter().for_each(|norm| self.norm(norm));
    }

    /// A matrix [rows, columns], or a stack of matrices [count, rows, columns].
    fn matrix(&mut self, module: &str, rows: &[usize], columns: usize) {
        let format = self.source.format(self.config, module, columns);
        let shape = [rows, &[columns]].concat();
        self.weights.push(Expected { name: format!("{module}.weight"), shape, format });
    }

    fn parts(&mut self, matrix: &Matrix) {
        for part in &matrix.parts {
            self.matrix(&part.name, &[part.rows], matrix.columns);
            if matrix.bias {
                self.vector(format!("{}.bias", part.name), vec![part.rows]);
            }
        }
    }

    fn experts(&mut self, experts: &Experts, hidden: usize) {
        let (count, inside) = (experts.count, experts.intermediate);
        let matrices = [("gate_proj", inside, hidden), ("up_proj", inside, hidden), ("down_proj", hidden, inside)];
        match experts.stacks.layout(|name| self.source.tensor(name).is_some()) {
            Layout::Stacked(prefix) => {
                for (name, rows, columns) in matrices {
                    let module = format!("{prefix}.{name}");
                    self.matrix(&module, &[count, rows], columns);
                    if experts.bias {
                        self.vector(format!("{module}.bias"), vec![count, rows]);
                    }
                }
            }
            Layout::Single(prefix) => {
                for at in 0..count {
                    for (name, rows, columns) in matrices {
                        self.matrix(&format!("{prefix}.{at}.{name}"), &[rows], columns);
                    }
                }
            }
            Layout::Alternating(prefix) => {
                for (name, rows, columns) in [("gate_up_proj", 2 * inside, hidden), ("down_proj", hidden, inside)] {
                    let shape = vec![count, rows, columns];
                    let name = format!("{prefix}.{name}");
                    self.vector(format!("{name}_bias"), vec![count, rows]);
                    self.weights.push(Expected { name, shape, format: Format::Mxfp4Blocks });
                }
            }
        }
    }
}
