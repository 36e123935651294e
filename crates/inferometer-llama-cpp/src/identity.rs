//! The receipt: which model and which llama.cpp, and what is in force.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};
use std::path::Path;

use inferometer_host::Result;
use inferometer_host::protocol::toggle::{KV_CACHE, KV_DTYPE, THREADS};
use inferometer_host::protocol::{Capabilities, EngineError, ModelIdentity, Receipt, Settings, TokenTiming, Value};
use llama_cpp_2::model::{LlamaChatMessage, LlamaModel};
use llama_cpp_2::{LlamaBackendDeviceType, list_llama_ggml_backend_devices};

use crate::loaded::Loaded;
use crate::options::{BATCH, CONTEXT, FLASH_ATTENTION, GPU_LAYERS, MLOCK, MMAP};
use crate::printed::{flash_attention, offloaded, tensor_types, weight_format};
use crate::{NAME, file, offer};

/// The crate with llama.cpp, and the one with its sources; the manifest pins both.
const BINDINGS: &str = "llama-cpp-2 0.1.160 (llama-cpp-sys-2 0.1.161)";

/// Says what was loaded from `path` and how it runs.
///
/// # Errors
/// When the file cannot be read.
pub fn receipt(loaded: &Loaded, path: &Path) -> Result<Receipt> {
    let honours = offer().honours;
    let (has_text, has_template) = (has_tokenizer(loaded.model()), renders(loaded.model()));
    Ok(Receipt {
        engine: NAME.to_owned(),
        version: BINDINGS.to_owned(),
        commit: text(commit()).filter(|commit| commit != "unknown"),
        backend: text(version()).map(|version| format!("ggml {version}")),
        device: Some(device(loaded)),
        model: model(loaded, path)?,
        capabilities: Capabilities {
            tokens: true,
            text: has_text,
            messages: has_text && has_template,
            forced_tokens: true,
            cancel: true,
            reset: true,
            memory: true,
            choices: true,
            logprobs: true,
            // The host adds what it does for every engine.
            ..Capabilities::default()
        },
        toggles: honours.toggles.iter().flatten().map(|name| (*name).to_owned()).collect(),
        sampling: honours.sampling.into_iter().flatten().map(|name| (*name).to_owned()).collect(),
        not_honoured: honours.refused.iter().map(|(name, why)| ((*name).to_owned(), (*why).to_owned())).collect(),
        token_timing: TokenTiming::Exact,
        works_in: None,
        deterministic: true,
        includes: vec!["tokenization".to_owned(), "sampling".to_owned()],
        settings: settings(loaded),
        details: details(loaded, has_template),
    })
}

fn settings(loaded: &Loaded) -> Settings {
    let (options, limits) = (&loaded.options, loaded.limits());
    let decided = flash_attention(loaded.printed.lines());
    let flash = decided.map_or(options.flash_attention.name(), |used| if used { "on" } else { "off" });
    let on_gpu = offloaded(loaded.printed.lines()).map(|(layers, _)| (GPU_LAYERS.to_owned(), layers.into()));
    let all: [(&str, Value); 8] = [
        (THREADS, i64::from(loaded.threads).into()),
        (KV_DTYPE, options.kv_type.name().into()),
        (KV_CACHE, "full".into()),
        (CONTEXT, limits.context.into()),
        (BATCH, limits.pass.into()),
        (FLASH_ATTENTION, flash.into()),
        (MMAP, options.mmap.into()),
        (MLOCK, options.mlock.into()),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(on_gpu).collect()
}

fn model(loaded: &Loaded, path: &Path) -> Result<ModelIdentity> {
    let (model, whole) = (loaded.model(), path.canonicalize().unwrap_or_else(|_| path.to_owned()));
    let fingerprint = file::fingerprint(path).map_err(|error| EngineError::model(error.to_string()))?;
    Ok(ModelIdentity {
        name: whole.file_name().unwrap_or(whole.as_os_str()).to_string_lossy().into_owned(),
        path: path.display().to_string(),
        architecture: model.meta_val_str("general.architecture").ok(),
        parameters: Some(model.n_params()),
        weight_bytes: Some(model.size()),
        weight_format: weight_format(&tensor_types(loaded.printed.lines())),
        fingerprint: Some(fingerprint),
        vocabulary: Some(loaded.limits().vocabulary),
        // Longer prompts are refused, whatever the model was trained with.
        context_length: u32::try_from(loaded.limits().context).ok(),
        synthetic: false,
    })
}

fn details(loaded: &Loaded, has_template: bool) -> BTreeMap<String, String> {
    let trained = loaded.model().n_ctx_train();
    let context = match loaded.options.context {
        Some(_) => format!("as the option `{CONTEXT}` says; the model was trained with {trained}"),
        None if trained > loaded.limits().context as u32 => {
            format!("less than the model's {trained}, to save memory; set the option `{CONTEXT}` for more")
        }
        None => format!("the model's, {trained}"),
    };
    let template = match (has_template, loaded.model().chat_template(None).is_ok()) {
        (true, _) => "rendered by llama.cpp's own code for templates that it recognizes",
        (false, true) => "not one that llama.cpp recognizes",
        (false, false) => "none",
    };
    let types = tensor_types(loaded.printed.lines());
    let types: Vec<String> = types.iter().map(|(name, count)| format!("{name}: {count}")).collect();
    let layers = offloaded(loaded.printed.lines()).map(|(on, all)| format!("{on} of {all}"));
    let facts = [
        ("build", Some(if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned())),
        ("target", Some(format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS))),
        ("llama_cpp_build", Some(env!("LLAMA_CPP_BUILD").to_owned())),
        ("llama_cpp_system", text(system_info())),
        ("context", Some(context)),
        ("n_batch", Some(loaded.n_batch().to_string())),
        ("chat_template", Some(template.to_owned())),
        ("tensor_types", Some(types.join(", "))),
        ("gpu_layers", layers),
    ];
    let known = facts.into_iter().filter_map(|(name, fact)| Some((name.to_owned(), fact?)));
    known.filter(|(_, fact)| !fact.is_empty()).collect()
}

/// Where layers are computed.
fn device(loaded: &Loaded) -> String {
    use LlamaBackendDeviceType::{Gpu, IntegratedGpu};
    let on_gpu = offloaded(loaded.printed.lines()).is_some_and(|(layers, _)| layers > 0);
    let devices = list_llama_ggml_backend_devices().into_iter();
    let gpus = devices.filter(|device| on_gpu && matches!(device.device_type, Gpu | IntegratedGpu));
    let names: Vec<String> = gpus.map(|device| format!("{}: {}", device.backend, device.description)).collect();
    if names.is_empty() { "cpu".to_owned() } else { names.join(", ") }
}

fn has_tokenizer(model: &LlamaModel) -> bool {
    model.meta_val_str("tokenizer.ggml.model").is_ok_and(|name| name != "none" && name != "no_vocab")
}

/// Whether llama.cpp can render the model's chat template: it recognizes some by their text.
fn renders(model: &LlamaModel) -> bool {
    let Ok(template) = model.chat_template(None) else { return false };
    let message = LlamaChatMessage::new("user".to_owned(), "Hello".to_owned());
    message.is_ok_and(|message| model.apply_chat_template(&template, &[message], true).is_ok())
}

fn text(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the three functions below return texts that end in a zero byte and are valid until
    // the same function is called again, which happens on this thread only.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().trim().to_owned()).filter(|text| !text.is_empty())
}

fn system_info() -> *const c_char {
    // SAFETY: reads constants of the library; takes no arguments.
    unsafe { llama_cpp_sys_2::llama_print_system_info() }
}

fn version() -> *const c_char {
    // SAFETY: returns a constant; takes no arguments.
    unsafe { llama_cpp_sys_2::ggml_version() }
}

fn commit() -> *const c_char {
    // SAFETY: returns a constant; takes no arguments.
    unsafe { llama_cpp_sys_2::ggml_commit() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_the_manifest_pins() {
        let manifest = include_str!("../Cargo.toml");
        for part in BINDINGS.replace(['(', ')'], "").split(' ').collect::<Vec<_>>().chunks(2) {
            assert!(manifest.contains(&format!("{} = {{ version = \"={}\"", part[0], part[1])), "{part:?}");
        }
    }
}
