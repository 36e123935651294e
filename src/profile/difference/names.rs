//! Matches function names of two builds by removing build-specific parts.

/// Suffixes that compilers add to parts and copies of a function; a number may follow.
const COPIES: [&str; 6] = [".llvm.", ".part.", ".constprop.", ".isra.", ".lto_priv.", ".cold"];

/// `core::ops::f::{{closure}}::h0123456789abcdef` → `core::ops::f::{closure}`.
///
/// Removes hashes, crate disambiguators, numbers of closures and suffixes of copies. Generic
/// arguments stay, as they mean different machine code.
#[must_use]
pub fn normalized(name: &str) -> String {
    let name = without_copy(name.trim());
    let name = without_hash(name);
    let name = name.replace("{{closure}}", "{closure}").replace("{{vtable.shim}}", "{vtable.shim}");
    let name = without_numbers(&name);
    without_disambiguators(&name)
}

fn without_copy(mut name: &str) -> &str {
    loop {
        let cut = COPIES.iter().filter_map(|suffix| {
            let at = name.rfind(suffix)?;
            let rest = &name[at + suffix.len()..];
            (at > 0 && rest.bytes().all(|b| b.is_ascii_digit() || b == b'.')).then_some(at)
        });
        match cut.min() {
            Some(at) => name = &name[..at],
            None => return name,
        }
    }
}

/// Removes the last path segment of the legacy mangling: `::h` and sixteen hexadecimal digits.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => path,
        _ => name,
    }
}

/// `{closure#3}` → `{closure}`, also of shims.
fn without_numbers(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (at, part) in name.split('#').enumerate() {
        let part = match at {
            0 => part,
            _ if out.rfind('{') > out.rfind('}') => part.trim_start_matches(|c: char| c.is_ascii_digit()),
            _ => {
                out.push('#');
                part
            }
        };
        out.push_str(part);
    }
    out
}

/// `core[a1b2c3d4e5f60718]::f` → `core::f`. Indexing and slice brackets follow no word or have
/// other content.
fn without_disambiguators(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('[') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = from.find(']') else {
            rest = from;
            break;
        };
        let inside = &from[1..end];
        let of_a_word = before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let is_hash = (8..=16).contains(&inside.len()) && inside.bytes().all(|b| b.is_ascii_hexdigit());
        if !(of_a_word && is_hash) {
            out.push_str(&from[..=end]);
        }
        rest = &from[end + 1..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_adds_is_taken_off() {
        for (name, want) in [
            ("core::ptr::drop_in_place<[u8]>::h0123456789abcdef", "core::ptr::drop_in_place<[u8]>"),
            ("a::b::{{closure}}::hfedcba9876543210", "a::b::{closure}"),
            ("a::b::{closure#12}::{closure#0}", "a::b::{closure}::{closure}"),
            ("<a::B as c::D>::{shim:vtable#0}", "<a::B as c::D>::{shim:vtable}"),
            ("core[5e1c8d2f90ab4471]::fmt::write", "core::fmt::write"),
            ("<a[00ff00ff00ff00ff]::B<[f32; 8]> as b::C>::d", "<a::B<[f32; 8]> as b::C>::d"),
            ("quantize_row.constprop.0", "quantize_row"),
            ("f.llvm.1234567890123456", "f"),
            ("g.part.0.cold", "g"),
            ("__memmove_avx_unaligned_erms", "__memmove_avx_unaligned_erms"),
            ("a::h::hash", "a::h::hash"),
            ("a::hdeadbeef", "a::hdeadbeef"),
            ("operator[](int)", "operator[](int)"),
            ("f[", "f["),
            ("f#1", "f#1"),
            ("é[ü]#", "é[ü]#"),
            ("", ""),
        ] {
            assert_eq!(normalized(name), want, "{name}");
        }
    }
}
