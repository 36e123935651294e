//! Checks a trace against the Trace Event Format (Google's document of that name), by code that
//! shares nothing with what wrote it: known kinds of events with the fields each must have, times
//! as exact decimals in order on every track, complete events that lie within each other on their
//! thread, counters that are numbers, names for every process and thread.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

type Event = Map<String, Value>;

/// The key under which [`exact`] keeps a number.
const NUMBER: &str = "$number";

/// What a trace holds, a line for each process, or the first thing that is wrong.
pub fn check(text: &str) -> Result<Vec<String>, String> {
    let whole: Value = serde_json::from_str(&exact(text)).map_err(|error| error.to_string())?;
    let unit = whole.get("displayTimeUnit").map_or(Some("ms"), Value::as_str);
    require(matches!(unit, Some("ms" | "ns")), || "displayTimeUnit is neither ms nor ns".into())?;
    let events = whole["traceEvents"].as_array().ok_or("no traceEvents")?;
    let mut tracks = Tracks::default();
    for event in events {
        let event = event.as_object().ok_or_else(|| format!("an event is no object: {event}"))?;
        check_event(event)?;
        tracks.add(event)?;
    }
    tracks.check()
}

fn require(holds: bool, told: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(told()) }
}

/// The same JSON with every number as an object that holds its text: a parser would make floats of
/// them, and nanoseconds would not survive.
fn exact(text: &str) -> String {
    let mut out = String::with_capacity(2 * text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if first == '"' {
            string_length(rest)
        } else if first == '-' || first.is_ascii_digit() {
            rest.find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c))).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, behind) = rest.split_at(length);
        if first == '-' || first.is_ascii_digit() {
            // What is no number stays as it is, for the parser to refuse.
            let sound = serde_json::from_str::<serde_json::Number>(token).is_ok();
            out += &if sound { format!("{{\"{NUMBER}\":\"{token}\"}}") } else { token.to_owned() };
        } else {
            out += token;
        }
        rest = behind;
    }
    out
}

/// Length in bytes of the string that `text` begins with, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The text of a number.
fn number(value: &Value) -> Option<&str> {
    value.as_object().filter(|object| object.len() == 1)?.get(NUMBER)?.as_str()
}

fn whole(value: &Value) -> Option<u64> {
    number(value)?.parse().ok()
}

/// Nanoseconds of a time in microseconds, which has no more than three decimals.
fn ns(value: &Value) -> Option<i128> {
    let text = number(value)?;
    let (us, decimals) = text.split_once('.').unwrap_or((text, ""));
    let decimals = decimals.trim_end_matches('0');
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if us.is_empty() || !digits(us) || !digits(decimals) || decimals.len() > 3 {
        return None;
    }
    Some(us.parse::<i128>().ok()? * 1000 + format!("{decimals:0<3}").parse::<i128>().ok()?)
}

fn text<'a>(event: &'a Event, field: &str) -> &'a str {
    event.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn check_event(event: &Event) -> Result<(), String> {
    let wrong = |told: &str| format!("{told}: {}", Value::from(event.clone()));
    let wanted: &[&str] = match text(event, "ph") {
        "X" => &["name", "pid", "tid", "ts", "dur"],
        "i" => &["name", "pid", "tid", "ts", "s"],
        "C" => &["name", "pid", "ts", "args"],
        "M" => &["name", "pid", "args"],
        _ => return Err(wrong("unknown kind of event")),
    };
    for field in wanted {
        require(event.contains_key(*field), || wrong(&format!("an event lacks {field}")))?;
    }
    let name = text(event, "name");
    require(!name.is_empty(), || wrong("an event has no name"))?;
    for field in ["pid", "tid"] {
        let sound = event.get(field).is_none_or(|value| whole(value).is_some());
        require(sound, || wrong(&format!("{field} is no number")))?;
    }
    for field in ["ts", "dur"] {
        let sound = event.get(field).is_none_or(|value| ns(value).is_some());
        require(sound, || wrong(&format!("{field} is no time in microseconds")))?;
    }
    let none = Map::new();
    let args = event.get("args").map_or(Some(&none), Value::as_object).filter(|args| !args.contains_key(NUMBER));
    let args = args.ok_or_else(|| wrong("args is no object"))?;
    match text(event, "ph") {
        "C" => {
            require(!args.is_empty(), || wrong("a counter without a value"))?;
            require(args.values().all(|value| number(value).is_some()), || wrong("a counter that is no number"))
        }
        "i" => require(["t", "p", "g"].contains(&text(event, "s")), || wrong("an instant of no scope")),
        "M" => {
            let argument = match name {
                "process_name" | "thread_name" => "name",
                "process_sort_index" | "thread_sort_index" => "sort_index",
                _ => return Err(wrong("unknown metadata")),
            };
            require(args.contains_key(argument), || wrong("unknown metadata"))
        }
        _ => Ok(()),
    }
}

/// What has an order of its own beside the complete events: the instants of a thread, or the values
/// of a counter.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Track {
    Thread(u64),
    Counter(String),
}

#[derive(Default)]
struct Tracks {
    processes: BTreeMap<u64, String>,
    threads: BTreeMap<(u64, u64), String>,
    /// Begin and end in nanoseconds.
    slices: BTreeMap<(u64, u64), Vec<(i128, i128)>>,
    others: BTreeMap<(u64, Track), Vec<i128>>,
    /// Complete events, instants and counter values of each process.
    counts: BTreeMap<u64, [usize; 3]>,
}

impl Tracks {
    /// Takes in an event that [`check_event`] found sound.
    fn add(&mut self, event: &Event) -> Result<(), String> {
        let id = |field| event.get(field).and_then(whole).unwrap_or(0);
        let time = |field| event.get(field).and_then(ns).unwrap_or(0);
        let (pid, tid, name) = (id("pid"), id("tid"), text(event, "name"));
        let counts = self.counts.entry(pid).or_default();
        match text(event, "ph") {
            "X" => {
                counts[0] += 1;
                self.slices.entry((pid, tid)).or_default().push((time("ts"), time("ts") + time("dur")));
            }
            "i" => {
                counts[1] += 1;
                self.others.entry((pid, Track::Thread(tid))).or_default().push(time("ts"));
            }
            "C" => {
                counts[2] += 1;
                self.others.entry((pid, Track::Counter(name.to_owned()))).or_default().push(time("ts"));
            }
            _ => {
                let given = event["args"]["name"].as_str().unwrap_or_default().to_owned();
                let twice = match name {
                    "process_name" => self.processes.insert(pid, given).is_some(),
                    "thread_name" => self.threads.insert((pid, tid), given).is_some(),
                    _ => false,
                };
                require(!twice, || format!("a track is named twice: {}", Value::from(event.clone())))?;
            }
        }
        Ok(())
    }

    fn check(self) -> Result<Vec<String>, String> {
        require(!self.slices.is_empty(), || "no span at all".into())?;
        for (track, slices) in &self.slices {
            check_nesting(slices).map_err(|told| format!("track {track:?}: {told}"))?;
        }
        for (track, times) in &self.others {
            require(times.is_sorted(), || format!("track {track:?} is not in the order of time"))?;
        }
        for pid in self.counts.keys() {
            require(self.processes.contains_key(pid), || format!("process {pid} has no name"))?;
        }
        let instants = self.others.keys().filter_map(|(pid, track)| match track {
            Track::Thread(tid) => Some((*pid, *tid)),
            Track::Counter(_) => None,
        });
        for track in self.slices.keys().copied().chain(instants) {
            require(self.threads.contains_key(&track), || {
                format!("thread {} of process {} has no name", track.1, track.0)
            })?;
        }
        let line = |(pid, name): (&u64, &String)| {
            let [spans, instants, values] = self.counts[pid];
            format!("{name}: {spans} spans, {instants} instants, {values} counter values")
        };
        Ok(self.processes.iter().map(line).collect())
    }
}

/// Complete events of one thread, in the order they stand: each begins inside of the last open one
/// and ends there too.
fn check_nesting(slices: &[(i128, i128)]) -> Result<(), String> {
    let mut open = Vec::new();
    let mut last = -1;
    for &(start, end) in slices {
        require(start >= last, || format!("events are not in the order of time at {start} ns"))?;
        last = start;
        while open.last().is_some_and(|around| *around <= start) {
            open.pop();
        }
        let inside = open.last().is_none_or(|around| end <= *around);
        require(inside, || format!("an event of {start} to {end} ns ends after the one around it"))?;
        open.push(end);
    }
    Ok(())
}

#[test]
fn a_trace_that_breaks_a_rule_is_seen() {
    let good = r#"{"displayTimeUnit": "ns", "traceEvents": [
        {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "p \" 12 {"}},
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 2, "args": {"name": "t"}},
        {"ph": "X", "name": "outer", "pid": 1, "tid": 2, "ts": 9007199254740993.001, "dur": 4},
        {"ph": "X", "name": "inner", "pid": 1, "tid": 2, "ts": 9007199254740993.001, "dur": 3.999},
        {"ph": "i", "name": "now", "pid": 1, "tid": 2, "ts": 7, "s": "t"},
        {"ph": "C", "name": "count", "pid": 1, "ts": 7.5, "args": {"bytes": -1.5e3}}
    ]}"#;
    assert_eq!(check(good), Ok(vec!["p \" 12 {: 2 spans, 1 instants, 1 counter values".to_owned()]));
    for (from, to) in [
        ("\"ns\"", "\"us\""),
        ("traceEvents", "events"),
        ("\"ph\": \"i\"", "\"ph\": \"B\""),
        ("\"dur\": 4", "\"duration\": 4"),
        // A nanosecond too long, after the first one of the outer event that a float can tell.
        ("\"dur\": 3.999", "\"dur\": 4.001"),
        ("9007199254740993.001, \"dur\": 3.999", "9007199254740993.000, \"dur\": 3.999"),
        ("\"dur\": 3.999", "\"dur\": 3.9991"),
        ("\"dur\": 4", "\"dur\": -4"),
        ("\"dur\": 4", "\"dur\": NaN"),
        ("\"ts\": 7,", "\"ts\": 07,"),
        ("-1.5e3", "true"),
        ("{\"bytes\": -1.5e3}", "{}"),
        ("\"s\": \"t\"", "\"s\": \"x\""),
        ("\"pid\": 1, \"args\": {\"name\": \"p", "\"pid\": 3, \"args\": {\"name\": \"p"),
        ("thread_name", "process_name"),
        ("\"tid\": 2, \"args\"", "\"tid\": 4, \"args\""),
    ] {
        let bad = good.replacen(from, to, 1);
        assert!(bad != good && check(&bad).is_err(), "{from} as {to}");
    }
}
