//! The forward pass: runs a [`Plan`] on any backend.
//!
//! Source: Touvron et al., "LLaMA" (2023): pre-normalized blocks, rotary positions, grouped-query
//! attention, gated feed-forward. [`super::arch`] has the sources of what others vary.

use super::backend::{Backend, HeadShape, Held, LayerCache, Routing};
use super::checkpoint::Checkpoint;
use super::config::Config;
use super::finite::Place;
use super::plan::{self, Activation, FeedForward, Plan};
use super::quantized::Weight;
use inferometer_host::Result;
use inferometer_protocol::EngineError;

/// A loaded model.
pub struct Model<B: Backend> {
    pub backend: B,
    pub config: Config,
    embedding: B::Embedding,
    embedding_scale: Option<f64>,
    layers: Vec<Layer<B>>,
    norm: B::Norm,
    head: B::Linear,
    rotations: Vec<B::Rotation>,
    /// Most positions that attention sees, whatever the plan; `None` = as planned.
    window: Option<usize>,
}

/// What the positions of a forward pass need for each rotary embedding.
type Positions<B> = Vec<<B as Backend>::Positions>;

struct Layer<B: Backend> {
    input_norm: B::Norm,
    attention: Attention<B>,
    attention_norm: Option<B::Norm>,
    feed_forward_norm: B::Norm,
    feed_forward: Block<B>,
    added_norm: Option<B::Norm>,
}

struct Attention<B: Backend> {
    qkv: Linear<B>,
    shape: HeadShape,
    q_norm: Option<B::Norm>,
    k_norm: Option<B::Norm>,
    /// Index into the model's rotary embeddings.
    rotation: Option<usize>,
    scale: f64,
    sinks: Option<B::Vector>,
    output: Linear<B>,
}

/// A matrix and its bias.
struct Linear<B: Backend> {
    matrix: B::Linear,
    bias: Option<B::Vector>,
}

enum Block<B: Backend> {
    Dense { gate_up: Linear<B>, activation: Activation, down: Linear<B> },
    Experts { router: Linear<B>, routing: Routing, experts: B::Experts },
}

impl<B: Backend> Model<B> {
    /// Gives every tensor to the backend. With a window, caches are rotating: they hold only the
    /// last `window` positions, and attention sees only these.
    ///
    /// # Errors
    /// When a file cannot be read, a tied head differs from the embedding, or the backend cannot
    /// hold a tensor.
    pub fn load(mut backend: B, config: Config, weights: &dyn Checkpoint, window: Option<usize>) -> Result<Self> {
        let Plan { embedding: table, head, norm, tied, .. } = &config.plan;
        let values = weights.matrix(table)?;
        if *tied && weights.has_matrix(head) {
            check_tied(&values, &weights.matrix(head)?)?;
        }
        let embedding_scale = config.plan.embedding_scale.map(|scale| values.rounded(scale));
        let embedding = backend.embedding(values)?;
        let head = if *tied { backend.tied(&embedding)? } else { backend.linear(vec![weights.matrix(head)?])? };
        let layers = config.plan.layers.iter().map(|layer| Layer::load(&mut backend, layer, weights));
        let layers = layers.collect::<Result<_>>()?;
        let norm = load_norm(&mut backend, norm, weights)?;
        let rotations = config.plan.rotations.iter().map(|rotation| backend.rotation(rotation));
        let rotations = rotations.collect::<Result<_>>()?;
        Ok(Self { backend, config, embedding, embedding_scale, layers, norm, head, rotations, window })
    }

    /// An empty cache for this model.
    ///
    /// # Errors
    /// When the backend has no memory for it.
    pub fn cache(&self) -> Result<KvCache<B>> {
        let layers = self.config.plan.layers.iter().map(|plan::Layer { attention, .. }| {
            let window = [self.window, attention.window].into_iter().flatten().min();
            self.backend.cache(attention.kv_heads, attention.head_dim, window)
        });
        Ok(KvCache { layers: layers.collect::<Result<_>>()?, tokens: Vec::new(), window: self.window })
    }

    /// Runs `count` ids after the cached positions and appends their keys and values. Returns the
    /// logits after the last id, [1, vocabulary]. Call [`KvCache::note`] to record which tokens the
    /// ids are.
    ///
    /// # Errors
    /// When the backend fails; the cache is then undefined and must be dropped.
    pub fn forward(&self, ids: &B::Ids, count: usize, cache: &mut KvCache<B>) -> Result<B::Tensor> {
        let x = self.layers(ids, count, cache, true)?;
        self.logits(&x)
    }

    /// As [`Model::forward`], with the logits after every id: [count, vocabulary].
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn forward_all(&self, ids: &B::Ids, count: usize, cache: &mut KvCache<B>) -> Result<B::Tensor> {
        let x = self.layers(ids, count, cache, false)?;
        self.logits(&x)
    }

    fn logits(&self, x: &B::Tensor) -> Result<B::Tensor> {
        self.backend.apply(&self.backend.rms_norm(x, &self.norm)?, &self.head)
    }

    /// As [`Model::forward`], without logits: for a prefill chunk that is not the last. Call
    /// [`Model::settle`] after it.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn fill(&self, ids: &B::Ids, count: usize, cache: &mut KvCache<B>) -> Result<()> {
        // A lazy backend computes only the keys and values of the last layer.
        self.layers(ids, count, cache, false).map(drop)
    }

    /// Waits until the appended keys and values are computed.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn settle(&self, cache: &KvCache<B>) -> Result<()> {
        self.backend.settle(cache.layers.iter())
    }

    fn positions(&self, start: usize, count: usize) -> Result<Positions<B>> {
        self.rotations.iter().map(|rotation| self.backend.positions(rotation, start, count)).collect()
    }

    /// [T, hidden]
    fn embed(&self, ids: &B::Ids) -> Result<B::Tensor> {
        let x = self.backend.embed(&self.embedding, ids)?;
        match self.embedding_scale {
            Some(scale) => self.backend.scale(&x, scale),
            None => Ok(x),
        }
    }

    /// Runs the layers on the ids: [T, hidden], or [1, hidden] with `only_last`.
    fn layers(&self, ids: &B::Ids, count: usize, cache: &mut KvCache<B>, only_last: bool) -> Result<B::Tensor> {
        let positions = self.positions(cache.seen(), count)?;
        let mut x = self.embed(ids)?;
        let last = self.layers.len() - 1;
        for (at, (layer, cache)) in self.layers.iter().zip(&mut cache.layers).enumerate() {
            // After the last attention, no position needs another one.
            let only_last = only_last && at == last && count > 1;
            x = layer.forward(self, x, &positions, cache, only_last)?;
        }
        Ok(x)
    }

    /// Runs ids as [`Model::forward`] does and shows `look` what each part makes of all positions;
    /// `false` as soon as `look` wants no more.
    ///
    /// # Errors
    /// When the backend or `look` fails.
    pub fn layer_by_layer(
        &self,
        ids: &[u32],
        cache: &mut KvCache<B>,
        look: &mut dyn FnMut(Place, &B::Tensor) -> Result<bool>,
    ) -> Result<bool> {
        let on = &self.backend;
        let positions = self.positions(cache.seen(), ids.len())?;
        let mut x = self.embed(&on.ids(ids)?)?;
        if !look(Place::Embedding, &x)? {
            return Ok(false);
        }
        for (at, (layer, cache)) in self.layers.iter().zip(&mut cache.layers).enumerate() {
            x = layer.forward(self, x, &positions, cache, false)?;
            if !look(Place::Layer(at, self.layers.len()), &x)? {
                return Ok(false);
            }
        }
        look(Place::Head, &self.logits(&on.last(&x)?)?)
    }

    /// What the backend says of the weights.
    pub fn held(&self) -> &Held {
        self.backend.held()
    }
}

impl<B: Backend> Layer<B> {
    fn load(backend: &mut B, plan: &plan::Layer, weights: &dyn Checkpoint) -> Result<Self> {
        let mut norm = |norm: &plan::Norm| load_norm(backend, norm, weights);
        Ok(Self {
            input_norm: norm(&plan.input_norm)?,
            attention_norm: plan.attention_norm.as_ref().map(&mut norm).transpose()?,
            feed_forward_norm: norm(&plan.feed_forward_norm)?,
            added_norm: plan.added_norm.as_ref().map(&mut norm).transpose()?,
            attention: Attention::load(backend, &plan.attention, weights)?,
            feed_forward: Block::load(backend, &plan.feed_forward, weights)?,
        })
    }

    fn forward(
        &self,
        of: &Model<B>,
        x: B::Tensor,
        positions: &Positions<B>,
        cache: &mut B::Cache,
        only_last: bool,
    ) -> Result<B::Tensor> {
        let on = &of.backend;
        let mut attended = self.attention.forward(of, &on.rms_norm(&x, &self.input_norm)?, positions, cache)?;
        let mut x = x;
        if only_last {
            attended = on.last(&attended)?;
            x = on.last(&x)?;
        }
        let added = normalized(on, self.attention.output.apply(on, &attended)?, self.attention_norm.as_ref())?;
        let x = on.add(&x, &added)?;
        let added = self.feed_forward.forward(on, &on.rms_norm(&x, &self.feed_forward_norm)?)?;
        on.add(&x, &normalized(on, added, self.added_norm.as_ref())?)
    }
}

impl<B: Backend> Attention<B> {
    fn load(backend: &mut B, plan: &plan::Attention, weights: &dyn Checkpoint) -> Result<Self> {
        let &plan::Attention { heads, kv_heads, head_dim, rotation, scale, .. } = plan;
        let mut norm = |norm: &plan::Norm| load_norm(backend, norm, weights);
        let q_norm = plan.q_norm.as_ref().map(&mut norm).transpose()?;
        let k_norm = plan.k_norm.as_ref().map(&mut norm).transpose()?;
        let sinks = plan.sinks.as_ref().map(|name| backend.vector(vec![weights.read(name)?])).transpose()?;
        Ok(Self {
            qkv: Linear::load(backend, &plan.qkv, weights)?,
            shape: HeadShape { heads, kv_heads, head_dim },
            q_norm,
            k_norm,
            rotation,
            scale,
            sinks,
            output: Linear::load(backend, &plan.output, weights)?,
        })
    }

    /// Attention before its output projection: [T, heads * head_dim].
    fn forward(
        &self,
        of: &Model<B>,
        x: &B::Tensor,
        positions: &Positions<B>,
        cache: &mut B::Cache,
    ) -> Result<B::Tensor> {
        let on = &of.backend;
        let [queries, keys, values] = on.split_heads(&self.qkv.apply(on, x)?, self.shape)?;
        let mut queries = normalized(on, queries, self.q_norm.as_ref())?;
        let mut keys = normalized(on, keys, self.k_norm.as_ref())?;
        if let Some(at) = self.rotation {
            keys = on.rotate(&keys, &of.rotations[at], &positions[at])?;
            queries = on.rotate(&queries, &of.rotations[at], &positions[at])?;
        }
        on.append(cache, &keys, &values)?;
        on.attend(&queries, cache, self.scale, self.sinks.as_ref())
    }
}

impl<B: Backend> Block<B> {
    fn load(backend: &mut B, plan: &FeedForward, weights: &dyn Checkpoint) -> Result<Self> {
        Ok(match plan {
            FeedForward::Dense(dense) => Self::Dense {
                gate_up: Linear::load(backend, &dense.gate_up, weights)?,
                activation: dense.activation,
                down: Linear::load(backend, &dense.down, weights)?,
            },
            FeedForward::Experts(experts) => {
                let &plan::Experts { per_token, normalized, activation, .. } = experts;
                Self::Experts {
                    router: Linear::load(backend, &experts.router, weights)?,
                    routing: Routing { per_token, normalized, activation },
                    experts: backend.experts(weights.experts(experts)?)?,
                }
            }
        })
    }

    fn forward(&self, on: &B, x: &B::Tensor) -> Result<B::Tensor> {
        match self {
            Self::Dense { gate_up, activation, down } => down.apply(on, &on.gate(&gate_up.apply(on, x)?, *activation)?),
            Self::Experts { router, routing, experts } => on.mix(x, &router.apply(on, x)?, experts, *routing),
        }
    }
}

impl<B: Backend> Linear<B> {
    fn load(backend: &mut B, plan: &plan::Matrix, weights: &dyn Checkpoint) -> Result<Self> {
        let parts = plan.parts.iter().map(|part| weights.matrix(&part.name)).collect::<Result<_>>()?;
        let matrix = backend.linear(parts)?;
        let bias = |part: &plan::Part| weights.read(&format!("{}.bias", part.name));
        let bias = match plan.bias {
            true => Some(backend.vector(plan.parts.iter().map(bias).collect::<Result<_>>()?)?),
            false => None,
        };
        Ok(Self { matrix, bias })
    }

    fn apply(&self, on: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let product = on.apply(x, &self.matrix)?;
        match &self.bias {
            Some(bias) => on.add_vector(&product, bias),
            None => Ok(product),
        }
    }
}

fn load_norm<B: Backend>(backend: &mut B, plan: &plan::Norm, weights: &dyn Checkpoint) -> Result<B::Norm> {
    backend.norm(weights.read(&format!("{}.weight", plan.name))?, plan.eps, plan.plus_one)
}

fn normalized<B: Backend>(on: &B, x: B::Tensor, norm: Option<&B::Norm>) -> Result<B::Tensor> {
    match norm {
        Some(norm) => on.rms_norm(&x, norm),
        None => Ok(x),
    }
}

fn check_tied(table: &Weight, head: &Weight) -> Result<()> {
    if table.same_values(head) {
        return Ok(());
    }
    Err(EngineError::model(format!(
        "tensor {} differs from {}, but config.json says tie_word_embeddings = true; set it to false",
        head.name(),
        table.name()
    )))
}

/// The KV cache of one conversation: every layer's keys and values, and their tokens.
pub struct KvCache<B: Backend> {
    layers: Vec<B::Cache>,
    tokens: Vec<u32>,
    /// Of a rotating cache.
    window: Option<usize>,
}

impl<B: Backend> KvCache<B> {
    /// Positions that attention sees, measured on the layers themselves. The sliding windows of the
    /// model do not count, a rotating cache does.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen().min(self.window.unwrap_or(usize::MAX))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions appended so far; the number of the next position.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.layers.iter().map(LayerCache::seen).min().unwrap_or(0)
    }

    /// The known tokens of the appended positions, in order.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Records the tokens of the positions after the known ones.
    pub fn note(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// Removes the positions after the known tokens.
    pub fn forget_unknown(&mut self) {
        let known = self.tokens.len();
        self.layers.iter_mut().for_each(|layer| layer.truncate(known));
    }

    /// Lets [`KvCache::keep`] remove up to `count` positions from the end, whatever the windows.
    pub fn allow_removing(&mut self, count: usize) {
        self.layers.iter_mut().for_each(|layer| layer.extent_mut().allow_removing(count));
    }

    /// Keeps as many of the first tokens as `tokens` begins with, but at most `most`, or none if a
    /// rotating cache has dropped positions that these need.
    pub fn keep_common(&mut self, tokens: &[u32], most: usize) {
        let common = self.tokens.iter().zip(tokens).take_while(|(held, wanted)| held == wanted).count();
        self.keep(common.min(most));
    }

    /// Keeps the positions of the first `len` tokens, or none if a rotating cache has dropped
    /// positions that these need.
    pub fn keep(&mut self, len: usize) {
        let len = if self.layers.iter().all(|layer| layer.can_truncate(len)) { len } else { 0 };
        self.layers.iter_mut().for_each(|layer| layer.truncate(len));
        self.tokens.truncate(len);
    }

    /// Makes room for `len` positions in total.
    ///
    /// # Errors
    /// When the backend has not enough memory.
    pub fn reserve(&mut self, len: usize) -> Result<()> {
        self.tokens.reserve(len.saturating_sub(self.tokens.len()));
        self.layers.iter_mut().try_for_each(|layer| layer.reserve(len))
    }

    /// Bytes allocated.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(LayerCache::bytes).sum()
    }
}
