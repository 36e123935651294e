//! The `exec` engine: any program that speaks the engine protocol on its standard input and output.
//!
//! The program is the host itself; nothing of the harness stands between. `docs/adding-an-engine.md` shows how to
//! write one.

use super::{Engine, Hosting, Load, Result, Session};
use crate::spec::{EngineError, EngineSpec, Honours, Kind, Offer, OptionSpec};

/// The option that names the program.
const COMMAND: &str = "command";

/// Registry entry.
#[derive(Debug)]
pub struct Exec;

impl Engine for Exec {
    fn name(&self) -> &'static str {
        "exec"
    }

    fn offer(&self) -> Offer {
        Offer {
            name: self.name(),
            label: self.name(),
            meaning: "a program of your own that speaks the engine protocol",
            options: vec![OptionSpec {
                name: COMMAND,
                kind: Kind::Texts,
                choices: &[],
                meaning: "the program and its arguments, started without a shell",
            }],
            required: &[COMMAND],
            honours: Honours::default(),
            variants: Vec::new(),
            built_in: false,
        }
    }

    fn hosting(&self, spec: &EngineSpec) -> Result<Hosting> {
        let command = spec.options.get(COMMAND).and_then(|value| value.as_texts()).unwrap_or_default();
        if command.first().is_none_or(String::is_empty) {
            let told = "engine `exec` needs the program to run: options = { command = [\"python3\", \"adapter.py\"] }";
            return Err(EngineError::bad_request(told));
        }
        Ok(Hosting::Command(command))
    }

    fn open(&self, _load: &Load) -> Result<Box<dyn Session>> {
        Err(EngineError::unsupported("engine `exec` is a program of its own; it cannot be hosted by this one"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Settings, Value};

    fn hosting(options: Settings) -> Result<Hosting> {
        Exec.hosting(&EngineSpec { name: "exec".into(), label: "mine".into(), options })
    }

    #[test]
    fn the_command_is_taken_as_it_is() {
        let words: Vec<Value> = ["python3", "a b.py", "$HOME"].map(Value::from).into();
        let options = Settings::from([(COMMAND.to_owned(), Value::List(words))]);
        let command = ["python3", "a b.py", "$HOME"].map(str::to_owned).into();
        assert_eq!(hosting(options).unwrap(), Hosting::Command(command));
    }

    #[test]
    fn without_a_program_the_error_says_how_to_name_one() {
        let empty = Settings::from([(COMMAND.to_owned(), Value::List(vec!["".into()]))]);
        for options in [Settings::new(), empty, Settings::from([(COMMAND.to_owned(), "sh -c x".into())])] {
            assert!(hosting(options).unwrap_err().message.contains("command = ["));
        }
    }
}
