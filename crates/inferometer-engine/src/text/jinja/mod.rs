//! Jinja as the chat templates of models use it: [`minijinja`], adapted to what Python's Jinja2
//! gives in the library `transformers`.
//!
//! Prompts must be those that a model was trained on, to the letter. So values print as Python
//! prints them, and texts have Python's methods. `scripts/check-tokenizers` compares with Python;
//! docs/guides/models.md lists what still differs.

mod filters;
mod methods;
mod print;
mod source;

use minijinja::{Environment, Value};

pub use minijinja::{Error, ErrorKind};

/// Most steps of a template: far more than a long conversation needs, and less than a second.
pub const FUEL: u64 = 5_000_000;

/// The fixed date of `strftime_now`, so that a prompt is the same on every day: midnight, 1
/// January 2026.
const TODAY: jiff::civil::DateTime = jiff::civil::date(2026, 1, 1).at(0, 0, 0, 0);

/// What error messages call the template.
const NAME: &str = "the template";

/// A template that parses.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    source: String,
}

impl Template {
    /// `steps` is the most that rendering may take; [`FUEL`] is usual.
    ///
    /// # Errors
    /// When `source` is not a template; the message names the line.
    pub fn parse(source: &str, steps: u64) -> Result<Self, Error> {
        let template = Self { environment: environment(steps), source: source::prepared(source) };
        template.environment.template_from_named_str(NAME, &template.source)?;
        Ok(template)
    }

    /// The template as it is rendered.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text for these variables.
    ///
    /// # Errors
    /// When the template raises an exception, fails, or takes too many steps.
    pub fn render(&self, variables: impl IntoIterator<Item = (String, serde_json::Value)>) -> Result<String, Error> {
        let given: Value = variables.into_iter().map(|(name, value)| (name, print::given(value))).collect();
        self.environment.template_from_named_str(NAME, &self.source)?.render(given)
    }
}

/// The error with its causes, on one line.
pub fn described(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn environment(steps: u64) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_fuel(Some(steps));
    environment.set_formatter(print::formatter);
    environment.set_unknown_method_callback(methods::call);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    filters::add(&mut environment);
    environment
}

fn failed(problem: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    Err(failed(print::text(message)?))
}

/// Python's `datetime.strftime` with the C library of Linux, for [`TODAY`] without a time zone.
fn strftime_now(format: &str) -> Result<String, Error> {
    use jiff::fmt::strtime::{BrokenDownTime, Config, PosixCustom};
    let config = Config::new().custom(PosixCustom::new()).lenient(true);
    // A date without a time zone prints none, and Python's `%f` has six digits.
    let format = format.replace("%Z", "").replace("%z", "").replace("%f", "000000");
    let text = BrokenDownTime::from(TODAY).to_string_with_config(&config, &format);
    text.map_err(|e| failed(format!("strftime_now({format:?}): {e}")))
}

#[cfg(test)]
mod tests;
