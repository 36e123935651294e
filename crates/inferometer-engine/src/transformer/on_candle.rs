//! The transformer on candle: its toggles, and how a model is opened.

use std::path::Path;

use super::candle::cache::Element;
use super::candle::threads::{self, Threads};
use super::candle::{self, CandleBackend, Format};
use super::checkpoint::{Checkpoint, Opened};
use super::model::Model;
use super::session::{REQUEST_TOGGLES, TransformerSession};
use super::{LoadSettings, details, draft_model, identity, kv_cache, receipt, with_draft_model};
use inferometer_host::{Result, Session, heap};
use inferometer_protocol::sampling::FIELDS;
use inferometer_protocol::toggle::{
    CACHE_CLEAR_CHUNKS, CACHE_CLEAR_TOKENS, CACHE_LIMIT, COMPILE, DRAFT_MODEL, DTYPE, KV_CACHE, KV_DTYPE,
    LAZY_PIPELINE, MEMORY_LIMIT, THREADS, WIRED_LIMIT,
};
use inferometer_protocol::{Honours, Receipt, Settings};

const LOAD_TOGGLES: [&str; 5] = [THREADS, DTYPE, KV_CACHE, KV_DTYPE, DRAFT_MODEL];

const NO_LIMITS: &str = "candle takes memory from the system's allocator, which has no limit to set";
const NO_CACHE: &str = "candle has no allocator cache to clear";
const REFUSED: [(&str, &str); 7] = [
    (MEMORY_LIMIT, NO_LIMITS),
    (CACHE_LIMIT, NO_LIMITS),
    (WIRED_LIMIT, NO_LIMITS),
    (CACHE_CLEAR_CHUNKS, NO_CACHE),
    (CACHE_CLEAR_TOKENS, NO_CACHE),
    (COMPILE, "candle runs each operation when it is called; there is no graph to compile"),
    (LAZY_PIPELINE, "candle runs each operation when it is called; no step can be submitted ahead"),
];

pub fn honours() -> Honours {
    Honours {
        toggles: Some(REQUEST_TOGGLES.into_iter().chain(LOAD_TOGGLES).collect()),
        choices: &[(DTYPE, &["f32", "f16", "bf16", "q8_0"]), (KV_DTYPE, &["f32", "f16"])],
        sampling: Some(FIELDS),
        refused: REFUSED.into(),
    }
}

/// What candle reads from the environment of its process.
pub fn environment(settings: &LoadSettings, cpus: Option<usize>) -> Vec<(&'static str, String)> {
    threads::environment(settings.count(THREADS), cpus)
}

pub fn open(folder: &Path, settings: &LoadSettings) -> Result<Box<dyn Session>> {
    let named = |format: &Format| settings.text(DTYPE) == Some(format.name());
    let (config, weights, text) = Opened::open(folder)?.parts(folder)?;
    let element = Element::ALL.into_iter().find(|element| settings.text(KV_DTYPE) == Some(element.name()));
    let element = element.unwrap_or(Element::F32);
    let threads = threads::set(settings.count(THREADS))?;
    let backend = |weights: &dyn Checkpoint| {
        let format = Format::ALL.into_iter().find(named).unwrap_or_else(|| Format::nearest(weights.mostly()));
        CandleBackend::new(format, threads).with_cache(element)
    };
    let model = Model::load(backend(&*weights), config, &*weights, settings.window())?;
    let mut facts = details(model.held());
    facts.extend(cpu_facts(threads));
    let receipt = Receipt {
        model: identity::identity(folder, &model.config, &*weights, model.held())?,
        details: facts,
        settings: Settings::from([
            (THREADS.to_owned(), threads.rayon.max(threads.quantized).into()),
            (DTYPE.to_owned(), model.held().format().into()),
            (KV_DTYPE.to_owned(), element.name().into()),
            kv_cache(settings.window()),
            draft_model(settings),
        ]),
        ..receipt(candle::NAME, "cpu", &text, &honours())
    };
    let session = TransformerSession::new(model, text, receipt);
    // candle repacks matrices for the processor on first use, which belongs to loading.
    session.warm_up()?;
    let session = with_draft_model(session, settings, backend)?;
    // The warm-up's cache and what was converted on the way are gone.
    heap::give_back_freed();
    Ok(Box::new(session))
}

fn cpu_facts(threads: Threads) -> [(String, String); 4] {
    [
        ("cpu_features".to_owned(), candle::cpu_features().join(" ")),
        ("rayon_threads".to_owned(), threads.rayon.to_string()),
        ("quantized_products".to_owned(), candle::quantized_products()),
        ("quantized_product_threads".to_owned(), threads.quantized.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::testing::{config, folder, prompt, request, run};
    use super::*;

    #[test]
    fn every_dtype_that_is_offered_is_a_format() {
        assert_eq!(honours().choices_of(DTYPE), Some(Format::ALL.map(Format::name).as_slice()));
        assert_eq!(honours().choices_of(KV_DTYPE), Some(Element::ALL.map(Element::name).as_slice()));
    }

    #[test]
    fn memory_is_that_of_weights_and_caches_and_f16_takes_half() {
        let dir = folder(&config("llama"));
        let cache = |kv_dtype: &str| {
            let settings = LoadSettings(Settings::from([(KV_DTYPE.to_owned(), kv_dtype.into())]));
            let mut session = open(dir.path(), &settings).unwrap();
            let (receipt, probe) = (session.receipt(), session.memory_probe().unwrap());
            assert_eq!(receipt.settings[KV_DTYPE], kv_dtype.into());
            let weights = receipt.model.weight_bytes.unwrap();
            assert_eq!((probe().active_bytes, probe().kv_cache_bytes), (Some(weights), Some(0)));
            run(&mut *session, &request(prompt(20), 12)).unwrap();
            let cache = session.memory().kv_cache_bytes.unwrap();
            assert_eq!((probe().active_bytes, probe().kv_cache_bytes), (Some(weights + cache), Some(cache)));
            // Activations are not known, so there is no peak to report.
            assert_eq!((probe().peak_bytes, probe().cache_bytes), (None, None));
            session.reset().unwrap();
            assert_eq!(probe().active_bytes, Some(weights));
            cache
        };
        let (wide, narrow) = (cache("f32"), cache("f16"));
        assert!(narrow > 0 && wide == 2 * narrow, "{wide} and {narrow}");
    }

    #[test]
    fn a_draft_model_counts_in_memory_and_has_an_identity() {
        let dir = folder(&config("llama"));
        let path = dir.path().to_str().unwrap();
        let settings = LoadSettings(Settings::from([(DRAFT_MODEL.to_owned(), path.into())]));
        let mut session = open(dir.path(), &settings).unwrap();
        let (receipt, probe) = (session.receipt(), session.memory_probe().unwrap());
        // The same folder drafts for itself.
        assert_eq!(receipt.details.get("draft_fingerprint"), receipt.model.fingerprint.as_ref());
        let weights = 2 * receipt.model.weight_bytes.unwrap();
        assert_eq!((probe().active_bytes, session.memory().active_bytes), (Some(weights), Some(weights)));
        let mut drafted = request(prompt(20), 12);
        drafted.toggles.insert("num_draft_tokens".to_owned(), 4u32.into());
        run(&mut *session, &drafted).unwrap();
        let cache = session.memory().kv_cache_bytes.unwrap();
        assert!(cache > 0);
        assert_eq!((probe().active_bytes, probe().kv_cache_bytes), (Some(weights + cache), Some(cache)));
        assert_eq!(session.memory().active_bytes, Some(weights + cache));
    }
}
