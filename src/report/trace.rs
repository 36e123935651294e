//! The timeline of a run as trace events, which Perfetto (ui.perfetto.dev) and chrome://tracing
//! open.
//!
//! Source: Google, "Trace Event Format" (the JSON object format: complete events `X`, instants `i`,
//! counters `C`, metadata `M`). Times are microseconds with the nanoseconds as decimals. Each host
//! is a process with threads for its requests, for phases and spans, and for tokens. The gauges are
//! a process of their own.
//!
//! A counter keeps its value until its next event: the format has no gaps. If a gauge has no value,
//! no event is written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::record::{Record, RequestRow, SpanRow, Timing, TokenRow};

/// The process of the gauges; hosts come after it. Some viewers take 0 as the kernel's idle
/// process.
const GAUGES: u64 = 1;
const REQUESTS: u64 = 1;
const TOKENS: u64 = 2;
/// Phases and spans. Within a thread, events must nest: a span that crosses another goes to a
/// further thread.
const SPANS: u64 = 3;

/// Writes the whole timeline: timed iterations, warm-ups and the profiled pass.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let manifest = &record.manifest;
    let about = json!({
        "run": manifest.run,
        "scenario": manifest.scenario.name,
        "inferometer": manifest.inferometer_version,
        "zero": manifest.origin_utc,
    });
    write!(out, "{{\"displayTimeUnit\":\"ms\",\"otherData\":{about},\"traceEvents\":[")?;
    let mut trace = Trace { out, first: true };
    let timeline = Timeline::of(record);
    gauges(record, &mut trace)?;
    for (host, requests) in &timeline.hosts {
        timeline.host(*host, requests, &mut trace)?;
    }
    writeln!(trace.out, "\n]}}")
}

/// The process and thread of an event.
#[derive(Debug, Clone, Copy)]
struct Track {
    process: u64,
    thread: u64,
}

/// Writes events, one a line.
struct Trace<'a> {
    out: &'a mut dyn Write,
    first: bool,
}

impl Trace<'_> {
    /// Writes an event of the kind `ph`; `rest` is its further fields as JSON, beginning with a
    /// comma.
    fn event(&mut self, ph: char, name: &str, track: Track, rest: std::fmt::Arguments<'_>) -> io::Result<()> {
        let comma = if std::mem::take(&mut self.first) { "" } else { "," };
        let Track { process, thread } = track;
        let name = Value::from(name);
        writeln!(self.out, "{comma}\n{{\"ph\":\"{ph}\",\"name\":{name},\"pid\":{process},\"tid\":{thread}{rest}}}")
    }

    fn names(&mut self, track: Track, process: Option<&str>, thread: Option<&str>) -> io::Result<()> {
        let named = [("process_name", process), ("thread_name", thread)];
        for (what, name) in named.into_iter().filter_map(|(what, name)| Some((what, name?))) {
            self.event('M', what, track, format_args!(",\"args\":{}", json!({ "name": name })))?;
        }
        let (what, index) =
            if thread.is_some() { ("thread_sort_index", track.thread) } else { ("process_sort_index", track.process) };
        self.event('M', what, track, format_args!(",\"args\":{}", json!({ "sort_index": index })))
    }

    fn complete(
        &mut self,
        name: &str,
        category: &str,
        track: Track,
        (start_ns, end_ns): (u64, u64),
        args: Map<String, Value>,
    ) -> io::Result<()> {
        let (ts, dur) = (Micros(start_ns), Micros(end_ns.saturating_sub(start_ns)));
        let rest = format_args!(",\"cat\":\"{category}\",\"ts\":{ts},\"dur\":{dur},\"args\":{}", Value::Object(args));
        self.event('X', name, track, rest)
    }
}

/// Nanoseconds as microseconds, exactly.
struct Micros(u64);

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

fn gauges(record: &Record, trace: &mut Trace<'_>) -> io::Result<()> {
    let track = Track { process: GAUGES, thread: 0 };
    let gauges = &record.manifest.gauges;
    if gauges.iter().all(|gauge| gauge.absent.is_some()) {
        return Ok(());
    }
    trace.names(track, Some("gauges"), None)?;
    for row in &record.telemetry {
        for (gauge, value) in gauges.iter().zip(&row.values) {
            if let Some(value) = value.filter(|value| value.is_finite()) {
                let unit = if gauge.unit.is_empty() { "value" } else { gauge.unit.as_str() };
                let args = json!({ unit: value });
                let rest = format_args!(",\"ts\":{},\"args\":{args}", Micros(row.t_ns));
                trace.event('C', &gauge.name, track, rest)?;
            }
        }
    }
    Ok(())
}

/// Which pass a request belongs to. Request numbers continue in the profiled pass, but a record
/// from elsewhere may repeat them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Pass {
    Timed,
    Profiled,
}

/// The rows of the record by host and by request.
struct Timeline<'a> {
    record: &'a Record,
    /// In order of time.
    hosts: BTreeMap<u32, Vec<(Pass, &'a RequestRow)>>,
    spans: HashMap<(Pass, u64), Vec<&'a SpanRow>>,
    tokens: HashMap<(Pass, u64), Vec<&'a TokenRow>>,
}

impl<'a> Timeline<'a> {
    fn of(record: &'a Record) -> Self {
        let profile = &record.profile;
        let mut timeline = Self { record, hosts: BTreeMap::new(), spans: HashMap::new(), tokens: HashMap::new() };
        for (pass, requests, spans, tokens) in [
            (Pass::Timed, &record.requests, &record.spans, &record.tokens),
            (Pass::Profiled, &profile.requests, &profile.spans, &profile.tokens),
        ] {
            for row in requests {
                timeline.hosts.entry(row.host).or_default().push((pass, row));
            }
            for row in spans {
                timeline.spans.entry((pass, row.request)).or_default().push(row);
            }
            for row in tokens {
                timeline.tokens.entry((pass, row.request)).or_default().push(row);
            }
        }
        timeline.hosts.values_mut().for_each(|rows| rows.sort_by_key(|(_, row)| row.start_ns));
        timeline
    }

    fn host(&self, host: u32, requests: &[(Pass, &RequestRow)], trace: &mut Trace<'_>) -> io::Result<()> {
        let process = GAUGES + 1 + u64::from(host);
        let on = |thread| Track { process, thread };
        trace.names(on(0), Some(&self.name(host)), None)?;
        trace.names(on(REQUESTS), None, Some("requests"))?;
        if let Some((_, first)) = requests.first() {
            self.load(host, first.start_ns, on(REQUESTS), trace)?;
        }
        for (pass, row) in requests {
            let name = self.title(*pass, row);
            trace.complete(&name, pass.name(), on(REQUESTS), (row.start_ns, row.end_ns), self.facts(*pass, row))?;
        }
        let mut spans: Vec<(Pass, &SpanRow)> = Vec::new();
        for (pass, row) in requests {
            let own = self.spans.get(&(*pass, row.request)).map_or(&[][..], Vec::as_slice);
            spans.extend(own.iter().map(|span| (*pass, *span)));
        }
        self.spans(&mut spans, process, trace)?;
        trace.names(on(TOKENS), None, Some("tokens"))?;
        for (pass, row) in requests {
            for token in self.tokens.get(&(*pass, row.request)).map_or(&[][..], Vec::as_slice) {
                let args = json!({ "index": token.index, "id": token.id });
                let rest = format_args!(
                    ",\"cat\":\"{}\",\"ts\":{},\"s\":\"t\",\"args\":{args}",
                    pass.name(),
                    Micros(token.t_ns)
                );
                trace.event('i', "token", on(TOKENS), rest)?;
            }
        }
        Ok(())
    }

    fn name(&self, host: u32) -> String {
        let manifest = &self.record.manifest;
        match manifest.hosts.iter().find(|info| info.host == host) {
            Some(info) => {
                let engine = manifest.scenario.engines.get(info.engine as usize);
                let label = engine.map_or("engine", |engine| engine.label.as_str());
                format!("host {host}: {label} (process {})", info.pid)
            }
            None => format!("host {host}"),
        }
    }

    /// The record has the duration of a load but not its time, so it is drawn to end at the first
    /// request.
    fn load(&self, host: u32, until_ns: u64, track: Track, trace: &mut Trace<'_>) -> io::Result<()> {
        let Some(info) = self.record.manifest.hosts.iter().find(|info| info.host == host) else { return Ok(()) };
        if !(info.load_s.is_finite() && info.load_s > 0.0) {
            return Ok(());
        }
        let start = until_ns.saturating_sub((info.load_s * 1e9) as u64);
        let mut args = Map::new();
        args.insert("load_s".to_owned(), info.load_s.into());
        args.insert("placed".to_owned(), "its end is not in the record; drawn up to the host's first request".into());
        trace.complete("load", "load", track, (start, until_ns), args)
    }

    fn title(&self, pass: Pass, row: &RequestRow) -> String {
        let cell = self.record.manifest.plan.cells.iter().find(|cell| cell.id == row.cell);
        let label = cell.map_or("", |cell| cell.label.as_str());
        let label = if label.is_empty() { format!("cell {}", row.cell) } else { label.to_owned() };
        let which = match (pass, row.warmup) {
            (Pass::Timed, true) => "warm-up".to_owned(),
            (Pass::Timed, false) => format!("iteration {}", row.iteration),
            (Pass::Profiled, _) => format!("profiled {}", row.iteration),
        };
        let turn = if row.turn > 0 { format!(", turn {}", row.turn) } else { String::new() };
        format!("{label}, {which}{turn}")
    }

    fn facts(&self, pass: Pass, row: &RequestRow) -> Map<String, Value> {
        let facts = json!({
            "pass": pass.name(),
            "request": row.request,
            "cell": row.cell,
            "iteration": row.iteration,
            "turn": row.turn,
            "engine": row.engine,
            "status": row.status.name(),
            "reason": row.reason,
            "prompt_tokens": row.prompt_tokens,
            "reused_tokens": row.reused_tokens,
            "prefill_tokens": row.prefill_tokens,
            "generated_tokens": row.generated_tokens,
            "token_times": row.timing.map(Timing::name),
            "ttft_ms": row.ttft_ms,
            "prefill_tps": row.prefill_tps,
            "decode_tps": row.decode_tps,
        });
        match facts {
            Value::Object(facts) => facts.into_iter().filter(|(_, value)| !(value.is_null() || *value == "")).collect(),
            _ => Map::new(),
        }
    }

    fn spans(&self, spans: &mut [(Pass, &SpanRow)], process: u64, trace: &mut Trace<'_>) -> io::Result<()> {
        spans.sort_by_key(|(_, span)| (span.start_ns, std::cmp::Reverse(span.end_ns)));
        let mut lanes = Lanes::default();
        let mut named = BTreeSet::new();
        for (pass, span) in spans {
            let lane = lanes.place(span.start_ns, span.end_ns.max(span.start_ns));
            let track = Track { process, thread: SPANS + lane };
            if named.insert(lane) {
                let name = if lane == 0 { "phases and spans" } else { "spans that cross others" };
                trace.names(track, None, Some(name))?;
            }
            let mut args = Map::new();
            args.insert("request".to_owned(), span.request.into());
            args.insert("index".to_owned(), span.index.into());
            let time = (span.start_ns, span.end_ns.max(span.start_ns));
            trace.complete(span.phase.name(), pass.name(), track, time, args)?;
        }
        Ok(())
    }
}

impl Pass {
    fn name(self) -> &'static str {
        match self {
            Pass::Timed => "timed",
            Pass::Profiled => "profiled",
        }
    }
}

/// Lanes in which spans nest. Each lane has the ends of its open spans.
#[derive(Debug, Default)]
struct Lanes(Vec<Vec<u64>>);

impl Lanes {
    /// The first lane that has room for a span; spans come in the order they begin.
    fn place(&mut self, start_ns: u64, end_ns: u64) -> u64 {
        for (at, open) in self.0.iter_mut().enumerate() {
            while open.last().is_some_and(|end| *end <= start_ns) {
                open.pop();
            }
            if open.last().is_none_or(|end| end_ns <= *end) {
                open.push(end_ns);
                return at as u64;
            }
        }
        self.0.push(vec![end_ns]);
        self.0.len() as u64 - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_keep_every_nanosecond() {
        let shown = [0, 1, 999, 1000, 1_234_567, u64::MAX].map(|ns| Micros(ns).to_string());
        assert_eq!(shown, ["0.000", "0.001", "0.999", "1.000", "1234.567", "18446744073709551.615"]);
    }

    #[test]
    fn spans_that_cross_go_apart_and_those_within_stay() {
        let mut lanes = Lanes::default();
        let placed = [(0, 10), (1, 4), (4, 9), (5, 12), (6, 8), (10, 11), (20, 20), (20, 30)]
            .map(|(start, end)| lanes.place(start, end));
        assert_eq!(placed, [0, 0, 0, 1, 0, 0, 0, 0]);
    }
}
