//! A TOML document as an owned tree in which every key and value has its place, in the file or in a
//! `--set`.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::diagnose::{Problem, Span, echo};
use inferometer_protocol::Value;

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub span: Span,
    pub data: Data,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// A date or time, which no scenario key accepts.
    Date,
    List(Vec<Node>),
    /// Entries in the order of the file.
    Table(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

impl Node {
    /// Description for messages.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.data {
            Data::Bool(b) => format!("{b}"),
            Data::Int(n) => format!("{n}"),
            Data::Float(x) => format!("{}", Value::Float(*x)),
            Data::Text(t) => format!("the text {}", echo(t)),
            Data::Date => "a date".to_owned(),
            Data::List(_) => "a list".to_owned(),
            Data::Table(_) => "a table".to_owned(),
        }
    }

    /// The value, if settings can have it.
    #[must_use]
    pub fn as_value(&self) -> Option<Value> {
        match &self.data {
            Data::Bool(b) => Some(Value::Bool(*b)),
            Data::Int(n) => Some(Value::Int(*n)),
            Data::Float(x) => Some(Value::Float(*x)),
            Data::Text(t) => Some(Value::Text(t.clone())),
            Data::List(items) => items.iter().map(Node::as_value).collect::<Option<_>>().map(Value::List),
            Data::Date | Data::Table(_) => None,
        }
    }
}

/// Parses a file's text, which is source `source`.
///
/// # Errors
/// The first place that is not TOML (later errors are mostly consequences of it), or a number that
/// is too large.
pub fn document(text: &str, source: usize) -> Result<Node, Problem> {
    let table = DeTable::parse(text).map_err(|error| syntax(&error, source, 0))?;
    let span = Span { source, start: 0, end: 0 };
    Ok(Node { span, data: Data::Table(Reader { source, offset: 0 }.table(table.get_ref())?) })
}

/// Parses a single value that begins at `offset` of source `source`.
///
/// # Errors
/// When it is not a TOML value.
pub fn value(text: &str, source: usize, offset: usize) -> Result<Node, Problem> {
    let value = DeValue::parse(text).map_err(|error| syntax(&error, source, offset))?;
    Reader { source, offset }.node(&value)
}

/// A parser's error as a problem.
pub fn syntax(error: &toml::de::Error, source: usize, offset: usize) -> Problem {
    let problem = Problem::new("this is not valid TOML").label(error.message());
    match error.span() {
        Some(span) => problem.at(Span { source, start: offset + span.start, end: offset + span.end }),
        None => problem,
    }
}

/// Converts the parser's tree into ours. The parser limits its depth (80 levels).
struct Reader {
    source: usize,
    offset: usize,
}

impl Reader {
    fn span<T>(&self, spanned: &Spanned<T>) -> Span {
        let span = spanned.span();
        Span { source: self.source, start: self.offset + span.start, end: self.offset + span.end }
    }

    fn table(&self, table: &DeTable<'_>) -> Result<Vec<Entry>, Problem> {
        let entry = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
            Ok(Entry { key: key.get_ref().to_string(), key_span: self.span(key), value: self.node(value)? })
        };
        let mut entries: Vec<Entry> = table.iter().map(entry).collect::<Result<_, Problem>>()?;
        entries.sort_by_key(|e| e.key_span.start);
        Ok(entries)
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> Result<Node, Problem> {
        let span = self.span(value);
        let too_big = || Problem::new("this number is too large").at(span).label("does not fit in 64 bits");
        let data = match value.get_ref() {
            DeValue::Boolean(b) => Data::Bool(*b),
            DeValue::Integer(n) => Data::Int(i64::from_str_radix(n.as_str(), n.radix()).map_err(|_| too_big())?),
            DeValue::Float(x) => Data::Float(x.as_str().parse().map_err(|_| too_big())?),
            DeValue::String(t) => Data::Text(t.to_string()),
            DeValue::Datetime(_) => Data::Date,
            DeValue::Array(items) => Data::List(items.iter().map(|i| self.node(i)).collect::<Result<_, _>>()?),
            DeValue::Table(table) => Data::Table(self.table(table)?),
        };
        Ok(Node { span, data })
    }
}
