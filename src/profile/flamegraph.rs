//! Flamegraphs: one SVG file each, interactive in a browser; the same samples give the same bytes.

use std::io;

use inferno::flamegraph::{self, Options};

use super::names::line;
use inferometer_host::guard::catch;

/// Captions and appearance of a flamegraph.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look<'a> {
    pub title: &'a str,
    /// Samples, rate and so on.
    pub subtitle: &'a str,
    /// Frames narrower than this share of the whole are omitted, in percent.
    pub narrowest_percent: f64,
    /// Includes the script for zoom, search and details; otherwise a still picture.
    pub interactive: bool,
}

/// The SVG of folded stacks ([`super::folded()`]); `None` without samples.
#[must_use]
pub fn flamegraph_svg(stacks: &[(String, u64)], look: &Look<'_>) -> Option<String> {
    let mut options = Options::default();
    options.title = look.title.to_owned();
    options.subtitle = (!look.subtitle.is_empty()).then(|| look.subtitle.to_owned());
    options.min_width = look.narrowest_percent;
    options.deterministic = true;
    // `folded` returns sorted lines, but names change below.
    let lines: Vec<String> = stacks
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(stack, count)| format!("{} {count}", line(stack)))
        .collect();
    let mut svg = Vec::new();
    drawn(&mut options, &lines, &mut svg).ok()?;
    let svg = without(String::from_utf8(svg).ok()?, "<!DOCTYPE", ">");
    Some(match look.interactive {
        true => svg,
        false => without(without(svg, "<script", "</script>"), " onload=\"", "\""),
    })
}

fn drawn(options: &mut Options<'_>, lines: &[String], svg: &mut Vec<u8>) -> io::Result<()> {
    if lines.is_empty() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    catch(|| flamegraph::from_lines(options, lines.iter().map(String::as_str), svg))
        .unwrap_or_else(|stopped| Err(io::Error::other(stopped.to_string())))
}

/// The text without the first part from `begin` to `end`. Removes the document type, which names a
/// W3C page that a strict reader would fetch; browsers do not need it.
fn without(svg: String, begin: &str, end: &str) -> String {
    let Some((before, rest)) = svg.split_once(begin) else { return svg };
    match rest.split_once(end) {
        Some((_, after)) => format!("{before}{}", after.trim_start_matches('\n')),
        None => svg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixtures::profile;
    use crate::profile::folded;
    use crate::spec::Threads;

    const LOOK: Look<'_> =
        Look { title: "a <b> & \"c\"", subtitle: "41 samples", narrowest_percent: 0.0, interactive: true };

    #[test]
    fn it_stands_alone_and_is_the_same_again() {
        let stacks = folded(&[&profile()], None, Threads::Apart);
        let svg = flamegraph_svg(&stacks, &LOOK).unwrap();
        assert_eq!(svg, flamegraph_svg(&stacks, &LOOK).unwrap());
        for part in
            ["a &lt;b&gt; &amp; ", "41 samples", "walk (6 samples, 14.63%)", "copy&lt;a: b&gt;::&quot;go&quot; &amp;"]
        {
            assert!(svg.contains(part), "{part} is not in {svg}");
        }
        for fetched in ["href=\"http", "src=", "@import", "url(http", "<!DOCTYPE"] {
            assert!(!svg.contains(fetched), "{fetched}");
        }
        assert!(svg.contains("<script"));
        let still = flamegraph_svg(&stacks, &Look { interactive: false, ..LOOK }).unwrap();
        assert!(!still.contains("<script") && !still.contains("onload"), "a still picture has no script");
    }

    #[test]
    fn narrow_frames_are_left_out_and_nothing_gives_nothing() {
        let stacks = [("main;big".to_owned(), 9999), ("main;narrow_one".to_owned(), 1)];
        let of = |narrowest_percent| flamegraph_svg(&stacks, &Look { narrowest_percent, ..LOOK }).unwrap();
        assert!(of(0.0).contains("narrow_one"));
        assert!(!of(0.1).contains("narrow_one"));
        assert_eq!(flamegraph_svg(&[], &LOOK), None);
        assert_eq!(flamegraph_svg(&[("main".into(), 0)], &LOOK), None);
    }

    #[test]
    fn a_name_that_ends_in_a_number_is_no_count() {
        let svg = flamegraph_svg(&[("main;operator 7".into(), 3), ("# x".into(), 4)], &LOOK).unwrap();
        assert!(svg.contains("operator\u{a0}7 (3 samples, 42.86%)"), "{svg}");
        assert!(svg.contains("x (4 samples"));
    }
}
