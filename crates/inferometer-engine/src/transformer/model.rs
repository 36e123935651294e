//! The forward pass of Llama and Qwen3, written once for every backend.
//!
//! Sources: Touvron et al., "LLaMA" (2023); Qwen team, "Qwen3 Technical Report" (2025):
//! pre-normalized blocks, rotary positions, grouped-query attention, SwiGLU feed-forward; Qwen3
//! also normalizes each query and key head.

use super::backend::{Backend, HeadShape, Held, LayerCache};
use super::config::Config;
use super::finite::Place;
use super::quantized::Weight;
use super::rope::frequencies;
use super::weights::{Expected, WeightFolder};
use inferometer_host::Result;

const EMBEDDING: &str = "model.embed_tokens.weight";
const FINAL_NORM: &str = "model.norm.weight";
const HEAD: &str = "lm_head.weight";

/// Every tensor that a model of this shape has.
#[must_use]
pub fn expected(config: &Config) -> Vec<Expected> {
    let mut list = vec![
        tensor(config, EMBEDDING, &[config.vocabulary, config.hidden]),
        tensor(config, FINAL_NORM, &[config.hidden]),
    ];
    if !config.tied {
        list.push(tensor(config, HEAD, &[config.vocabulary, config.hidden]));
    }
    let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    for layer in 0..config.layers {
        let mut add = |part: &str, shape: &[usize]| list.push(tensor(config, &in_layer(layer, part), shape));
        add("input_layernorm", &[config.hidden]);
        add("self_attn.q_proj", &[queries, config.hidden]);
        add("self_attn.k_proj", &[keys, config.hidden]);
        add("self_attn.v_proj", &[keys, config.hidden]);
        add("self_attn.o_proj", &[config.hidden, queries]);
        if config.normalizes_heads() {
            add("self_attn.q_norm", &[config.head_dim]);
            add("self_attn.k_norm", &[config.head_dim]);
        }
        add("post_attention_layernorm", &[config.hidden]);
        add("mlp.gate_proj", &[config.intermediate, config.hidden]);
        add("mlp.up_proj", &[config.intermediate, config.hidden]);
        add("mlp.down_proj", &[config.hidden, config.intermediate]);
    }
    list
}

/// The output projection, which a tied model's file may contain too; it must then equal the
/// embedding.
#[must_use]
pub fn optional(config: &Config) -> Vec<Expected> {
    if config.tied { vec![tensor(config, HEAD, &[config.vocabulary, config.hidden])] } else { Vec::new() }
}

fn tensor(config: &Config, name: &str, shape: &[usize]) -> Expected {
    let quantized = match (&config.stored, shape) {
        (Some(stored), [_, columns]) => stored.of(name.trim_end_matches(".weight"), *columns),
        _ => None,
    };
    Expected { name: name.to_owned(), shape: shape.to_vec(), quantized }
}

fn in_layer(layer: usize, part: &str) -> String {
    format!("model.layers.{layer}.{part}.weight")
}

/// A loaded model.
pub struct Model<B: Backend> {
    pub backend: B,
    pub config: Config,
    embedding: B::Embedding,
    layers: Vec<Layer<B>>,
    norm: B::Norm,
    head: B::Linear,
    rotation: B::Rotation,
    /// Most positions that attention sees; `None` = all.
    window: Option<usize>,
}

struct Layer<B: Backend> {
    input_norm: B::Norm,
    /// Queries, keys and values, stacked.
    qkv: B::Linear,
    q_norm: Option<B::Norm>,
    k_norm: Option<B::Norm>,
    output: B::Linear,
    post_norm: B::Norm,
    /// Gate and up, stacked.
    gate_up: B::Linear,
    down: B::Linear,
}

impl<B: Backend> Model<B> {
    /// Gives every tensor to the backend. `weights` has been checked against [`expected`]. With a
    /// window, caches are rotating: they hold only the last `window` positions, and attention sees
    /// only these.
    ///
    /// # Errors
    /// When a file cannot be read, a tied head differs from the embedding, or the backend cannot
    /// hold a tensor.
    pub fn load(mut backend: B, config: Config, weights: &WeightFolder, window: Option<usize>) -> Result<Self> {
        let table = weights.matrix(EMBEDDING)?;
        if config.tied && weights.has(HEAD) {
            check_tied(&table, &weights.matrix(HEAD)?)?;
        }
        let embedding = backend.embedding(table)?;
        let head = if config.tied { backend.tied(&embedding)? } else { backend.linear(vec![weights.matrix(HEAD)?])? };
        let layers =
            (0..config.layers).map(|at| Layer::load(&mut backend, &config, weights, at)).collect::<Result<_>>()?;
        let norm = backend.norm(weights.read(FINAL_NORM)?, config.norm_eps)?;
        let frequencies = frequencies(config.head_dim, config.rope_theta, config.rope_scaling.as_ref());
        let rotation = backend.rotation(&frequencies, config.rope_scaling.is_none().then_some(config.rope_theta))?;
        Ok(Self { backend, config, embedding, layers, norm, head, rotation, window })
    }

    /// An empty cache for this model.
    ///
    /// # Errors
    /// When the backend has no memory for it.
    pub fn cache(&self) -> Result<KvCache<B>> {
        let layers = (0..self.config.layers)
            .map(|_| self.backend.cache(self.config.kv_heads, self.config.head_dim, self.window))
            .collect::<Result<_>>()?;
        Ok(KvCache { layers, tokens: Vec::new() })
    }

    /// Runs `count` ids after the cached positions and appends their keys and values. Returns the
    /// logits after the last id, [1, vocabulary]. Call [`KvCache::note`] to record which tokens the
    /// ids are.
    ///
    /// # Errors
    /// When the backend fails; the cache is then undefined and must be dropped.
    pub fn forward(&self, ids: &B::Ids, count: usize, cache: &mut KvCache<B>) -> Result<B::Tensor> {
        let x = self.layers(ids, count, cache, true)?;
        let x = self.backend.rms_norm(&x, &self.norm)?;
        self.backend.apply(&x, &self.head)
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

    /// Runs the layers on the ids: [T, hidden], or [1, hidden] with `only_last`.
    fn layers(&self, ids: &B::Ids, count: usize, cache: &mut KvCache<B>, only_last: bool) -> Result<B::Tensor> {
        let positions = self.backend.positions(&self.rotation, cache.seen(), count)?;
        let mut x = self.backend.embed(&self.embedding, ids)?;
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
        let positions = on.positions(&self.rotation, cache.seen(), ids.len())?;
        let mut x = on.embed(&self.embedding, &on.ids(ids)?)?;
        if !look(Place::Embedding, &x)? {
            return Ok(false);
        }
        for (at, (layer, cache)) in self.layers.iter().zip(&mut cache.layers).enumerate() {
            x = layer.forward(self, x, &positions, cache, false)?;
            if !look(Place::Layer(at, self.layers.len()), &x)? {
                return Ok(false);
            }
        }
        look(Place::Head, &on.apply(&on.rms_norm(&on.last(&x)?, &self.norm)?, &self.head)?)
    }

    /// What the backend says of the weights.
    pub fn held(&self) -> &Held {
        self.backend.held()
    }
}

impl<B: Backend> Layer<B> {
    fn load(backend: &mut B, config: &Config, weights: &WeightFolder, at: usize) -> Result<Self> {
        let read = |part: &str| weights.read(&in_layer(at, part));
        let all =
            |parts: &[&str]| parts.iter().map(|part| weights.matrix(&in_layer(at, part))).collect::<Result<Vec<_>>>();
        let eps = config.norm_eps;
        let mut head_norm = |part: &str| {
            if config.normalizes_heads() { Ok(Some(backend.norm(read(part)?, eps)?)) } else { Ok(None) }
        };
        Ok(Self {
            q_norm: head_norm("self_attn.q_norm")?,
            k_norm: head_norm("self_attn.k_norm")?,
            input_norm: backend.norm(read("input_layernorm")?, eps)?,
            qkv: backend.linear(all(&["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"])?)?,
            output: backend.linear(all(&["self_attn.o_proj"])?)?,
            post_norm: backend.norm(read("post_attention_layernorm")?, eps)?,
            gate_up: backend.linear(all(&["mlp.gate_proj", "mlp.up_proj"])?)?,
            down: backend.linear(all(&["mlp.down_proj"])?)?,
        })
    }

    fn forward(
        &self,
        of: &Model<B>,
        x: B::Tensor,
        positions: &B::Positions,
        cache: &mut B::Cache,
        only_last: bool,
    ) -> Result<B::Tensor> {
        let on = &of.backend;
        let mut attended = self.attention(of, &on.rms_norm(&x, &self.input_norm)?, positions, cache)?;
        let mut x = x;
        if only_last {
            attended = on.last(&attended)?;
            x = on.last(&x)?;
        }
        let x = on.add(&x, &on.apply(&attended, &self.output)?)?;
        let inside = on.gate(&on.apply(&on.rms_norm(&x, &self.post_norm)?, &self.gate_up)?)?;
        on.add(&x, &on.apply(&inside, &self.down)?)
    }

    /// Attention of one layer before its output projection: [T, heads * head_dim].
    fn attention(
        &self,
        of: &Model<B>,
        x: &B::Tensor,
        positions: &B::Positions,
        cache: &mut B::Cache,
    ) -> Result<B::Tensor> {
        let on = &of.backend;
        let &Config { heads, kv_heads, head_dim, .. } = &of.config;
        let qkv = on.apply(x, &self.qkv)?;
        let [mut queries, mut keys, values] = on.split_heads(&qkv, HeadShape { heads, kv_heads, head_dim })?;
        if let Some(norm) = &self.q_norm {
            queries = on.rms_norm(&queries, norm)?;
        }
        if let Some(norm) = &self.k_norm {
            keys = on.rms_norm(&keys, norm)?;
        }
        on.append(cache, &on.rotate(&keys, &of.rotation, positions)?, &values)?;
        on.attend(&on.rotate(&queries, &of.rotation, positions)?, cache)
    }
}

fn check_tied(table: &Weight, head: &Weight) -> Result<()> {
    if table.same_values(head) {
        return Ok(());
    }
    Err(inferometer_protocol::EngineError::model(format!(
        "tensor {HEAD} differs from {EMBEDDING}, but config.json says tie_word_embeddings = true; set it to false"
    )))
}

/// The KV cache of one conversation: every layer's keys and values, and their tokens.
pub struct KvCache<B: Backend> {
    layers: Vec<B::Cache>,
    tokens: Vec<u32>,
}

impl<B: Backend> KvCache<B> {
    /// Positions that attention sees, measured on the layers themselves.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layers.iter().map(LayerCache::len).min().unwrap_or(0)
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
