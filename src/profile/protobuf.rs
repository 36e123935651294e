//! The profile in pprof's protobuf format (github.com/google/pprof, `proto/profile.proto`), which
//! `go tool pprof`, speedscope and Perfetto read.
//!
//! Not compressed: the format's page asks for gzip, but all these readers accept both. Field
//! numbers are those of the published file; unused fields are omitted.

use std::collections::{BTreeMap, HashMap};

use prost::Message;

use super::rate::{achieved_hz_of, ns_per_sample};
use super::{names, parts};
use inferometer_protocol::{Profile, SampleClock};

/// All parts of the profiles: each sample with its count and estimated time, labelled with `thread`
/// and `phase`.
#[must_use]
pub fn protobuf(profiles: &[&Profile], title: &str) -> Vec<u8> {
    let mut texts = Texts::default();
    let clock = match profiles.first().map(|profile| profile.clock) {
        Some(SampleClock::Wall) => "wall",
        _ => "cpu",
    };
    let time = proto::ValueType { r#type: texts.place(clock), unit: texts.place("nanoseconds") };
    let samples = proto::ValueType { r#type: texts.place("samples"), unit: texts.place("count") };
    let (sample, functions) = samples_and_functions(profiles, &mut texts);
    let place = |function: u64| proto::Location {
        id: function,
        mapping_id: 1,
        line: vec![proto::Line { function_id: function, line: 0 }],
    };
    let achieved = achieved_hz_of(profiles, None);
    let mut comments = vec![title.to_owned()];
    comments.extend(profiles.first().map(|first| {
        let rate = achieved.map_or("unknown".to_owned(), |hz| format!("{hz:.1}"));
        format!(
            "{}: {rate} samples per second of {clock} time achieved, {} requested",
            first.profiler, first.frequency_hz
        )
    }));
    let comment = comments.iter().map(|text| texts.place(&names::clean(text))).collect();
    let mapping = proto::Mapping { id: 1, filename: texts.place("engine"), has_functions: true };
    let profile = proto::Profile {
        sample_type: vec![samples, time.clone()],
        sample,
        mapping: vec![mapping],
        location: functions.iter().map(|function| place(function.id)).collect(),
        function: functions,
        duration_nanos: parts(profiles, None).map(|(_, part)| signed(part.duration_ns)).fold(0, i64::saturating_add),
        period_type: Some(time),
        period: achieved.map_or(0, |hz| (1e9 / hz).round() as i64),
        comment,
        string_table: texts.table,
    };
    profile.encode_to_vec()
}

fn samples_and_functions(profiles: &[&Profile], texts: &mut Texts) -> (Vec<proto::Sample>, Vec<proto::Function>) {
    let (thread_key, phase_key) = (texts.place("thread"), texts.place("phase"));
    let mut functions = Vec::<proto::Function>::new();
    let mut ids = HashMap::<i64, u64>::new();
    // Merge equal stacks of several profiles into one sample.
    let mut samples = BTreeMap::<(Vec<u64>, i64, i64), (u64, f64)>::new();
    for (profile, part) in parts(profiles, None) {
        let each_ns = ns_per_sample(profile, part);
        let phase = part.phase.map_or(0, |phase| texts.place(phase.name()));
        for stack in &part.stacks {
            let thread = texts.place(&names::thread(&stack.thread));
            let mut id = |frame: u32| {
                let name = texts.place(&names::clean(names::raw(profile, frame)));
                *ids.entry(name).or_insert_with(|| {
                    let id = functions.len() as u64 + 1;
                    functions.push(proto::Function { id, name, system_name: name });
                    id
                })
            };
            // The leaf comes first.
            let locations: Vec<u64> = stack.frames.iter().rev().map(|&frame| id(frame)).collect();
            let (count, ns) = samples.entry((locations, phase, thread)).or_default();
            *count = count.saturating_add(stack.count);
            *ns += each_ns * stack.count as f64;
        }
    }
    let sample = |((location_id, phase, thread), (count, ns)): (_, (u64, f64))| {
        let label = [(thread_key, thread), (phase_key, phase)].into_iter().filter(|(_, text)| *text != 0);
        proto::Sample {
            location_id,
            value: vec![signed(count), ns.round() as i64],
            label: label.map(|(key, str)| proto::Label { key, str }).collect(),
        }
    };
    (samples.into_iter().map(sample).collect(), functions)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The string table; its first string is empty.
struct Texts {
    table: Vec<String>,
    places: HashMap<String, i64>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { table: vec![String::new()], places: HashMap::from([(String::new(), 0)]) }
    }
}

impl Texts {
    fn place(&mut self, text: &str) -> i64 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = self.table.len() as i64;
        self.table.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        place
    }
}

/// The messages of `profile.proto` that we write. Numbers that stand for texts are indices into
/// `string_table`.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Profile {
        #[prost(message, repeated, tag = "1")]
        pub sample_type: Vec<ValueType>,
        #[prost(message, repeated, tag = "2")]
        pub sample: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub mapping: Vec<Mapping>,
        #[prost(message, repeated, tag = "4")]
        pub location: Vec<Location>,
        #[prost(message, repeated, tag = "5")]
        pub function: Vec<Function>,
        #[prost(string, repeated, tag = "6")]
        pub string_table: Vec<String>,
        #[prost(int64, tag = "10")]
        pub duration_nanos: i64,
        #[prost(message, optional, tag = "11")]
        pub period_type: Option<ValueType>,
        #[prost(int64, tag = "12")]
        pub period: i64,
        #[prost(int64, repeated, tag = "13")]
        pub comment: Vec<i64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ValueType {
        #[prost(int64, tag = "1")]
        pub r#type: i64,
        #[prost(int64, tag = "2")]
        pub unit: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Sample {
        #[prost(uint64, repeated, tag = "1")]
        pub location_id: Vec<u64>,
        #[prost(int64, repeated, tag = "2")]
        pub value: Vec<i64>,
        #[prost(message, repeated, tag = "3")]
        pub label: Vec<Label>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Label {
        #[prost(int64, tag = "1")]
        pub key: i64,
        #[prost(int64, tag = "2")]
        pub str: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Mapping {
        #[prost(uint64, tag = "1")]
        pub id: u64,
        #[prost(int64, tag = "5")]
        pub filename: i64,
        /// Keeps readers from resolving symbols themselves.
        #[prost(bool, tag = "7")]
        pub has_functions: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Location {
        #[prost(uint64, tag = "1")]
        pub id: u64,
        #[prost(uint64, tag = "2")]
        pub mapping_id: u64,
        #[prost(message, repeated, tag = "4")]
        pub line: Vec<Line>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Line {
        #[prost(uint64, tag = "1")]
        pub function_id: u64,
        #[prost(int64, tag = "2")]
        pub line: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Function {
        #[prost(uint64, tag = "1")]
        pub id: u64,
        #[prost(int64, tag = "2")]
        pub name: i64,
        #[prost(int64, tag = "3")]
        pub system_name: i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixtures::{MS, profile};

    type Labels<'a> = Vec<(&'a str, &'a str)>;

    #[test]
    fn what_is_written_can_be_read_back() {
        let bytes = protobuf(&[&profile(), &profile()], "cell");
        let read = proto::Profile::decode(bytes.as_slice()).unwrap();
        let text = |place: i64| read.string_table[place as usize].as_str();
        assert_eq!(text(0), "");
        let types: Vec<_> = read.sample_type.iter().map(|of| (text(of.r#type), text(of.unit))).collect();
        assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
        let name = |location: u64| {
            let location = read.location.iter().find(|l| l.id == location).unwrap();
            text(read.function.iter().find(|f| f.id == location.line[0].function_id).unwrap().name)
        };
        let stacks: Vec<(String, Vec<i64>, Labels<'_>)> = read
            .sample
            .iter()
            .map(|sample| {
                let leaf_first: Vec<&str> = sample.location_id.iter().map(|id| name(*id)).collect();
                let labels = sample.label.iter().map(|label| (text(label.key), text(label.str))).collect();
                (leaf_first.join("<"), sample.value.clone(), labels)
            })
            .collect();
        assert_eq!(stacks.len(), 5, "two equal profiles: {stacks:?}");
        let prefill = [("thread", "main"), ("phase", "prefill")].to_vec();
        assert!(stacks.contains(&("prefill<main".to_owned(), vec![8, 80 * MS as i64], prefill)), "{stacks:?}");
        assert!(stacks.contains(&("[unknown]<main".to_owned(), vec![2, 10 * MS as i64], vec![("thread", "main")])));
        assert_eq!(read.duration_nanos, 2 * 215 * MS as i64);
        assert_eq!(read.period, (255.0 * MS as f64 / 41.0).round() as i64);
        assert!(text(read.comment[1]).contains("160.8 samples per second of cpu time achieved, 1000 requested"));
        assert!(proto::Profile::decode(protobuf(&[], "").as_slice()).unwrap().sample.is_empty());
    }
}
