//! The transformer on MLX: its toggles, and how a model is opened. Only in builds with MLX.

use std::path::Path;

use mlx_rs::error::Exception;
use mlx_rs::{Dtype, memory};

use super::checkpoint::Opened;
use super::mlx::device::{Found, device};
use super::mlx::{self, MlxBackend};
use super::model::Model;
use super::session::{LAZY_TOGGLES, REQUEST_TOGGLES, TransformerSession};
use super::{LoadSettings, details, draft_model, identity, kv_cache, receipt, with_draft_model};
use crate::serial::Serial;
use inferometer_host::{Result, Session};
use inferometer_protocol::sampling::FIELDS;
use inferometer_protocol::toggle::{
    CACHE_LIMIT, COMPILE, DRAFT_MODEL, DTYPE, KV_CACHE, KV_DTYPE, MEMORY_LIMIT, THREADS, WIRED_LIMIT,
};
use inferometer_protocol::{Capabilities, EngineError, Honours, Receipt, Settings, Value};

/// The memory limit is soft: above it, MLX waits for running work before it starts more.
const LOAD_TOGGLES: [&str; 6] = [DTYPE, KV_CACHE, COMPILE, MEMORY_LIMIT, CACHE_LIMIT, DRAFT_MODEL];
/// Weights can be converted to these when they are loaded.
const DTYPES: [(&str, Dtype); 3] = [("f32", Dtype::Float32), ("f16", Dtype::Float16), ("bf16", Dtype::Bfloat16)];

/// Why MLX cannot be used on this machine.
pub fn missing() -> Option<String> {
    device().err()
}

/// Why `auto` should not take MLX on this machine, though it works.
pub fn doubt() -> Option<String> {
    device().ok().and_then(Found::doubt)
}

/// MLX's device.
pub fn place() -> Option<String> {
    device().ok().map(|found| found.name.clone())
}

pub fn honours() -> Honours {
    let mut toggles: Vec<_> = REQUEST_TOGGLES.into_iter().chain(LAZY_TOGGLES).chain(LOAD_TOGGLES).collect();
    let mut refused = vec![
        (THREADS, "MLX has no setting for threads: Metal has none, and on the CPU its BLAS chooses"),
        (KV_DTYPE, "on MLX, keys and values have the format of the activations, which dtype sets"),
    ];
    if device().is_ok_and(|found| found.gpu) {
        toggles.push(WIRED_LIMIT);
    } else {
        refused.push((WIRED_LIMIT, "wired memory needs Metal, and this is MLX on the CPU"));
    }
    Honours { toggles: Some(toggles), choices: &[(DTYPE, &["f32", "f16", "bf16"])], sampling: Some(FIELDS), refused }
}

/// MLX's memory and its limits belong to the process, so sessions take turns, opening included.
pub fn open(folder: &Path, settings: &LoadSettings) -> Result<Box<dyn Session>> {
    let device = device().map_err(EngineError::unsupported)?;
    Ok(Box::new(Serial::open(|| open_on(device, folder, settings))?))
}

fn open_on(device: &Found, folder: &Path, settings: &LoadSettings) -> Result<TransformerSession<MlxBackend>> {
    let (config, weights, text) = Opened::open(folder)?.parts(folder)?;
    let limits = limits(settings)?;
    let named = |(name, _): &&(&str, Dtype)| settings.text(DTYPE) == Some(name);
    let dtype = DTYPES.iter().find(named).map(|(_, dtype)| *dtype);
    // On the CPU, MLX runs a C++ compiler for this, which may be missing.
    let compiled = settings.flag(COMPILE).unwrap_or_else(MlxBackend::on_gpu);
    let model = Model::load(MlxBackend::new(dtype, compiled), config, &*weights, settings.window())?;
    if let (Some(asked), Some(form)) = (settings.text(DTYPE), model.held().formats.iter().find(|f| f.starts_with('q')))
    {
        return Err(EngineError::unsupported(format!(
            "dtype = {asked:?}: this model's matrices are quantized ({form}) and stay so; leave dtype out"
        )));
    }
    if let (Some(why), true) = (&device.no_bf16, model.held().formats.iter().any(|form| *form == "bf16")) {
        return Err(EngineError::unsupported(format!(
            "bf16 does not work on {} ({why}): load the model with dtype f32 or f16, or use another machine",
            device.name
        )));
    }
    let mut in_force = limits;
    in_force.extend([
        (DTYPE.to_owned(), model.held().format().into()),
        (COMPILE.to_owned(), compiled.into()),
        kv_cache(settings.window()),
        draft_model(settings),
    ]);
    let common = receipt(mlx::NAME, &device.name, &text, &honours());
    let mut facts = details(model.held());
    facts.extend(device.details.clone());
    let receipt = Receipt {
        capabilities: Capabilities { clear_cache: true, ..common.capabilities },
        model: identity::identity(folder, &model.config, &*weights, model.held())?,
        details: facts,
        settings: in_force,
        ..common
    };
    let session = TransformerSession::new(model, text, receipt);
    session.warm_up()?;
    with_draft_model(session, settings, |_| MlxBackend::new(dtype, compiled))
}

impl LoadSettings {
    fn flag(&self, toggle: &str) -> Option<bool> {
        match self.0.get(toggle) {
            Some(Value::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }
}

/// Sets a limit in bytes and returns the previous one.
type Set = fn(usize) -> std::result::Result<usize, Exception>;

/// Sets the allocator's limits and returns the effective ones, requested or not. They apply to the
/// process.
fn limits(settings: &LoadSettings) -> Result<Settings> {
    let setters: [(&str, Set); 3] = [
        (MEMORY_LIMIT, memory::set_memory_limit),
        (CACHE_LIMIT, memory::set_cache_limit),
        (WIRED_LIMIT, memory::set_wired_limit),
    ];
    let mut in_force = Settings::new();
    for (toggle, set) in setters {
        let asked = settings.0.get(toggle).and_then(Value::as_count);
        // MLX can read the wired limit only by changing it for a moment.
        if asked.is_none() && toggle == WIRED_LIMIT {
            continue;
        }
        let set = |bytes: usize| {
            set(bytes).map_err(|error| EngineError::bad_request(format!("{toggle} = {bytes}: mlx: {error}")))
        };
        // Setting returns the previous limit: the second call returns the effective result of the
        // first.
        let before = set(asked.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)))?;
        let came_to = set(asked.map_or(before, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)))?;
        in_force.insert(toggle.to_owned(), if asked.is_some() { came_to } else { before }.into());
    }
    Ok(in_force)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{config, folder, prompt, quantized, request, run, tensors, write_model};
    use super::*;

    #[test]
    fn every_toggle_is_honoured_or_refused_with_a_reason() {
        let honours = honours();
        for toggle in inferometer_protocol::toggle::TOGGLES {
            let honoured = honours.honours(toggle.name) == Some(true);
            assert_ne!(honoured, honours.reason(toggle.name).is_some(), "{}", toggle.name);
        }
        assert_eq!(honours.choices_of(DTYPE), Some(DTYPES.map(|(name, _)| name).as_slice()));
    }

    #[test]
    fn a_quantized_folder_keeps_its_format_and_says_so() {
        let mut json = config("llama");
        json["quantization"] = serde_json::json!({"group_size": 32, "bits": 4});
        let dir = tempfile::tempdir().unwrap();
        write_model(dir.path(), &json, &quantized(&json, tensors(&json, 1)));
        let with = |settings| open(dir.path(), &LoadSettings(settings));
        assert_eq!(with(Settings::new()).unwrap().receipt().settings[DTYPE], "q4".into());
        let error = with(Settings::from([(DTYPE.to_owned(), "bf16".into())])).err().unwrap();
        assert!(error.message.contains("dtype = \"bf16\"") && error.message.contains("q4"), "{error}");
    }

    /// Both apply to the process, so the test restores them.
    #[test]
    fn limits_are_read_back() {
        let setters: [(&str, Set); 2] =
            [(MEMORY_LIMIT, memory::set_memory_limit), (CACHE_LIMIT, memory::set_cache_limit)];
        let asked = Settings::from(setters.map(|(toggle, _)| (toggle.to_owned(), Value::Int(1 << 33))));
        let before = setters.map(|(_, set)| set(1 << 34).unwrap());
        let in_force = limits(&LoadSettings(asked.clone())).unwrap();
        setters.iter().zip(before).for_each(|((_, set), bytes)| assert_eq!(set(bytes).unwrap(), 1 << 33));
        assert_eq!(in_force, asked);
        let left = limits(&LoadSettings(Settings::new())).unwrap();
        for ((toggle, set), bytes) in setters.iter().zip(before) {
            assert_eq!(left[*toggle], bytes.into(), "what is not asked for is said, and left as it is");
            assert_eq!(set(bytes).unwrap(), bytes);
        }
    }

    /// Sessions behind the lock, working on several threads at the same time.
    #[test]
    fn sessions_of_two_threads_give_the_tokens_they_give_alone() {
        let dirs = ["llama", "qwen3"].map(|arch| folder(&config(arch)));
        let tokens = |dir: &tempfile::TempDir, rounds: usize| -> Vec<Vec<u32>> {
            let mut session = open(dir.path(), &LoadSettings(Settings::new())).unwrap();
            let mut once = || {
                session.reset().unwrap();
                run(&mut *session, &request(prompt(20), 12)).unwrap().0
            };
            (0..rounds).map(|_| once()).collect()
        };
        let alone = dirs.each_ref().map(|dir| tokens(dir, 1).remove(0));
        let together = std::thread::scope(|scope| {
            dirs.each_ref().map(|dir| scope.spawn(move || tokens(dir, 8))).map(|thread| thread.join().unwrap())
        });
        for (alone, together) in alone.iter().zip(together) {
            assert!(together.iter().all(|tokens| tokens == alone), "{together:?} and not {alone:?}");
        }
        assert_eq!(mlx::calls::overlaps(), 0, "calls of two sessions overlapped");
    }
}
