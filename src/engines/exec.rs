//! The `exec` engine: any program that implements the engine protocol on its standard input and
//! output.
//!
//! The program is the engine host. `docs/guides/adding-an-engine.md` shows how to write one.

use inferometer_protocol::{EngineError, EngineSpec, Honours, Kind, Offer, OptionSpec};

pub const NAME: &str = "exec";

/// The option with the program.
const COMMAND: &str = "command";

pub fn offer() -> Offer {
    Offer {
        name: NAME,
        label: NAME,
        meaning: "any program that implements the engine protocol",
        options: vec![OptionSpec {
            name: COMMAND,
            kind: Kind::Texts,
            choices: &[],
            paths: true,
            meaning: "the program and its arguments, started without a shell",
        }],
        required: &[COMMAND],
        serves: true,
        honours: Honours::default(),
        variants: Vec::new(),
        built_in: false,
    }
}

/// The program and its arguments.
///
/// # Errors
/// When the option is missing or empty.
pub fn command(spec: &EngineSpec) -> Result<Vec<String>, EngineError> {
    let command = spec.options.get(COMMAND).and_then(|value| value.as_texts()).unwrap_or_default();
    if command.first().is_none_or(String::is_empty) {
        return Err(EngineError::bad_request(
            "engine `exec` needs the program to run: options = { command = [\"python3\", \"adapter.py\"] }",
        ));
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferometer_protocol::{Settings, Value};

    fn given(options: Settings) -> Result<Vec<String>, EngineError> {
        command(&EngineSpec { name: "exec".into(), label: "mine".into(), options })
    }

    #[test]
    fn the_command_is_taken_as_it_is() {
        let words: Vec<Value> = ["python3", "a b.py", "$HOME"].map(Value::from).into();
        let options = Settings::from([(COMMAND.to_owned(), Value::List(words))]);
        assert_eq!(given(options).unwrap(), ["python3", "a b.py", "$HOME"]);
    }

    #[test]
    fn without_a_program_the_error_says_how_to_name_one() {
        let empty = Settings::from([(COMMAND.to_owned(), Value::List(vec!["".into()]))]);
        for options in [Settings::new(), empty, Settings::from([(COMMAND.to_owned(), "sh -c x".into())])] {
            assert!(given(options).unwrap_err().message.contains("command = ["));
        }
    }
}
