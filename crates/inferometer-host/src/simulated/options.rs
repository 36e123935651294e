//! The options of the simulated engine, parsed and checked once.

use std::path::PathBuf;

use super::NAME;
use super::faults::{Fault, Faults};
use super::law::CostLaw;
use super::memory::{Pattern, Shape};
use super::noise::Profile;
use crate::Result;
use inferometer_protocol::{EngineError, Kind, OptionSpec, Settings, Value};

const MIB: f64 = 1_048_576.0;

/// All parsed options.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub law: CostLaw,
    pub noise: Profile,
    pub seed: u64,
    /// Index of a generated token that is changed.
    pub change_token_at: Option<u64>,
    pub memory: Pattern,
    /// Memory that a load never gives back.
    pub leak_bytes: u64,
    pub faults: Faults,
    /// File that counts the requests of all processes that share it.
    pub state: Option<PathBuf>,
}

const fn number(name: &'static str, meaning: &'static str) -> OptionSpec {
    OptionSpec { name, kind: Kind::Float, choices: &[], paths: false, meaning }
}

const fn count(name: &'static str, meaning: &'static str) -> OptionSpec {
    OptionSpec { name, kind: Kind::Count, choices: &[], paths: false, meaning }
}

const fn choice(name: &'static str, choices: &'static [&'static str], meaning: &'static str) -> OptionSpec {
    OptionSpec { name, kind: Kind::Text, choices, paths: false, meaning }
}

/// Names and meanings of the options.
pub const OPTIONS: [OptionSpec; 21] = [
    number("load_ms", "time to load (default 0)"),
    number("a_ms", "decode: time per token is a + b n at a context of n tokens; a in ms (default 2)"),
    number("b_us", "decode: b in microseconds (default 0)"),
    number("c_ms", "prefill: time for n tokens is c + d n + e n^2; c in ms (default 0)"),
    number("d_us", "prefill: d in microseconds (default 50)"),
    number("e_ns", "prefill: e in nanoseconds (default 0)"),
    number("slower_percent", "artificial slow-down of prefill and decode (default 0)"),
    number("drift_percent", "each generation takes this much longer than the previous one, as if the machine heats up"),
    choice("noise", &Profile::NAMES, "noise of consecutive generations (default none)"),
    count("seed", "seed of noise, faults and tokens (default 1)"),
    count("change_token_at", "index (from 0) of a generated token that is changed"),
    choice("memory", &Shape::NAMES, "how the reported memory changes from request to request (default constant)"),
    number("memory_mib", "reported memory in use (default 64)"),
    number("leak_mib_per_load", "memory that every load takes and never gives back (default 0)"),
    number("memory_swing_mib", "rise of the sawtooth, or of the leak in a period (default 16)"),
    count("memory_period", "requests in a period of the sawtooth or the leak (default 4)"),
    count("kv_bytes_per_token", "reported size of the KV cache (default 1024)"),
    choice("fault", &Fault::NAMES, "kind of failure, in the requests selected by fault_at and fault_percent"),
    count("fault_at", "the request that fails, from 1, counting warm-ups"),
    number("fault_percent", "probability that a request fails"),
    OptionSpec {
        name: "state",
        kind: Kind::Text,
        choices: &[],
        paths: true,
        meaning: "a file that counts requests over all processes; without it each process counts its own requests",
    },
];

impl Options {
    /// # Errors
    /// For an unknown option or a value out of range; the message names the option.
    pub fn of(settings: &Settings) -> Result<Self> {
        for (name, value) in settings {
            check(name, value)?;
        }
        let number = |name: &str, default: f64| settings.get(name).and_then(Value::as_float).unwrap_or(default);
        let count = |name: &str| settings.get(name).and_then(Value::as_count);
        let text = |name: &str| settings.get(name).and_then(Value::as_text);
        let mib = |name: &str, default: f64| (number(name, default) * MIB) as u64;
        let seed = count("seed").unwrap_or(1);
        Ok(Self {
            law: CostLaw {
                load_ms: number("load_ms", 0.0),
                a_ms: number("a_ms", 2.0),
                b_us: number("b_us", 0.0),
                c_ms: number("c_ms", 0.0),
                d_us: number("d_us", 50.0),
                e_ns: number("e_ns", 0.0),
                slower_percent: number("slower_percent", 0.0),
                drift_percent: number("drift_percent", 0.0),
            },
            noise: text("noise").and_then(Profile::find).unwrap_or(Profile::NONE),
            seed,
            change_token_at: count("change_token_at"),
            memory: Pattern {
                shape: text("memory").and_then(Shape::find).unwrap_or(Shape::Constant),
                base_bytes: mib("memory_mib", 64.0),
                swing_bytes: mib("memory_swing_mib", 16.0),
                period: count("memory_period").unwrap_or(4).max(1),
                kv_bytes_per_token: count("kv_bytes_per_token").unwrap_or(1024),
            },
            leak_bytes: mib("leak_mib_per_load", 0.0),
            faults: Faults {
                fault: text("fault").and_then(Fault::find),
                at: count("fault_at").unwrap_or(0),
                probability: number("fault_percent", 0.0) / 100.0,
                seed,
            },
            state: text("state").map(PathBuf::from),
        })
    }
}

/// A host may be started by any program, so it repeats the checks of the scenario.
fn check(name: &str, value: &Value) -> Result<()> {
    let Some(option) = OPTIONS.iter().find(|option| option.name == name) else {
        let known: Vec<&str> = OPTIONS.iter().map(|option| option.name).collect();
        let told = format!("the {NAME} engine has no option {name:?}; it has {}", known.join(", "));
        return Err(EngineError::unsupported(told));
    };
    let wrong = |must: &str| Err(EngineError::bad_request(format!("option {name} must be {must}, not {value}")));
    if !option.kind.admits(value) {
        return wrong(option.kind.words());
    }
    if let (false, Some(text)) = (option.choices.is_empty(), value.as_text())
        && !option.choices.contains(&text)
    {
        return wrong(&format!("one of {}", option.choices.join(", ")));
    }
    if name == "memory_period" && value.as_count() == Some(0) {
        return wrong("at least 1");
    }
    let Some(number) = value.as_float().filter(|_| option.kind == Kind::Float) else { return Ok(()) };
    let (least, most) = match name {
        "slower_percent" | "drift_percent" => (-90.0, 1000.0),
        "fault_percent" => (0.0, 100.0),
        "memory_mib" | "memory_swing_mib" => (0.0, 1e9),
        // A day in the largest unit: a typing mistake must not hang a host for ever.
        _ => (0.0, 86_400_000.0),
    };
    if (least..=most).contains(&number) { Ok(()) } else { wrong(&format!("from {least} to {most}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[(&str, Value)]) -> Result<Options> {
        Options::of(&options.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    #[test]
    fn what_is_given_is_taken_and_the_rest_has_defaults() {
        let options = of(&[
            ("a_ms", Value::Float(1.5)),
            ("e_ns", Value::Int(3)),
            ("noise", "noisy".into()),
            ("fault", "hang".into()),
            ("fault_percent", Value::Int(10)),
            ("memory", "leak".into()),
            ("memory_mib", Value::Float(0.5)),
        ])
        .unwrap();
        assert_eq!((options.law.a_ms, options.law.d_us, options.law.e_ns), (1.5, 50.0, 3.0));
        assert_eq!((options.noise, options.seed), (Profile::NOISY, 1));
        assert_eq!((options.faults.fault, options.faults.probability), (Some(Fault::Hang), 0.1));
        assert_eq!((options.memory.shape, options.memory.base_bytes), (Shape::Leak, 524_288));
        assert_eq!(of(&[]).unwrap().faults.fault, None);
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (name, value, told) in [
            ("a_sm", Value::Int(1), "it has load_ms, a_ms"),
            ("a_ms", Value::Int(-1), "from 0 to"),
            ("a_ms", Value::Float(f64::INFINITY), "a number"),
            ("slower_percent", Value::Int(-100), "from -90"),
            ("noise", "loud".into(), "one of none, quiet"),
            ("fault", Value::Int(1), "a text"),
            ("memory_period", Value::Int(0), "at least 1"),
            ("seed", Value::Int(-1), "a whole number"),
        ] {
            let error = of(&[(name, value)]).unwrap_err();
            assert!(error.message.contains(name) && error.message.contains(told), "{error}");
        }
    }
}
