//! The files of a cell's profiles, in formats that other tools open.

use std::io;
use std::path::Path;

use super::flamegraph::Look;
use super::rate::achieved_hz_of;
use super::{callgraph_dot, flamegraph_svg, folded, functions, protobuf};
use crate::fs::write_atomic;
use crate::spec::Threads;
use crate::spreadsheet::guarded;
use inferometer_protocol::{Phase, Profile, SampleClock};

pub const FUNCTIONS: &str = "functions.csv";
pub const CALL_GRAPH: &str = "callgraph.dot";
pub const PROTOBUF: &str = "profile.pb";

/// The phases with their own files, and the files' names; `None` is all samples.
pub const PHASES: [(Option<Phase>, &str); 3] =
    [(Some(Phase::Prefill), "prefill"), (Some(Phase::Decode), "decode"), (None, "all")];

/// SVG files omit narrower frames; in percent.
const NARROWEST_PERCENT: f64 = 0.01;

/// Total tokens of the profiled iterations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Computed prompt tokens.
    pub prefill: u64,
    /// Tokens of the decode phase: all but the first of each turn, which belongs to the prefill.
    pub decode: u64,
}

impl Tokens {
    /// The divisor for a phase's time: prompt or generated tokens; `None` for other phases or both.
    #[must_use]
    pub fn of(self, phase: Option<Phase>) -> Option<u64> {
        match phase {
            Some(Phase::Prefill) => Some(self.prefill),
            Some(Phase::Decode) => Some(self.decode),
            _ => None,
        }
        .filter(|tokens| *tokens > 0)
    }
}

/// Writes `{prefill,decode,all}.folded` and `.svg`, `functions.csv`, `callgraph.dot` and
/// `profile.pb` of a cell's profiles into an existing folder. A phase without samples has no files.
/// Returns the file names.
///
/// # Errors
/// When a file cannot be written; the message names it.
/// When a file cannot be written; the message names it.
pub fn write_all(
    folder: &Path,
    cell: &str,
    profiles: &[&Profile],
    tokens: Tokens,
    threads: Threads,
) -> io::Result<Vec<String>> {
    let mut written = Vec::new();
    let mut write = |name: String, bytes: &[u8]| -> io::Result<()> {
        write_atomic(&folder.join(&name), bytes)?;
        written.push(name);
        Ok(())
    };
    for (phase, name) in PHASES {
        let stacks = folded(profiles, phase, threads);
        let title = format!("{cell}: {name}");
        let subtitle = facts(profiles, phase);
        let look = Look { title: &title, subtitle: &subtitle, narrowest_percent: NARROWEST_PERCENT, interactive: true };
        if let Some(svg) = flamegraph_svg(&stacks, &look) {
            write(format!("{name}.folded"), folded::text(&stacks).as_bytes())?;
            write(format!("{name}.svg"), svg.as_bytes())?;
        }
    }
    write(FUNCTIONS.to_owned(), &functions_csv(profiles, tokens)?)?;
    write(CALL_GRAPH.to_owned(), callgraph_dot(profiles, None, cell).as_bytes())?;
    write(PROTOBUF.to_owned(), &protobuf(profiles, cell))?;
    Ok(written)
}

/// Samples of a phase; `None` is all.
#[must_use]
pub fn samples(profiles: &[&Profile], phase: Option<Phase>) -> u64 {
    super::stacks(profiles, phase).map(|(_, _, stack)| stack.count).fold(0, u64::saturating_add)
}

/// Number of samples, achieved rate and profiler, as text.
#[must_use]
pub fn facts(profiles: &[&Profile], phase: Option<Phase>) -> String {
    let samples = match samples(profiles, phase) {
        1 => "1 sample".to_owned(),
        count => format!("{count} samples"),
    };
    let Some(first) = profiles.first() else { return "no samples".to_owned() };
    let of = match first.clock {
        SampleClock::Cpu => "second of CPU time, all threads",
        SampleClock::Wall => "second, each thread",
    };
    match achieved_hz_of(profiles, phase) {
        Some(hz) => format!("{samples} by {}, {hz:.0} for each {of}", first.profiler),
        None => format!("{samples} by {}, at an unknown rate", first.profiler),
    }
}

/// `functions.csv`: one row per function and phase, by own time, largest first. Per-token columns
/// are empty for `all`.
fn functions_csv(profiles: &[&Profile], tokens: Tokens) -> io::Result<Vec<u8>> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record([
        "phase",
        "function",
        "self_ms",
        "total_ms",
        "self_percent",
        "total_percent",
        "self_ms_per_token",
        "total_ms_per_token",
        "self_samples",
        "total_samples",
    ])?;
    for (phase, name) in PHASES {
        let tokens = tokens.of(phase).map(|tokens| tokens as f64);
        let per_token = |ns: f64| tokens.map_or(String::new(), |tokens| format!("{:.6}", ns / 1e6 / tokens));
        for share in functions(profiles, phase) {
            table.write_record([
                name,
                &guarded(&share.name),
                &format!("{:.3}", share.self_ns / 1e6),
                &format!("{:.3}", share.total_ns / 1e6),
                &format!("{:.3}", share.self_share * 100.0),
                &format!("{:.3}", share.total_share * 100.0),
                &per_token(share.self_ns),
                &per_token(share.total_ns),
                &share.self_samples.to_string(),
                &share.samples.to_string(),
            ])?;
        }
    }
    table.into_inner().map_err(csv::IntoInnerError::into_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixtures::profile;

    #[test]
    fn the_folder_of_a_cell() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens { prefill: 10, decode: 5 };
        let names = write_all(dir.path(), "kv_reuse=none", &[&profile()], tokens, Threads::Apart).unwrap();
        let expected = [
            "prefill.folded",
            "prefill.svg",
            "decode.folded",
            "decode.svg",
            "all.folded",
            "all.svg",
            "functions.csv",
            "callgraph.dot",
            "profile.pb",
        ];
        assert_eq!(names, expected);
        let read = |name: &str| fs_err::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("prefill.folded"), "main;main;prefill 4\nworker;walk;walk;walk 6\n");
        let svg = read("decode.svg");
        assert!(svg.contains("kv_reuse=none: decode"), "{svg}");
        assert!(svg.contains("30 samples by pprof, 200 for each second of CPU time, all threads"), "{svg}");
        let rows: Vec<String> = read(FUNCTIONS).lines().map(str::to_owned).collect();
        assert_eq!(rows[1], "prefill,walk,60.000,60.000,60.000,60.000,6.000000,6.000000,6,6");
        assert_eq!(
            rows.iter().find(|row| row.starts_with("decode,\"copy")).unwrap(),
            "decode,\"copy<a; b>::\"\"go\"\" &\",100.000,100.000,66.667,66.667,20.000000,20.000000,20,20"
        );
        assert!(rows.iter().any(|row| row.starts_with("all,main,0.000,195.000,") && row.contains(",,,")), "{rows:?}");
        let gone = write_all(&dir.path().join("gone"), "c", &[&profile()], tokens, Threads::Merged);
        assert!(gone.unwrap_err().to_string().contains("gone"));
    }

    #[test]
    fn without_samples_there_are_no_flamegraphs() {
        let dir = tempfile::tempdir().unwrap();
        let names = write_all(dir.path(), "c", &[], Tokens::default(), Threads::Merged).unwrap();
        assert_eq!(names, [FUNCTIONS, CALL_GRAPH, PROTOBUF]);
    }
}
