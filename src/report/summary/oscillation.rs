//! Memory oscillation of a run, of each cell and of each phase, and what the engine was doing when
//! memory fell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::memory::{ENGINE, MemoryGauge, Reader};
use crate::record::{Record, RequestRow, Status};
use inferometer_protocol::Phase;
use inferometer_stats::oscillation;
use inferometer_stats::oscillation::{Known, Oscillation, Sample, falls};

/// Gauges shown beside the memory gauge, if they have values.
const BESIDE: [&str; 4] = ["rss_bytes", ENGINE[0], ENGINE[1], "wired_bytes"];
/// Samples that a request needs before it is judged apart from the others, and its phases apart
/// from one another: with fewer, such a figure would be finer than the samples.
const SAMPLES_A_REQUEST: f64 = 2.0;

/// The oscillation of one gauge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GaugeOscillation {
    pub gauge: String,
    pub meaning: String,
    /// Samples before the first host was started. If there are none, h does not depend on the idle
    /// jitter.
    pub idle_samples: usize,
    pub jitter_bytes: Option<f64>,
    pub run: Oscillation,
    /// By cell: its iterations, each with the time since the request before it, so that the reset
    /// before an iteration belongs to it. Not those whose shortest request has fewer than two
    /// samples.
    pub cells: BTreeMap<u32, Oscillation>,
    /// Each step between two samples belongs to the phase that the second lies in. Empty, like
    /// `causes`, where the shortest request has fewer than two samples.
    pub phases: BTreeMap<Part, Oscillation>,
    /// Every fall of h or more of the run, in time order.
    pub falls: Vec<Fall>,
    /// The activity while memory fell, in the order of [`FallCause::ALL`]; causes without bytes and
    /// time are left out.
    pub causes: Vec<CauseShare>,
}

/// What a host was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Prefill,
    Decode,
    /// Within a request but in neither phase, or the engine reports no phases.
    Request,
    /// No request was under way.
    Between,
}

impl Part {
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Part::Prefill => "in prefill",
            Part::Decode => "in decode",
            Part::Request => "in requests, phase unknown",
            Part::Between => "between requests",
        }
    }
}

/// What may have caused a fall of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FallCause {
    CacheClear,
    Reset,
    /// A host was starting or ending.
    Host,
    Prefill,
    Decode,
    Request,
    Between,
    /// For a step: two of the first three causes within one sampling interval. For a fall: no cause
    /// has more than half of it.
    Several,
}

impl FallCause {
    pub const ALL: [FallCause; 8] = [
        FallCause::CacheClear,
        FallCause::Reset,
        FallCause::Host,
        FallCause::Prefill,
        FallCause::Decode,
        FallCause::Request,
        FallCause::Between,
        FallCause::Several,
    ];

    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            FallCause::CacheClear => "cache clear",
            FallCause::Reset => "reset",
            FallCause::Host => "host starts or ends",
            FallCause::Prefill => "prefill",
            FallCause::Decode => "decode",
            FallCause::Request => "within a request",
            FallCause::Between => "between requests",
            FallCause::Several => "several at once",
        }
    }
}

/// A fall of h or more, from one turning point to the next.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fall {
    pub from_s: f64,
    pub to_s: f64,
    pub bytes: f64,
    /// The cause of more than half of it.
    pub cause: FallCause,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CauseShare {
    pub cause: FallCause,
    /// Falls of which it caused more than half.
    pub falls: usize,
    pub bytes: f64,
    /// Share of all bytes that fell; null if none did.
    pub share: Option<f64>,
    /// Share of the sampled time that is attributed to it, whether memory fell or not: the share by
    /// chance alone.
    pub time_share: f64,
}

/// The memory gauge of the run first, then resident memory, the engine's own figures and wired
/// memory, if they are other gauges and have values. Each apart: a sum would hide what moved.
#[must_use]
pub fn oscillations(record: &Record) -> Vec<GaugeOscillation> {
    let doings = Doings::of(record);
    let mut found: Vec<GaugeOscillation> = Vec::new();
    for reader in Reader::all(&record.manifest.gauges) {
        if found.is_empty() || BESIDE.contains(&reader.gauge.name) {
            found.extend(one(record, &doings, &reader));
        }
    }
    found
}

/// A sample, and its process if the gauge belongs to one.
type Seen = (Sample, Option<u32>);

fn one(record: &Record, doings: &Doings, reader: &Reader) -> Option<GaugeOscillation> {
    let rows = record.telemetry.iter();
    let seen: Vec<Seen> = rows
        .filter(|row| !reader.gauge.of_process || row.host.is_some())
        .filter_map(|row| {
            let sample = Sample { t_s: seconds(row.t_ns), bytes: reader.value(row)? };
            Some((sample, row.host.filter(|_| reader.gauge.of_process)))
        })
        .collect();
    let idle: Vec<f64> = match doings.loading_s {
        Some(until) if !reader.gauge.of_process => {
            seen.iter().take_while(|(s, _)| s.t_s < until).map(|(s, _)| s.bytes).collect()
        }
        _ => Vec::new(),
    };
    let jitter_bytes = oscillation::jitter(&idle);
    let known = Known { jitter_bytes, ..Known::default() };
    let look = |parts: &[Vec<Sample>], known: &Known| {
        let parts: Vec<&[Sample]> = parts.iter().map(Vec::as_slice).collect();
        oscillation::oscillation(&parts, known)
    };
    let whole: Vec<Vec<Sample>> = split(&seen, |_| Some(())).into_iter().map(|(_, part)| part).collect();
    let shortest_cycle_s = doings.shortest_s.values().copied().min_by(f64::total_cmp);
    let run = look(&whole, &Known { warm_from_s: doings.warm_s, shortest_cycle_s, ..known })?;
    let cells = grouped(split(&seen, |t| doings.cell(t)));
    let resolved = |request_s: Option<f64>| request_s.is_none_or(|s| s >= SAMPLES_A_REQUEST * run.sampling.interval_s);
    let shortest = |cell: &u32| Known { shortest_cycle_s: doings.shortest_s.get(cell).copied(), ..known };
    let phases = grouped(split(&seen, |t| Some(doings.part(t))));
    let (falls, mut causes) = attribute(&whole, run.counted.h_bytes, doings, reader.gauge);
    let fine = resolved(shortest_cycle_s);
    causes.retain(|_| fine);
    let cells = cells.into_iter().filter(|(cell, _)| resolved(doings.shortest_s.get(cell).copied()));
    Some(GaugeOscillation {
        gauge: reader.gauge.name.to_owned(),
        meaning: reader.gauge.meaning.to_owned(),
        idle_samples: idle.len(),
        jitter_bytes,
        cells: cells.filter_map(|(cell, parts)| Some((cell, look(&parts, &shortest(&cell))?))).collect(),
        phases: phases
            .into_iter()
            .filter(|_| fine)
            .filter_map(|(part, parts)| Some((part, look(&parts, &known)?)))
            .collect(),
        run,
        falls,
        causes,
    })
}

/// The stretches of samples with the same label, each with the sample before it, so that every step
/// belongs to one stretch. A new process begins a new stretch.
fn split<K: Copy + PartialEq>(seen: &[Seen], label: impl Fn(f64) -> Option<K>) -> Vec<(K, Vec<Sample>)> {
    let mut found: Vec<(K, Vec<Sample>)> = Vec::new();
    let mut before: Option<(&Seen, Option<K>)> = None;
    for one in seen {
        let now = label(one.0.t_s);
        let before = before.replace((one, now));
        let Some(key) = now else { continue };
        let same_process = before.filter(|(last, _)| last.1 == one.1);
        match (same_process, found.last_mut()) {
            (Some((_, Some(last))), Some((_, part))) if last == key => part.push(one.0),
            (Some((last, _)), _) => found.push((key, vec![last.0, one.0])),
            (None, _) => found.push((key, vec![one.0])),
        }
    }
    found
}

fn grouped<K: Ord>(parts: Vec<(K, Vec<Sample>)>) -> BTreeMap<K, Vec<Vec<Sample>>> {
    let mut found = BTreeMap::<K, Vec<Vec<Sample>>>::new();
    for (key, part) in parts {
        found.entry(key).or_default().push(part);
    }
    found
}

/// Stretches of time, sorted, without overlap.
#[derive(Default)]
struct Times<T>(Vec<(f64, f64, T)>);

impl<T: Copy> Times<T> {
    fn new(mut all: Vec<(f64, f64, T)>) -> Self {
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        // A search by ends needs them sorted too.
        let mut latest = f64::MIN;
        for (_, to, _) in &mut all {
            latest = latest.max(*to);
            *to = latest;
        }
        Self(all)
    }

    /// What holds at that time.
    fn at(&self, t: f64) -> Option<T> {
        let after = self.0.partition_point(|(from, ..)| *from <= t);
        let (_, to, what) = self.0.get(after.checked_sub(1)?)?;
        (t <= *to).then_some(*what)
    }

    /// Those that overlap the open interval.
    fn within(&self, from: f64, to: f64) -> impl Iterator<Item = &(f64, f64, T)> {
        let first = self.0.partition_point(|(_, end, _)| *end <= from);
        self.0[first..].iter().take_while(move |(begin, ..)| *begin < to)
    }
}

/// What hosts and requests were doing at which time, in seconds.
struct Doings {
    parts: Times<Part>,
    requests: Times<()>,
    cells: Times<u32>,
    clears: Times<()>,
    resets: Times<()>,
    /// Hosts that were starting or ending.
    hosts: Times<()>,
    loading_s: Option<f64>,
    warm_s: Option<f64>,
    /// By cell: its shortest valid request.
    shortest_s: BTreeMap<u32, f64>,
}

impl Doings {
    fn of(record: &Record) -> Self {
        let spans = |phase: Phase| {
            let own = record.spans.iter().filter(move |span| span.phase == phase);
            own.map(|span| (seconds(span.start_ns), seconds(span.end_ns)))
        };
        let events = |phase| Times::new(spans(phase).map(|(from, to)| (from, to, ())).collect());
        let phases = [(Phase::Prefill, Part::Prefill), (Phase::Decode, Part::Decode)];
        let parts = phases.into_iter().flat_map(|(phase, part)| spans(phase).map(move |(from, to)| (from, to, part)));
        let mut rows: Vec<&RequestRow> = record.requests.iter().collect();
        rows.sort_by_key(|row| row.start_ns);
        let mut cells = Vec::new();
        let mut last_end = 0.0;
        let mut shortest_s = BTreeMap::new();
        for row in &rows {
            let (from, to) = (seconds(row.start_ns), seconds(row.end_ns));
            if !row.warmup {
                cells.push((last_end, to, row.cell));
                if row.status == Status::Ok {
                    let least = shortest_s.entry(row.cell).or_insert(to - from);
                    *least = f64::min(*least, to - from);
                }
            }
            last_end = to;
        }
        let started = record.manifest.hosts.iter().filter_map(|host| host.started_ns).map(seconds);
        Self {
            parts: Times::new(parts.collect()),
            requests: Times::new(rows.iter().map(|row| (seconds(row.start_ns), seconds(row.end_ns), ())).collect()),
            cells: Times::new(cells),
            clears: events(Phase::CacheClear),
            resets: events(Phase::Reset),
            hosts: Times::new(host_changes(record)),
            loading_s: started.min_by(f64::total_cmp),
            warm_s: rows.iter().find(|row| !row.warmup).map(|row| seconds(row.start_ns)),
            shortest_s,
        }
    }

    fn part(&self, t: f64) -> Part {
        let inside = || self.requests.at(t).map(|()| Part::Request);
        self.parts.at(t).or_else(inside).unwrap_or(Part::Between)
    }

    fn cell(&self, t: f64) -> Option<u32> {
        self.cells.at(t)
    }

    /// The possible causes of a step of the gauge, with shares that add up to 1.
    fn causes(&self, from: f64, to: f64, gauge: &MemoryGauge) -> Vec<(FallCause, f64)> {
        let touches = |times: &Times<()>| times.within(from, to).next().is_some();
        let events = [
            (FallCause::CacheClear, touches(&self.clears)),
            (FallCause::Reset, touches(&self.resets)),
            // A process has no memory before it begins or after it ends.
            (FallCause::Host, !gauge.of_process && touches(&self.hosts)),
        ];
        let mut held = events.into_iter().filter(|(_, held)| *held).map(|(cause, _)| cause);
        match (held.next(), held.next()) {
            (Some(_), Some(_)) => return vec![(FallCause::Several, 1.0)],
            (Some(one), None) => return vec![(one, 1.0)],
            (None, _) => {}
        }
        let overlap = |(begin, end): (f64, f64)| (end.min(to) - begin.max(from)).max(0.0) / (to - from);
        let of = |part: Part| -> f64 {
            self.parts.within(from, to).filter(|(.., what)| *what == part).map(|(a, b, _)| overlap((*a, *b))).sum()
        };
        let (prefill, decode) = (of(Part::Prefill), of(Part::Decode));
        let requests: f64 = self.requests.within(from, to).map(|(a, b, ())| overlap((*a, *b))).sum();
        let rest = (requests - prefill - decode).max(0.0);
        let between = (1.0 - prefill - decode - rest).max(0.0);
        vec![
            (FallCause::Prefill, prefill),
            (FallCause::Decode, decode),
            (FallCause::Request, rest),
            (FallCause::Between, between),
        ]
    }
}

/// When hosts started and ended: from a host's start to its first request, and from its last sample
/// to the next one.
fn host_changes(record: &Record) -> Vec<(f64, f64, ())> {
    let mut found = Vec::new();
    for host in &record.manifest.hosts {
        let first = record.requests.iter().filter(|row| row.host == host.host).map(|row| row.start_ns).min();
        if let Some((from, to)) = host.started_ns.zip(first) {
            // The model is loaded soon after the start, and the host may wait long for its turn.
            let loaded = from.saturating_add((host.load_s * 1e9) as u64).saturating_add(100_000_000);
            found.push((seconds(from), seconds(to.min(loaded)), ()));
        }
        let last = record.telemetry.iter().rposition(|row| row.host == Some(host.host));
        if let Some((gone, next)) = last.and_then(|at| Some((&record.telemetry[at], record.telemetry.get(at + 1)?))) {
            found.push((seconds(gone.t_ns), seconds(next.t_ns), ()));
        }
    }
    found
}

/// The falls of h or more, with each step between two samples attributed to its causes.
fn attribute(parts: &[Vec<Sample>], h: f64, doings: &Doings, gauge: &MemoryGauge) -> (Vec<Fall>, Vec<CauseShare>) {
    let mut all = Vec::new();
    let mut bytes = [0.0; FallCause::ALL.len()];
    let mut time = [0.0; FallCause::ALL.len()];
    let mut counts = [0; FallCause::ALL.len()];
    for part in parts {
        for step in part.windows(2) {
            for (cause, share) in doings.causes(step[0].t_s, step[1].t_s, gauge) {
                time[cause as usize] += share * (step[1].t_s - step[0].t_s);
            }
        }
        for fall in falls(part, h) {
            let mut own = [0.0; FallCause::ALL.len()];
            let samples = &part[fall.from..=fall.to];
            let dropped: f64 = samples.windows(2).map(|step| (step[0].bytes - step[1].bytes).max(0.0)).sum();
            for step in samples.windows(2).filter(|step| step[1].bytes < step[0].bytes) {
                // Rises on the way down reduce every step by the same factor.
                let weight = (step[0].bytes - step[1].bytes) / dropped * fall.bytes;
                for (cause, share) in doings.causes(step[0].t_s, step[1].t_s, gauge) {
                    own[cause as usize] += share * weight;
                }
            }
            let main = FallCause::ALL.into_iter().find(|cause| own[*cause as usize] > fall.bytes / 2.0);
            let cause = main.unwrap_or(FallCause::Several);
            counts[cause as usize] += 1;
            bytes.iter_mut().zip(own).for_each(|(sum, part)| *sum += part);
            all.push(Fall { from_s: part[fall.from].t_s, to_s: part[fall.to].t_s, bytes: fall.bytes, cause });
        }
    }
    let (fallen, watched): (f64, f64) = (bytes.iter().sum(), time.iter().sum());
    let causes = FallCause::ALL
        .into_iter()
        .map(|cause| CauseShare {
            cause,
            falls: counts[cause as usize],
            bytes: bytes[cause as usize],
            share: (fallen > 0.0).then(|| bytes[cause as usize] / fallen),
            time_share: if watched > 0.0 { time[cause as usize] / watched } else { 0.0 },
        })
        .filter(|cause| cause.falls > 0 || cause.bytes > 0.0 || cause.time_share > 0.0)
        .collect();
    (all, causes)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::memory::GAUGES;

    const MIB: f64 = 1_048_576.0;

    fn doings() -> Doings {
        // A request from 1 s to 9 s: prefill to 3 s, decode to 8 s; a reset before it, a clear at
        // the end of its prefill.
        Doings {
            parts: Times::new(vec![(3.0, 8.0, Part::Decode), (1.0, 3.0, Part::Prefill)]),
            requests: Times::new(vec![(1.0, 9.0, ())]),
            cells: Times::new(vec![(0.0, 9.0, 7)]),
            clears: Times::new(vec![(2.9, 2.95, ())]),
            resets: Times::new(vec![(0.5, 0.6, ())]),
            hosts: Times::new(vec![(12.0, 12.5, ())]),
            loading_s: None,
            warm_s: None,
            shortest_s: BTreeMap::new(),
        }
    }

    fn causes(from: f64, to: f64) -> Vec<(FallCause, f64)> {
        let gauge = GAUGES.iter().find(|gauge| !gauge.of_process).unwrap();
        doings().causes(from, to, gauge).into_iter().filter(|(_, share)| *share > 1e-9).collect()
    }

    #[test]
    fn a_step_is_ascribed_to_an_event_that_it_touches_else_split_by_time() {
        assert_eq!(causes(2.8, 3.3), [(FallCause::CacheClear, 1.0)]);
        assert_eq!(causes(0.4, 0.9), [(FallCause::Reset, 1.0)]);
        assert_eq!(causes(0.4, 3.0), [(FallCause::Several, 1.0)]);
        assert_eq!(causes(11.9, 12.1), [(FallCause::Host, 1.0)]);
        assert_eq!(causes(1.0, 2.0), [(FallCause::Prefill, 1.0)]);
        assert_eq!(causes(4.0, 5.0), [(FallCause::Decode, 1.0)]);
        let split = causes(7.0, 11.0);
        assert_eq!(
            split.iter().map(|(cause, _)| *cause).collect::<Vec<_>>(),
            [FallCause::Decode, FallCause::Request, FallCause::Between]
        );
        for ((_, share), want) in split.iter().zip([0.25, 0.25, 0.5]) {
            assert!((share - want).abs() < 1e-9, "{split:?}");
        }
    }

    #[test]
    fn falls_are_counted_with_what_has_most_of_them() {
        let at = |t_s: f64, mib: f64| Sample { t_s, bytes: mib * MIB };
        let series = vec![
            at(0.0, 500.0),
            at(1.0, 300.0), // a reset
            at(2.8, 600.0),
            at(3.2, 550.0), // a clear
            at(4.0, 900.0),
            at(5.0, 880.0),
            at(6.0, 700.0), // decode
            at(9.5, 720.0),
            at(11.0, 700.0), // less than h
        ];
        let (falls, causes) = attribute(&[series], 40.0 * MIB, &doings(), &GAUGES[0]);
        let told: Vec<_> = falls.iter().map(|fall| (fall.cause, fall.bytes / MIB)).collect();
        assert_eq!(told, [(FallCause::Reset, 200.0), (FallCause::CacheClear, 50.0), (FallCause::Decode, 200.0)]);
        let share = |cause| causes.iter().find(|c| c.cause == cause).unwrap().share.unwrap();
        assert!((share(FallCause::Reset) - 200.0 / 450.0).abs() < 1e-9);
        assert!((share(FallCause::CacheClear) - 50.0 / 450.0).abs() < 1e-9);
        let time: f64 = causes.iter().map(|c| c.time_share).sum();
        assert!((time - 1.0).abs() < 1e-9, "{causes:?}");
    }

    #[test]
    fn every_step_belongs_to_one_stretch() {
        let seen: Vec<Seen> =
            (0..8).map(|t| (Sample { t_s: f64::from(t), bytes: 0.0 }, Some(u32::from(t >= 6)))).collect();
        let stretches = split(&seen, |t| (t != 1.0).then_some(t >= 3.0));
        let told: Vec<(bool, Vec<f64>)> =
            stretches.into_iter().map(|(key, part)| (key, part.iter().map(|s| s.t_s).collect())).collect();
        // 1 s has no label; the process changes at 6 s.
        assert_eq!(
            told,
            [(false, vec![0.0]), (false, vec![1.0, 2.0]), (true, vec![2.0, 3.0, 4.0, 5.0]), (true, vec![6.0, 7.0])]
        );
    }
}
