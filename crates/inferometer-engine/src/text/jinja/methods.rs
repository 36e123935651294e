//! Python's methods of texts, lists and dictionaries: those that minijinja-contrib lacks or has
//! otherwise, then its own.

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Error, State, Value};
use minijinja_contrib::pycompat;

use super::failed;

/// # Errors
/// When there is no such method, or it refuses its arguments.
pub fn call(state: &State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let own = match (value.as_str(), value.kind()) {
        (Some(text), _) => of_text(text, method, args)?,
        (None, ValueKind::Seq | ValueKind::Iterable) if method == "index" => {
            let (wanted,): (&Value,) = from_args(args)?;
            let at = value.try_iter()?.position(|item| item == *wanted);
            Some(at.ok_or_else(|| failed("index: the value is not in the list"))?.into())
        }
        _ => None,
    };
    own.map_or_else(|| pycompat::unknown_method_callback(state, value, method, args), Ok)
}

fn of_text(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let none = || from_args::<()>(args);
    let one = || from_args::<(&str,)>(args).map(|(text,)| text);
    let all = |holds: fn(char) -> bool| none().map(|()| Value::from(!text.is_empty() && text.chars().all(holds)));
    Ok(Some(match method {
        "split" | "rsplit" => split(text, method == "rsplit", args)?,
        "partition" | "rpartition" => {
            let by = one()?;
            let parts = if method == "partition" { text.split_once(by) } else { text.rsplit_once(by) };
            let whole = if method == "partition" { [text, "", ""] } else { ["", "", text] };
            Value::from(parts.map_or(whole, |(head, tail)| [head, by, tail]).map(Value::from).to_vec())
        }
        "removeprefix" => text.strip_prefix(one()?).unwrap_or(text).into(),
        "removesuffix" => text.strip_suffix(one()?).unwrap_or(text).into(),
        "count" => text.matches(one()?).count().into(),
        "find" | "rfind" | "index" | "rindex" => {
            let wanted = one()?;
            let at = if method.starts_with('r') { text.rfind(wanted) } else { text.find(wanted) };
            match at.map(|at| text[..at].chars().count()) {
                Some(at) => at.into(),
                None if method.ends_with("find") => (-1).into(),
                None => return Err(failed(format!("{method}: the text does not occur"))),
            }
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
            format!("{sign}{}{digits}", "0".repeat(width.saturating_sub(text.chars().count()))).into()
        }
        "center" | "ljust" | "rjust" => padded(text, method, args)?.into(),
        "title" => none().map(|()| title(text, |before| !before.is_alphabetic()))?.into(),
        "capitalize" => none().map(|()| capitalized(text))?.into(),
        "casefold" => none().map(|()| text.to_lowercase().replace('ß', "ss"))?.into(),
        "swapcase" => {
            none()?;
            let swapped =
                |c: char| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
            text.chars().map(swapped).collect::<String>().into()
        }
        "isdigit" | "isnumeric" | "isdecimal" => all(char::is_numeric)?,
        "isalpha" => all(char::is_alphabetic)?,
        "isalnum" => all(char::is_alphanumeric)?,
        "isspace" => all(char::is_whitespace)?,
        "isupper" => none().map(|()| cased(text, true))?.into(),
        "islower" => none().map(|()| cased(text, false))?.into(),
        _ => return Ok(None),
    }))
}

/// `split(sep=None, maxsplit=-1)`; without a separator, at white space of any length.
fn split(text: &str, from_end: bool, args: &[Value]) -> Result<Value, Error> {
    let (by, most, kwargs): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
    let by = by.or(kwargs.get("sep")?);
    let most = most.or(kwargs.get("maxsplit")?);
    kwargs.assert_all_used()?;
    let parts = most.and_then(|most| usize::try_from(most).ok()).map_or(usize::MAX, |most| most.saturating_add(1));
    let mut found: Vec<&str> = match (by, from_end) {
        (Some(""), _) => return Err(failed("split: the separator is empty")),
        (Some(by), false) => text.splitn(parts, by).collect(),
        (Some(by), true) => text.rsplitn(parts, by).collect(),
        (None, _) => at_blanks(text, from_end, parts),
    };
    if from_end {
        found.reverse();
    }
    Ok(found.into_iter().map(Value::from).collect())
}

fn at_blanks(text: &str, from_end: bool, parts: usize) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = if from_end { rest.trim_end() } else { rest.trim_start() };
        let at = if from_end { rest.rfind(char::is_whitespace) } else { rest.find(char::is_whitespace) };
        match at {
            _ if rest.is_empty() => return found,
            Some(at) if found.len() + 1 < parts => {
                let blank = at + rest[at..].chars().next().map_or(0, char::len_utf8);
                found.push(if from_end { &rest[blank..] } else { &rest[..at] });
                rest = if from_end { &rest[..at] } else { &rest[blank..] };
            }
            _ => {
                found.push(rest);
                return found;
            }
        }
    }
}

fn padded(text: &str, method: &str, args: &[Value]) -> Result<String, Error> {
    let (width, fill): (usize, Option<char>) = from_args(args)?;
    let missing = width.saturating_sub(text.chars().count());
    let left = match method {
        "ljust" => 0,
        "rjust" => missing,
        _ => missing / 2 + (missing & width & 1),
    };
    let fill = |count: usize| fill.unwrap_or(' ').to_string().repeat(count);
    Ok(fill(left) + text + &fill(missing - left))
}

/// Letters are small, except the first one and those behind a character where a word `begins`.
pub fn title(text: &str, begins: impl Fn(char) -> bool) -> String {
    let mut out = String::new();
    let mut before = ' ';
    for c in text.chars() {
        match begins(before) {
            true => out.extend(c.to_uppercase()),
            false => out.extend(c.to_lowercase()),
        }
        before = c;
    }
    out
}

pub fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().collect::<String>()).unwrap_or_default();
    first + &chars.as_str().to_lowercase()
}

/// Whether a text has letters with case, all of them in this one.
pub fn cased(text: &str, upper: bool) -> bool {
    let (up, low) = (text.chars().any(char::is_uppercase), text.chars().any(char::is_lowercase));
    if upper { up && !low } else { low && !up }
}
