//! Call graph in Graphviz's language: callers, callees, and each call's share of the time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::rate::ns_per_sample;
use super::{functions, names, parts};
use inferometer_protocol::{Phase, Profile};

/// Larger graphs are not readable.
const MOST_NODES: usize = 100;
/// Smallest share of the time at which a function or a call is drawn.
const LEAST_SHARE: f64 = 0.005;
/// Longest label, in characters.
const LONGEST_LABEL: usize = 60;

/// The functions with at least 0.5 % of the time (at most the 100 with the largest totals) and the
/// calls between them. A call through omitted functions is a dotted line from the last drawn
/// caller.
#[must_use]
pub fn callgraph_dot(profiles: &[&Profile], phase: Option<Phase>, title: &str) -> String {
    let mut shares = functions(profiles, phase);
    shares.sort_by(|a, b| b.total_ns.total_cmp(&a.total_ns).then_with(|| a.name.cmp(&b.name)));
    shares.retain(|share| share.total_share >= LEAST_SHARE);
    shares.truncate(MOST_NODES);
    let places: BTreeMap<&str, usize> = shares.iter().enumerate().map(|(i, share)| (share.name.as_str(), i)).collect();
    let calls = calls(profiles, phase, &places);

    let mut dot = String::from("digraph calls {\n");
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(dot, "  {text}").expect("a String takes everything");
    line(format_args!("graph [label={}, labelloc=t, fontname=\"sans-serif\"];", quoted(title)));
    line(format_args!("node [shape=box, style=filled, fontname=\"sans-serif\", fontsize=10];"));
    line(format_args!("edge [fontname=\"sans-serif\", fontsize=9];"));
    for (i, share) in shares.iter().enumerate() {
        let label = format!(
            "{}\nself {:.1} %, total {:.1} %",
            shortened(&share.name),
            share.self_share * 100.0,
            share.total_share * 100.0
        );
        // From white to red with the function's own time.
        let (label, tip, saturation) = (quoted(&label), quoted(&share.name), share.self_share.min(1.0).sqrt() * 0.7);
        line(format_args!("n{i} [label={label}, tooltip={tip}, fillcolor=\"0.05 {saturation:.2} 1.00\"];"));
    }
    for ((from, to, direct), share) in calls.into_iter().filter(|(_, share)| *share >= LEAST_SHARE) {
        let (percent, width) = (share * 100.0, 1.0 + share * 4.0);
        let style = if direct { "solid" } else { "dotted" };
        let weight = (percent.round() as u64).max(1);
        line(format_args!(
            "n{from} -> n{to} [label=\"{percent:.1} %\", penwidth={width:.2}, weight={weight}, style={style}];"
        ));
    }
    dot.push_str("}\n");
    dot
}

/// Share of the whole time spent in each call from one function to another; a repeated call counts
/// once per stack.
fn calls(
    profiles: &[&Profile],
    phase: Option<Phase>,
    places: &BTreeMap<&str, usize>,
) -> BTreeMap<(usize, usize, bool), f64> {
    let mut calls = BTreeMap::<(usize, usize, bool), f64>::new();
    let mut whole_ns = 0.0;
    for (profile, part) in parts(profiles, phase) {
        let each_ns = ns_per_sample(profile, part);
        for stack in &part.stacks {
            let ns = each_ns * stack.count as f64;
            whole_ns += ns;
            let mut seen = BTreeSet::new();
            let mut caller = None;
            let mut direct = true;
            for &frame in &stack.frames {
                let name = names::clean(names::raw(profile, frame));
                let Some(&to) = places.get(name.as_ref()) else {
                    direct = false;
                    continue;
                };
                if let Some(from) = caller {
                    seen.insert((from, to, direct));
                }
                (caller, direct) = (Some(to), true);
            }
            for call in seen {
                *calls.entry(call).or_default() += ns;
            }
        }
    }
    calls.values_mut().for_each(|ns| *ns /= whole_ns);
    calls
}

/// A long name shortened in the middle, keeping the crate and the function.
fn shortened(name: &str) -> String {
    let length = name.chars().count();
    if length <= LONGEST_LABEL {
        return name.to_owned();
    }
    let half = LONGEST_LABEL / 2;
    let (head, tail): (String, String) =
        (name.chars().take(half).collect(), name.chars().skip(length - half).collect());
    format!("{head}…{tail}")
}

/// A DOT double-quoted string; line breaks are kept, nothing else is an escape.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixtures::profile;
    use inferometer_protocol::{ProfilePart, ProfileStack, SampleClock};

    #[test]
    fn shares_and_calls_of_a_phase() {
        insta::assert_snapshot!(callgraph_dot(&[&profile()], Some(Phase::Decode), "cell \"a\\b\", decode"), @r#"
        digraph calls {
          graph [label="cell \"a\\b\", decode", labelloc=t, fontname="sans-serif"];
          node [shape=box, style=filled, fontname="sans-serif", fontsize=10];
          edge [fontname="sans-serif", fontsize=9];
          n0 [label="decode\nself 33.3 %, total 100.0 %", tooltip="decode", fillcolor="0.05 0.40 1.00"];
          n1 [label="main\nself 0.0 %, total 100.0 %", tooltip="main", fillcolor="0.05 0.00 1.00"];
          n2 [label="copy<a; b>::\"go\" &\nself 66.7 %, total 66.7 %", tooltip="copy<a; b>::\"go\" &", fillcolor="0.05 0.57 1.00"];
          n0 -> n2 [label="66.7 %", penwidth=3.67, weight=67, style=solid];
          n1 -> n0 [label="100.0 %", penwidth=5.00, weight=100, style=solid];
        }
        "#);
    }

    #[test]
    fn recursion_is_a_loop_and_what_is_left_out_is_bridged() {
        let dot = callgraph_dot(&[&profile()], Some(Phase::Prefill), "");
        assert!(dot.contains("n0 -> n0 [label=\"60.0 %\""), "walk calls itself: {dot}");
        let mut functions: Vec<String> = (0..300).map(|i| format!("f{i}")).collect();
        functions.push("leaf".to_owned());
        let stack = |i: u32| ProfileStack { thread: String::new(), frames: vec![0, i, 300], count: 1 };
        let part =
            ProfilePart { phase: None, duration_ns: 1, cpu_ns: Some(1_000_000), stacks: (1..300).map(stack).collect() };
        let wide =
            Profile { profiler: "p".into(), clock: SampleClock::Cpu, frequency_hz: 1, functions, parts: vec![part] };
        let dot = callgraph_dot(&[&wide], None, "");
        assert_eq!(dot.matches("tooltip=").count(), 2, "each of the others has a third of a percent: {dot}");
        assert!(dot.contains("-> n1 [label=\"100.0 %\"") && dot.contains("style=dotted"), "{dot}");
        assert!(callgraph_dot(&[], None, "").starts_with("digraph calls {"));
    }
}
