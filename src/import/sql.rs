//! The rows of `INSERT` statements, as llama-bench and `sqlite3 .dump` write them.

use super::Fault;

/// A row by column name, and the line that its statement begins on.
pub(super) type Row = (u64, Vec<(String, Option<String>)>);

/// All rows of all statements; the names come from the statement, else from `CREATE TABLE`.
pub(super) fn rows(text: &str) -> Result<Vec<Row>, Fault> {
    let mut cursor = Cursor { rest: text, line: 1 };
    let mut created: Vec<String> = Vec::new();
    let mut found = Vec::new();
    while cursor.skip_to_word() {
        let line = cursor.line;
        let word = cursor.word().to_uppercase();
        match word.as_str() {
            "CREATE" if cursor.takes("TABLE") => {
                let names_end = cursor.rest.find(['(', ';']).unwrap_or(cursor.rest.len());
                cursor.advance(names_end);
                created = cursor.columns()?;
            }
            "INSERT" if cursor.takes("INTO") => {
                cursor.name();
                cursor.blank();
                let named = cursor.rest.starts_with('(').then(|| cursor.columns()).transpose()?;
                let names = named.as_ref().unwrap_or(&created);
                if !cursor.takes("VALUES") {
                    return Err(Fault::line(cursor.line, "expected VALUES after INSERT INTO"));
                }
                loop {
                    let values = cursor.values()?;
                    if values.len() != names.len() {
                        let message = format!("{} values for {} columns", values.len(), names.len());
                        return Err(Fault::line(line, message));
                    }
                    found.push((line, names.iter().cloned().zip(values).collect()));
                    cursor.blank();
                    if !cursor.rest.starts_with(',') {
                        break;
                    }
                    cursor.advance(1);
                }
            }
            _ => {}
        }
        cursor.end_statement();
    }
    Ok(found)
}

struct Cursor<'a> {
    rest: &'a str,
    line: u64,
}

impl Cursor<'_> {
    /// Goes on by bytes that end at a character's border.
    fn advance(&mut self, bytes: usize) {
        let (gone, rest) = self.rest.split_at(bytes);
        self.line += gone.matches('\n').count() as u64;
        self.rest = rest;
    }

    fn blank(&mut self) {
        self.advance(self.rest.len() - self.rest.trim_start().len());
    }

    /// Whether another statement begins.
    fn skip_to_word(&mut self) -> bool {
        let next = self.rest.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(self.rest.len());
        self.advance(next);
        !self.rest.is_empty()
    }

    fn word(&mut self) -> String {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        let word = self.rest[..end].to_owned();
        self.advance(end);
        word
    }

    /// Takes a keyword if it comes next.
    fn takes(&mut self, keyword: &str) -> bool {
        self.blank();
        let same = self.rest.get(..keyword.len()).is_some_and(|word| word.eq_ignore_ascii_case(keyword));
        if same {
            self.advance(keyword.len());
        }
        same
    }

    /// A name with or without quotes.
    fn name(&mut self) -> String {
        self.blank();
        let quote = self.rest.chars().next().filter(|c| ['"', '`', '\''].contains(c));
        let Some(quote) = quote else { return self.word() };
        self.advance(1);
        let end = self.rest.find(quote).unwrap_or(self.rest.len());
        let name = self.rest[..end].to_owned();
        self.advance(end);
        self.advance(usize::from(!self.rest.is_empty()));
        name
    }

    /// Names in brackets, each with what follows it up to the comma (its type).
    fn columns(&mut self) -> Result<Vec<String>, Fault> {
        let line = self.line;
        let mut names = Vec::new();
        while self.rest.starts_with(['(', ',']) {
            self.advance(1);
            names.push(self.name());
            let end = self.rest.find([',', ')', ';']).unwrap_or(self.rest.len());
            self.advance(end);
        }
        if !self.rest.starts_with(')') {
            return Err(Fault::line(line, "a list of columns without its end"));
        }
        self.advance(1);
        Ok(names)
    }

    /// Values in brackets; `None` for NULL.
    fn values(&mut self) -> Result<Vec<Option<String>>, Fault> {
        let line = self.line;
        let open = || Fault::line(line, "a list of values without its end");
        self.blank();
        if !self.rest.starts_with('(') {
            return Err(Fault::line(line, "expected a list of values in brackets"));
        }
        let mut values = Vec::new();
        while self.rest.starts_with(['(', ',']) {
            self.advance(1);
            self.blank();
            if self.rest.starts_with('\'') {
                values.push(Some(self.quoted().ok_or_else(open)?));
                self.blank();
            } else {
                let end = self.rest.find([',', ')']).ok_or_else(open)?;
                let plain = self.rest[..end].trim().to_owned();
                self.advance(end);
                values.push((!plain.eq_ignore_ascii_case("NULL")).then_some(plain));
            }
        }
        if !self.rest.starts_with(')') {
            return Err(open());
        }
        self.advance(1);
        Ok(values)
    }

    /// A text in quotes, in which two quotes stand for one.
    fn quoted(&mut self) -> Option<String> {
        let mut text = String::new();
        self.advance(1);
        loop {
            let end = self.rest.find('\'')?;
            text.push_str(&self.rest[..end]);
            self.advance(end + 1);
            if !self.rest.starts_with('\'') {
                return Some(text);
            }
            text.push('\'');
            self.advance(1);
        }
    }

    fn end_statement(&mut self) {
        let end = self.rest.find(';').map_or(self.rest.len(), |at| at + 1);
        self.advance(end);
    }
}
