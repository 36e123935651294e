//! Any row is read back unchanged, and no wrong byte makes the reader panic.

use std::path::Path;
use std::sync::OnceLock;

use inferometer::record::csv::{Column, REQUEST_COLUMNS};
use inferometer::record::{Cause, Iteration, RequestRow, read};
use inferometer_protocol::{Settings, Value};
use proptest::prelude::*;
use proptest::sample::select;

use super::{iteration, record, stored};

/// What the cells of a column hold, found out by what is read and written there. So a new column
/// needs no line here.
#[derive(Clone, Copy)]
enum Kind {
    Flag,
    Whole32,
    Whole64,
    Number,
    Text,
    /// A name of an enumeration; the column's description has them in backquotes.
    Name,
}

/// One cell of each kind. A more general kind comes first: it has room for those below it too.
const PROBES: [(Kind, &str); 5] = [
    (Kind::Text, "neither a number nor a name"),
    (Kind::Number, "0.5"),
    (Kind::Whole64, "18446744073709551615"),
    (Kind::Whole32, "7"),
    (Kind::Flag, "true"),
];

/// A column as its cells show it.
struct Cells {
    name: &'static str,
    kind: Kind,
    may_be_empty: bool,
    names: Vec<&'static str>,
}

/// The columns of `requests.csv` that a row of its own fills: all but the number, which must rise.
fn columns() -> &'static [Cells] {
    static COLUMNS: OnceLock<Vec<Cells>> = OnceLock::new();
    COLUMNS.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let requests = vec![RequestRow::default()];
        let (run, _) = stored(dir.path(), &[Iteration { requests, ..Iteration::default() }]);
        let file = run.join("requests.csv");
        let whole = fs_err::read_to_string(&file).unwrap();
        // A reader may take a name that it does not know as one that it knows: only what is
        // written again counts.
        let keeps = |name: &'static str, cell: &str| {
            fs_err::write(&file, &whole).unwrap();
            fill(&file, &[vec![(name, cell.to_owned())]]);
            read(&run)
                .is_ok_and(|record| written(dir.path(), record.requests) == fs_err::read_to_string(&file).unwrap())
        };
        let of = |column: &Column| {
            let name = column.name;
            let names = column.meaning.split('`').skip(1).step_by(2).filter(|cell| keeps(name, cell)).collect();
            let kind = PROBES.into_iter().find(|(_, cell)| keeps(name, cell)).map_or(Kind::Name, |(kind, _)| kind);
            Cells { name, kind, may_be_empty: keeps(name, ""), names }
        };
        REQUEST_COLUMNS.iter().filter(|column| column.name != "request").map(of).collect()
    })
}

/// The file of a run with these rows.
fn written(results: &Path, requests: Vec<RequestRow>) -> String {
    let (run, _) = stored(results, &[Iteration { requests, ..Iteration::default() }]);
    fs_err::read_to_string(run.join("requests.csv")).unwrap()
}

/// Writes cells into the rows of a file, by the name of their column.
fn fill(file: &Path, rows: &[Vec<(&str, String)>]) {
    let text = fs_err::read_to_string(file).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().unwrap().clone();
    let mut writer = csv::Writer::from_path(file).unwrap();
    writer.write_record(&head).unwrap();
    for (record, cells) in reader.records().zip(rows) {
        let mut record: Vec<String> = record.unwrap().iter().map(str::to_owned).collect();
        for (name, cell) in cells {
            record[head.iter().position(|column| column == *name).unwrap()].clone_from(cell);
        }
        writer.write_record(&record).unwrap();
    }
}

/// Any cell of a column, as a writer writes it.
fn any_cell(column: &Cells) -> BoxedStrategy<String> {
    let text = || {
        any::<String>().prop_map(|text| {
            let text = inferometer::spreadsheet::guarded(&text);
            text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
        })
    };
    let full = match column.kind {
        Kind::Flag => any::<bool>().prop_map(|flag| flag.to_string()).boxed(),
        Kind::Whole32 => any::<u32>().prop_map(|number| number.to_string()).boxed(),
        Kind::Whole64 => any::<u64>().prop_map(|number| number.to_string()).boxed(),
        Kind::Number => (prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::SUBNORMAL)
            .prop_map(|number| number.to_string())
            .boxed(),
        Kind::Text => text().boxed(),
        // Chosen below, for the status.
        Kind::Name if column.name == "cause" => Just(String::new()).boxed(),
        Kind::Name => {
            assert!(!column.names.is_empty(), "no cell that is known here fits column {}", column.name);
            select(column.names.clone()).prop_map(str::to_owned).boxed()
        }
    };
    if column.may_be_empty { prop_oneof![full, Just(String::new())].boxed() } else { full }
}

/// A cell for each column. The cause depends on the status, so it is chosen for it.
fn any_cells() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let cells: Vec<_> = columns().iter().map(any_cell).collect();
    (cells, any::<prop::sample::Index>()).prop_map(|(cells, cause)| {
        let mut row: Vec<_> = columns().iter().map(|column| column.name).zip(cells).collect();
        let status = row.iter().find(|(name, _)| *name == "status").unwrap().1.clone();
        let causes: Vec<&Cause> = Cause::ALL.iter().filter(|cause| cause.status().name() == status).collect();
        let cause = if causes.is_empty() { "" } else { cause.get(&causes).name() };
        row.iter_mut().find(|(name, _)| *name == "cause").unwrap().1 = cause.to_owned();
        row
    })
}

/// Effective settings, of which some have columns of their own.
fn any_settings() -> impl Strategy<Value = Settings> {
    let value = prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<String>().prop_map(Value::Text),
        any::<bool>().prop_map(Value::Bool),
        prop::num::f64::NORMAL.prop_map(Value::Float)
    ];
    let name = prop_oneof![
        Just("repetition_penalty".to_owned()),
        Just("dtype".to_owned()),
        Just("other".to_owned()),
        any::<String>()
    ];
    prop::collection::btree_map(name, value, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every cell of a file reaches the row, and every value of the row the next file.
    #[test]
    fn any_row_is_read_back_as_it_was(rows in prop::collection::vec((any_cells(), any_settings()), 1..5)) {
        let dir = tempfile::tempdir().unwrap();
        let (cells, settings): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let plain = settings.into_iter().zip(0..);
        let requests = plain.map(|(effective, request)| RequestRow { request, effective, ..RequestRow::default() });
        let plain = Iteration { requests: requests.collect(), ..Iteration::default() };
        let (run, _) = stored(dir.path(), &[plain]);
        fill(&run.join("requests.csv"), &cells);
        let requests = read(&run).unwrap().requests;

        let iterations = [Iteration { requests, ..Iteration::default() }];
        let (again, manifest) = stored(dir.path(), &iterations);
        let text = |run: &Path| fs_err::read_to_string(run.join("requests.csv")).unwrap();
        prop_assert_eq!(text(&again), text(&run));
        prop_assert_eq!(read(&again).unwrap(), record(&manifest, &iterations));
    }

    /// Whatever byte is changed, reading ends with a record or with an error that names the file.
    #[test]
    fn a_wrong_byte_never_panics(file in 0..5_usize, at: prop::sample::Index, byte: u8) {
        let dir = tempfile::tempdir().unwrap();
        let (run, _) = stored(dir.path(), &[iteration(0, 1), iteration(1, 2)]);
        let name = ["tokens.csv", "spans.csv", "telemetry.csv", "requests.csv", "run.json"][file];
        let mut bytes = fs_err::read(run.join(name)).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        fs_err::write(run.join(name), bytes).unwrap();
        if let Err(error) = read(&run) {
            // A count that is wrong shows where the rows it counts are.
            let error = error.to_string();
            let counted = name == "requests.csv" && super::FILES.iter().any(|file| error.contains(file));
            prop_assert!(error.contains(name) || counted, "{}", error);
        }
    }
}
