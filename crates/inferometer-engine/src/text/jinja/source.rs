//! What happens to a template's source before it is parsed.
//!
//! Line ends become `\n`, as in Jinja2.
//!
//! `{% generation %}` marks what a model is trained on; Python renders the block as it is, in a
//! scope of its own. That is what `{% with %}` does.
//!
//! The operator `%` cannot be given to texts in minijinja, so `'%s' % x` becomes `'%s'|format(x)`.
//! That is done behind a text in quotes only; elsewhere `%` on a text is an error.

pub fn prepared(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = match rest.as_bytes().get(1) {
            Some(b'#') => rest.find("#}").map(|end| end + 2),
            Some(b'{') => closed(rest, "}}"),
            Some(b'%') => closed(rest, "%}"),
            _ => Some(1),
        };
        let tag = &rest[..end.unwrap_or(rest.len())];
        rest = &rest[tag.len()..];
        match keyword(tag) {
            Some("generation" | "endgeneration") => out.push_str(&tag.replacen("generation", "with", 1)),
            Some("raw") => {
                let length = raw(rest);
                out.extend([tag, &rest[..length]]);
                rest = &rest[length..];
            }
            _ if tag.starts_with("{#") => out.push_str(tag),
            _ => formatted(tag, &mut out, DEEPEST),
        }
    }
    out + rest
}

/// The one word of a tag, such as `{%- raw %}`.
fn keyword(tag: &str) -> Option<&str> {
    let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    Some(inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim())
}

/// Length of a raw block's content.
fn raw(text: &str) -> usize {
    let ends = |at: &usize| {
        let tag = text[*at..].find("%}").map(|end| &text[*at..*at + end + 2]);
        tag.and_then(keyword) == Some("endraw")
    };
    text.match_indices("{%").map(|(at, _)| at).find(ends).unwrap_or(text.len())
}

/// Deepest nesting of `%` that is rewritten; each level takes some of the stack.
const DEEPEST: usize = 50;

/// Writes a tag with `'...' % operand` replaced. What is nested deeper than `depth` stays as it is.
fn formatted(tag: &str, out: &mut String, depth: usize) {
    let mut rest = tag;
    while let Some(at) = rest.find(['\'', '"']).filter(|_| depth > 0) {
        let (head, tail) = rest.split_at(at + token(&rest[at..]));
        out.push_str(head);
        rest = tail;
        // In `a * '...' % b` the operator has another left side.
        let begins = !head[..at].trim_end().ends_with(['*', '/', '%']);
        let Some(right) = tail.trim_start().strip_prefix('%').filter(|right| begins && !right.starts_with('}')) else {
            continue;
        };
        let right = right.trim_start();
        let (operand, tail) = right.split_at(operand(right));
        let arguments = match operand.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
            Some(inner) if balanced(operand) == operand.len() => inner.trim_end().trim_end_matches(','),
            _ => operand,
        };
        out.push_str("|format(");
        formatted(arguments, out, depth - 1);
        out.push(')');
        rest = tail;
    }
    out.push_str(rest);
}

/// Length of what `%` takes on its right: a value with its attributes, calls and filters.
fn operand(text: &str) -> usize {
    let name = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
    let mut at = match text.chars().next() {
        Some('(' | '[' | '{') => balanced(text),
        Some('\'' | '"') => token(text),
        Some('-') => 1 + name(&text[1..]),
        _ => name(text),
    };
    loop {
        let rest = &text[at..];
        let filter = rest.trim_start().strip_prefix('|').map(str::trim_start);
        at = match (rest.chars().next(), filter) {
            (Some('(' | '['), _) => at + balanced(rest),
            (Some('.'), _) => at + 1 + name(&rest[1..]),
            (_, Some(filter)) => text.len() - filter.len() + name(filter),
            _ => return at,
        };
    }
}

/// Length of a bracket with what is inside.
fn balanced(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match text.as_bytes()[at] {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        at += token(&text[at..]);
        if depth == 0 {
            return at;
        }
    }
    at
}

/// Where a tag ends that is closed by `close` outside of quotes.
fn closed(text: &str, close: &str) -> Option<usize> {
    let mut at = 2;
    while at < text.len() {
        if text[at..].starts_with(close) {
            return Some(at + close.len());
        }
        at += token(&text[at..]);
    }
    None
}

/// Length of a text in quotes, or of one character.
fn token(text: &str) -> usize {
    let mut chars = text.char_indices();
    let Some((_, first)) = chars.next() else { return 0 };
    if !matches!(first, '\'' | '"') {
        return first.len_utf8();
    }
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            c if c == first => return at + 1,
            _ => {}
        }
    }
    text.len()
}
