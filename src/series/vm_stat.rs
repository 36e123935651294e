//! The output of `vm_stat INTERVAL` on macOS: levels and counts of pages, without times.

use super::{Series, SeriesError, Text, Unit, Wanted};

pub(super) const HEAD: &str = "Mach Virtual Memory Statistics:";
/// Columns that are levels. The others count events since the row before, and in the row after a
/// header since the system was started.
const LEVELS: [&str; 13] = [
    "free",
    "active",
    "spec",
    "specul",
    "inactive",
    "throttle",
    "wire",
    "wired",
    "prgable",
    "file-backed",
    "anonymous",
    "cmprssed",
    "cmprssor",
];

pub(super) fn read(text: &Text<'_>, wanted: &Wanted) -> Result<Series, SeriesError> {
    let every_s = text.every(wanted)?;
    let mut columns: Option<(Vec<String>, usize)> = None;
    let mut page_bytes = None;
    let mut series = Series { column: String::new(), unit: Unit::Bytes, samples: Vec::new(), empty: 0 };
    let (mut rows, mut fresh) = (0_u64, false);
    for (number, line) in (1..).zip(text.text.lines()) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let Some(rest) = line.strip_prefix(HEAD) {
            let found = rest.split("page size of ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
            page_bytes = Some(found.ok_or_else(|| text.at(number, "the page size is missing from this header"))?);
        } else if fields.first().is_some_and(|name| *name == "free") {
            let names: Vec<String> = fields.iter().map(|&name| name.to_owned()).collect();
            let at = text.column(&names, &wanted.column)?;
            series.column.clone_from(&names[at]);
            columns = Some((names, at));
            fresh = true;
        } else if let (Some((names, at)), Some(bytes)) = (&columns, page_bytes) {
            if fields.is_empty() {
                continue;
            }
            if fields.len() != names.len() {
                let message = format!("{} fields, but the header has {}", fields.len(), names.len());
                return Err(text.at(number, message));
            }
            let value = count(fields[*at]).ok_or_else(|| {
                text.at(number, format!("`{}` in column `{}` is not a number of pages", fields[*at], names[*at]))
            })?;
            let level = LEVELS.contains(&names[*at].as_str());
            if level || !fresh {
                let value = if level { value * f64::from(bytes) } else { value };
                series.samples.push((rows as f64 * every_s, value));
            }
            if !level {
                series.unit = Unit::Other(String::new());
            }
            rows += 1;
            fresh = false;
        } else if line.contains(':') {
            return Err(text.at(number, "a single report, not a series; record one with `vm_stat 1 > FILE`"));
        }
    }
    if columns.is_none() {
        return Err(text.error("vm_stat's line of column names is missing"));
    }
    Ok(series)
}

/// A number that `vm_stat` may have shortened: `3007419K` is thousands.
fn count(field: &str) -> Option<f64> {
    let (digits, size) = match field.chars().next_back()? {
        'K' => (&field[..field.len() - 1], 1e3),
        'M' => (&field[..field.len() - 1], 1e6),
        'G' => (&field[..field.len() - 1], 1e9),
        _ => (field, 1.0),
    };
    digits.parse::<u64>().ok().map(|whole| whole as f64 * size)
}
