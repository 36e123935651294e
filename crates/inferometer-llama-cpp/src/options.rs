//! What a model is loaded with: the engine's options and the load-time toggles, checked.

use inferometer_host::Result;
use inferometer_host::protocol::toggle::{KV_DTYPE, Scope, THREADS, find};
use inferometer_host::protocol::{EngineError, Kind, OptionSpec, Settings, Value};

use crate::offer::{NAME, offer};

pub const CONTEXT: &str = "context";
pub const BATCH: &str = "batch";
pub const GPU_LAYERS: &str = "gpu_layers";
pub const FLASH_ATTENTION: &str = "flash_attention";
pub const MMAP: &str = "mmap";
pub const MLOCK: &str = "mlock";
/// The option of the `exec` engine with this host's own command line.
const COMMAND: &str = "command";

/// Most positions of the KV cache that are taken without being asked for: models with a context of
/// a million would need more memory than machines have.
pub const MOST_CONTEXT: u32 = 16_384;
/// The protocol's default of `prefill_chunk_size`, so that requests fit without options.
pub const DEFAULT_BATCH: u32 = 2048;
/// llama.cpp counts in `i32`.
const MOST: u64 = i32::MAX as u64;

macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($case:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($case),+ }

        impl $name {
            pub const ALL: [Self; [$($text),+].len()] = [$(Self::$case),+];
            pub const NAMES: [&str; [$($text),+].len()] = [$($text),+];

            /// As a scenario writes it.
            #[must_use]
            pub fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }

            fn of(value: &Value) -> Option<Self> {
                Self::ALL.into_iter().find(|case| value.as_text() == Some(case.name()))
            }
        }
    };
}

named!(FlashAttention { Auto = "auto", On = "on", Off = "off" });
named!(
    /// Format of keys and values in the KV cache. Formats of less than 16 bits need flash attention
    /// for the values.
    KvType {
        F32 = "f32",
        F16 = "f16",
        Bf16 = "bf16",
        Q8_0 = "q8_0",
        Q5_1 = "q5_1",
        Q5_0 = "q5_0",
        Q4_1 = "q4_1",
        Q4_0 = "q4_0",
        Iq4Nl = "iq4_nl",
    }
);

/// The checked options of one load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Positions of the KV cache; `None`: the model's context, at most [`MOST_CONTEXT`].
    pub context: Option<u32>,
    /// Most tokens in one forward pass.
    pub batch: u32,
    /// Layers on the GPU; `None`: all.
    pub gpu_layers: Option<u32>,
    pub flash_attention: FlashAttention,
    pub kv_type: KvType,
    pub mmap: bool,
    pub mlock: bool,
    /// `None` leaves the choice to the engine.
    pub threads: Option<i32>,
}

impl Options {
    /// Checks the options of an engine and its load-time toggles.
    ///
    /// # Errors
    /// `unsupported` for an unknown name, `bad_request` for a value out of range; both name it.
    pub fn of(options: &Settings, toggles: &Settings) -> Result<Self> {
        let offer = offer();
        for (name, value) in options.iter().filter(|(name, _)| *name != COMMAND) {
            let known = offer.options.iter().find(|option| option.name == name).ok_or_else(|| {
                let names: Vec<&str> = offer.options.iter().map(|option| option.name).collect();
                EngineError::unsupported(format!(
                    "the {NAME} engine has no option {name:?}; it has {}",
                    names.join(", ")
                ))
            })?;
            check(known, value)?;
        }
        for (name, value) in toggles {
            let known = find(name).filter(|t| t.scope == Scope::Load && offer.honours.honours(name) == Some(true));
            let toggle = known.ok_or_else(|| {
                let reason = offer.honours.reason(name).map(|reason| format!(": {reason}")).unwrap_or_default();
                EngineError::unsupported(format!(
                    "toggle {name} is not honoured at loading{reason}; these are: {THREADS}, {KV_DTYPE}"
                ))
            })?;
            toggle.check(value).map_err(|problem| EngineError::bad_request(format!("toggle {name} {problem}")))?;
        }
        let count = |name: &str| options.get(name).and_then(Value::as_count).map(|n| n as u32);
        let flag = |name: &str, default: bool| options.get(name).map_or(default, |v| *v == Value::Bool(true));
        Ok(Self {
            context: count(CONTEXT),
            batch: count(BATCH).unwrap_or(DEFAULT_BATCH),
            gpu_layers: count(GPU_LAYERS),
            flash_attention: options.get(FLASH_ATTENTION).and_then(FlashAttention::of).unwrap_or(FlashAttention::Auto),
            kv_type: kv_type(options.get(KV_DTYPE), toggles.get(KV_DTYPE))?,
            mmap: flag(MMAP, true),
            mlock: flag(MLOCK, false),
            threads: threads(toggles.get(THREADS))?,
        })
    }

    /// Positions to ask llama.cpp for, of a model that was trained with `trained`.
    #[must_use]
    pub fn positions(&self, trained: u32) -> u32 {
        self.context.unwrap_or(trained.clamp(1, MOST_CONTEXT))
    }
}

fn check(option: &OptionSpec, value: &Value) -> Result<()> {
    let name = option.name;
    let bad = |problem: String| Err(EngineError::bad_request(format!("option {name} = {value}: {problem}")));
    if !option.kind.admits(value) {
        return bad(format!("it must be {}", option.kind.words()));
    }
    let least = u64::from(name != GPU_LAYERS);
    if option.kind == Kind::Count && !value.as_count().is_some_and(|n| (least..=MOST).contains(&n)) {
        return bad(format!("it must be from {least} to {MOST}"));
    }
    match value.as_text() {
        Some(text) if !option.choices.contains(&text) => {
            bad(format!("it must be one of {}", option.choices.join(", ")))
        }
        _ => Ok(()),
    }
}

/// The toggle's format, or the option's.
fn kv_type(option: Option<&Value>, toggle: Option<&Value>) -> Result<KvType> {
    let (option, toggle) = (option.and_then(KvType::of), toggle.and_then(KvType::of));
    match (option, toggle) {
        (Some(option), Some(toggle)) if option != toggle => Err(EngineError::bad_request(format!(
            "option {KV_DTYPE} = {:?}, but toggle {KV_DTYPE} = {:?}; leave one of the two out",
            option.name(),
            toggle.name()
        ))),
        _ => Ok(toggle.or(option).unwrap_or(KvType::F16)),
    }
}

/// Most threads that ggml runs (`GGML_MAX_N_THREADS`).
const MOST_THREADS: u64 = 512;

fn threads(toggle: Option<&Value>) -> Result<Option<i32>> {
    match toggle.and_then(Value::as_count).unwrap_or(0) {
        0 => Ok(None),
        n if n <= MOST_THREADS => Ok(Some(n as i32)),
        n => Err(EngineError::bad_request(format!("toggle {THREADS} is {n}; llama.cpp runs at most {MOST_THREADS}"))),
    }
}

/// Options as `NAME=VALUE`, which a host that a scenario starts by its command line takes as
/// arguments.
///
/// # Errors
/// What is wrong with an argument, for the command line.
pub fn from_arguments(arguments: impl IntoIterator<Item = String>) -> std::result::Result<Settings, String> {
    let options = offer().options;
    let mut settings = Settings::new();
    for argument in arguments {
        let known = argument
            .split_once('=')
            .and_then(|(name, text)| Some((options.iter().find(|option| option.name == name)?, text)));
        let Some((option, text)) = known else {
            let names: Vec<&str> = options.iter().map(|option| option.name).collect();
            return Err(format!("{argument:?} is no option; give NAME=VALUE, with NAME one of {}", names.join(", ")));
        };
        let value = match option.kind {
            Kind::Count => text.parse().ok().map(Value::Int),
            Kind::Bool => text.parse().ok().map(Value::Bool),
            _ => Some(Value::from(text)),
        };
        let value = value.ok_or_else(|| format!("{argument:?}: the value must be {}", option.kind.words()))?;
        settings.insert(option.name.to_owned(), value);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferometer_host::protocol::ErrorKind;

    fn settings<const N: usize>(given: [(&str, Value); N]) -> Settings {
        given.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn of<const N: usize>(given: [(&str, Value); N]) -> Result<Options> {
        Options::of(&settings(given), &Settings::new())
    }

    #[test]
    fn without_options_the_context_is_the_models_up_to_a_bound() {
        let options = of([]).unwrap();
        let defaults = (options.batch, options.kv_type, options.mmap, options.mlock, options.threads);
        assert_eq!(defaults, (2048, KvType::F16, true, false, None));
        assert_eq!([0, 1, 8192, 131_072].map(|trained| options.positions(trained)), [1, 1, 8192, 16_384]);
        let asked = of([(CONTEXT, 100_000u32.into())]).unwrap();
        assert_eq!(asked.positions(8192), 100_000, "who asks for more gets it");
    }

    #[test]
    fn a_wrong_option_is_named_with_what_would_be_right() {
        let cases = [
            ([("n_ctx", Value::Int(4))], ErrorKind::Unsupported, "no option \"n_ctx\"; it has context"),
            ([(CONTEXT, Value::Int(0))], ErrorKind::BadRequest, "context = 0: it must be from 1"),
            ([(CONTEXT, Value::Int(1 << 40))], ErrorKind::BadRequest, "to 2147483647"),
            ([(BATCH, Value::Int(-1))], ErrorKind::BadRequest, "a whole number"),
            ([(MMAP, Value::Int(1))], ErrorKind::BadRequest, "true or false"),
            ([(FLASH_ATTENTION, "yes".into())], ErrorKind::BadRequest, "one of auto, on, off"),
            ([(KV_DTYPE, "q3".into())], ErrorKind::BadRequest, "q4_0"),
        ];
        for (given, kind, part) in cases {
            let error = of(given).unwrap_err();
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.message.contains(part), "{error}");
        }
        assert_eq!(of([(GPU_LAYERS, Value::Int(0))]).unwrap().gpu_layers, Some(0));
        assert!(of([("command", Value::List(vec!["x".into()]))]).is_ok(), "of a host started by its command");
    }

    #[test]
    fn toggles_at_loading_are_checked_and_the_cache_has_one_format() {
        let with = |options: Settings, toggle: (&str, Value)| Options::of(&options, &settings([toggle]));
        let plain = |toggle| with(Settings::new(), toggle);
        assert_eq!(plain((THREADS, Value::Int(3))).unwrap().threads, Some(3));
        assert_eq!(plain((THREADS, Value::Int(0))).unwrap().threads, None);
        assert!(plain((THREADS, Value::Int(513))).unwrap_err().message.contains("at most 512"));
        assert_eq!(plain((KV_DTYPE, "f32".into())).unwrap().kv_type, KvType::F32);
        assert!(plain((KV_DTYPE, "q8_0".into())).unwrap_err().message.contains("f32, f16"));
        let refused = plain(("dtype", "f32".into())).unwrap_err();
        assert!(refused.kind == ErrorKind::Unsupported && refused.message.contains("GGUF file"), "{refused}");
        assert_eq!(plain(("kv_reuse", "none".into())).unwrap_err().kind, ErrorKind::Unsupported, "of a request");
        let both = with(settings([(KV_DTYPE, "q8_0".into())]), (KV_DTYPE, "f32".into()));
        assert!(both.unwrap_err().message.contains("leave one of the two out"));
    }

    #[test]
    fn arguments_are_options() {
        let given = |arguments: &[&str]| from_arguments(arguments.iter().map(|a| (*a).to_owned()));
        let expected = settings([(CONTEXT, Value::Int(4096)), (KV_DTYPE, "q8_0".into()), (MMAP, Value::Bool(false))]);
        assert_eq!(given(&["context=4096", "kv_dtype=q8_0", "mmap=false"]), Ok(expected));
        for wrong in ["context", "n_ctx=4", "context=many", "mmap=1"] {
            assert!(given(&[wrong]).unwrap_err().contains(wrong), "{wrong}");
        }
    }
}
