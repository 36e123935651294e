//! One field of a CSV row as text. A row is one line: line breaks in texts are escaped. Texts are
//! never formulas.

use inferometer_protocol::{FinishReason, Phase, Value};

use super::cause::{Cause, Status};
use super::flat::Kind;
use super::load::LoadCheck;
use super::timing::Timing;
use crate::spreadsheet::{guarded, unguarded};

/// A type of a column. Empty text means "not measured".
pub(super) trait Field: Sized {
    /// The type in formats that have types.
    const KIND: Kind = Kind::Text;
    /// Appends the text to `out`.
    fn write(&self, out: &mut String);
    /// # Errors
    /// What is wrong with the text; the caller adds file, line and column.
    fn read(text: &str) -> Result<Self, String>;
}

macro_rules! whole_numbers {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            const KIND: Kind = Kind::Whole;

            fn write(&self, out: &mut String) {
                use std::fmt::Write;
                write!(out, "{self}").expect("writing to a String cannot fail");
            }
            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("{text:?} is not a whole number from 0 to {}", <$ty>::MAX))
            }
        }
    )*};
}
whole_numbers!(u32, u64);

impl Field for f64 {
    const KIND: Kind = Kind::Number;

    /// The shortest text that reads back to the same number; nothing for numbers that are not
    /// finite.
    fn write(&self, out: &mut String) {
        use std::fmt::Write;
        if self.is_finite() {
            write!(out, "{self}").expect("writing to a String cannot fail");
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        text.parse().ok().filter(|n: &f64| n.is_finite()).ok_or_else(|| format!("{text:?} is not a number"))
    }
}

impl Field for bool {
    const KIND: Kind = Kind::Bool;

    fn write(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("{text:?} is not true or false"))
    }
}

impl Field for String {
    fn write(&self, out: &mut String) {
        for c in guarded(self).chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\\' => out.push_str("\\\\"),
                c => out.push(c),
            }
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        let mut plain = String::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => plain.push(match chars.next() {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('\\') => '\\',
                    _ => return Err(format!("{text:?} has a backslash that is not followed by n, r or a backslash")),
                }),
                c => plain.push(c),
            }
        }
        let text = unguarded(&plain).len();
        plain.drain(..plain.len() - text);
        Ok(plain)
    }
}

impl Field for Status {
    fn write(&self, out: &mut String) {
        out.push_str(self.name());
    }

    fn read(text: &str) -> Result<Self, String> {
        Status::from_name(text).ok_or_else(|| format!("{text:?} is none of ok, failed, invalid"))
    }
}

impl Field for Cause {
    fn write(&self, out: &mut String) {
        out.push_str(self.name());
    }

    /// A name that a newer version added reads as [`Cause::Unknown`]; the status has its own
    /// column.
    fn read(text: &str) -> Result<Self, String> {
        Ok(Cause::from_name(text).unwrap_or(Cause::Unknown))
    }
}

impl Field for Timing {
    fn write(&self, out: &mut String) {
        out.push_str(self.name());
    }

    /// A grade that this version does not know proves nothing to it.
    fn read(text: &str) -> Result<Self, String> {
        Ok(Timing::from_name(text).unwrap_or(Timing::Claimed))
    }
}

impl Field for LoadCheck {
    fn write(&self, out: &mut String) {
        out.push_str(self.name());
    }

    /// A check that this version does not know proves nothing to it.
    fn read(text: &str) -> Result<Self, String> {
        Ok(LoadCheck::from_name(text).unwrap_or(LoadCheck::Unjudged))
    }
}

impl Field for FinishReason {
    fn write(&self, out: &mut String) {
        out.push_str(self.name());
    }

    fn read(text: &str) -> Result<Self, String> {
        let known = || FinishReason::ALL.map(FinishReason::name).join(", ");
        FinishReason::ALL
            .into_iter()
            .find(|reason| reason.name() == text)
            .ok_or_else(|| format!("{text:?} is none of {}", known()))
    }
}

impl Field for Phase {
    fn write(&self, out: &mut String) {
        out.push_str(self.name());
    }

    fn read(text: &str) -> Result<Self, String> {
        Phase::from_name(text)
            .ok_or_else(|| format!("{text:?} is none of the phases {}", Phase::ALL.map(Phase::name).join(", ")))
    }
}

/// A setting: the plain value; a text that would read as another type is in JSON quotes.
impl Field for Value {
    fn write(&self, out: &mut String) {
        match self {
            Value::Float(n) if !n.is_finite() => {}
            Value::Text(text) if reads_as_itself(text) => out.push_str(&guarded(text)),
            other => out.push_str(&serde_json::to_string(other).expect("a setting is plain data")),
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        // Not with serde_json, whose numbers may be off in the last digit.
        if let Ok(n) = text.parse() {
            return Ok(Value::Int(n));
        }
        match serde_json::from_str::<serde_json::Value>(text) {
            Err(_) => Ok(Value::Text(unguarded(text).to_owned())),
            Ok(serde_json::Value::Number(_)) => f64::read(text).map(Value::Float),
            Ok(json) => serde_json::from_value(json).map_err(|_| format!("{text:?} is not a setting")),
        }
    }
}

fn reads_as_itself(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(|c: char| c.is_control())
        && matches!(Value::read(text), Ok(Value::Text(read)) if read == text)
}

impl<T: Field> Field for Option<T> {
    const KIND: Kind = T::KIND;

    fn write(&self, out: &mut String) {
        if let Some(value) = self {
            value.write(out);
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::read(text).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: &impl Field) -> String {
        let mut text = String::new();
        value.write(&mut text);
        text
    }

    fn round<T: Field>(value: &T) -> T {
        let text = written(value);
        assert!(!text.contains(['\n', '\r']), "{text:?} is more than one line");
        T::read(&text).unwrap()
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            prop::num::f64::NORMAL.prop_map(Value::Float),
            any::<String>().prop_map(Value::Text),
            formula().prop_map(Value::Text),
            prop_oneof![
                Just("5"),
                Just("-0"),
                Just("+5"),
                Just("1e3"),
                Just("true"),
                Just("null"),
                Just("{}"),
                Just("\"a\""),
                Just(" 7")
            ]
            .prop_map(Value::from),
            prop::collection::vec(any::<String>().prop_map(Value::Text), 0..4).prop_map(Value::List),
        ]
    }

    fn formula() -> impl Strategy<Value = String> {
        "['=+@\t\r-]{1,3}[ -~\r\n]{0,5}"
    }

    proptest! {
        #[test]
        fn no_text_is_a_formula(text in formula()) {
            for written in [written(&text), written(&Value::Text(text.clone()))] {
                prop_assert!(!written.starts_with(['=', '+', '-', '@', '\t', '\r']), "{:?}", written);
            }
            prop_assert_eq!(round(&text), text);
        }

        #[test]
        fn what_is_written_is_read(text: String, n: u64, x in prop::num::f64::ANY, value in any_value()) {
            prop_assert_eq!(round(&text), text);
            prop_assert_eq!(round(&Some(n)), Some(n));
            prop_assert_eq!(round(&Some(x)), Some(x).filter(|x| x.is_finite()));
            prop_assert_eq!(round(&value), value);
        }
    }

    #[test]
    fn settings_look_as_people_write_them() {
        let text = |value: Value| written(&value);
        assert_eq!(text("rotating:512".into()), "rotating:512");
        assert_eq!(text(1.0.into()), "1.0");
        assert_eq!(text(768_u64.into()), "768");
        assert_eq!(text("768".into()), "\"768\"");
        assert_eq!([text((-5_i64).into()), text((-0.5).into())], ["-5", "-0.5"]);
        assert_eq!([text("=2+3".into()), text("-5".into())], ["'=2+3", "\"-5\""]);
        assert_eq!(text(false.into()), "false");
    }

    #[test]
    fn bad_text_is_refused_in_words() {
        assert!(u32::read("-1").unwrap_err().contains("whole number"));
        assert!(u32::read("4294967296").is_err());
        assert!(f64::read("inf").is_err());
        assert!(Value::read("{\"a\":1}").is_err());
        assert!(Status::read("fine").unwrap_err().contains("invalid"));
        assert!(String::read("a\\b").is_err());
        assert!(Phase::read("decoed").unwrap_err().contains("decode"));
    }
}
