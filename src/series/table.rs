//! Tables with a header line, separated by comma, semicolon or tab.

use super::time::{self, TimeUnit};
use super::{Series, SeriesError, Text, Wanted, unit};

pub(super) fn read(text: &Text<'_>, wanted: &Wanted) -> Result<Series, SeriesError> {
    let head = text.text.lines().next().unwrap_or_default();
    let delimiter = ['\t', ';'].into_iter().find(|c| head.contains(*c)).unwrap_or(',');
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter as u8)
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(text.text.trim_start_matches('\u{feff}').as_bytes());
    let names: Vec<String> = reader.headers().map_err(|e| broken(text, &e))?.iter().map(str::to_owned).collect();
    if names.iter().all(|name| name.is_empty() || name.parse::<f64>().is_ok()) {
        return Err(text.at(1, "no header: the first line must name the columns"));
    }
    let value = text.column(&names, &wanted.column)?;
    let clock = Clock::of(text, &names, wanted)?;
    let (unit, size) = unit(&names[value], wanted.unit.as_deref());
    let mut series = Series { column: names[value].clone(), unit, samples: Vec::new(), empty: 0 };
    let (mut first, mut last) = (None, None);
    for (row, line) in reader.records().enumerate() {
        let line = line.map_err(|e| broken(text, &e))?;
        let number = line.position().map_or(0, csv::Position::line);
        let cell = line.get(value).unwrap_or_default();
        if cell.is_empty() {
            series.empty += 1;
            continue;
        }
        let found: f64 = cell
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite())
            .ok_or_else(|| text.at(number, format!("`{cell}` in column `{}` is not a number", series.column)))?;
        let now = match &clock {
            Clock::Column { at, name, unit } => {
                let cell = line.get(*at).unwrap_or_default();
                time::parse(cell, *unit)
                    .map_err(|why| text.at(number, format!("`{cell}` in the time column `{name}`: {why}")))?
            }
            Clock::Every(seconds) => (row as f64 * seconds * 1e9).round() as i128,
        };
        if last.is_some_and(|last| now <= last) {
            return Err(text.at(number, "its time is not later than that of the row before it"));
        }
        last = Some(now);
        let origin = *first.get_or_insert(now);
        let seconds = now.checked_sub(origin).map(|ns| ns as f64 / 1e9);
        let value = found * size;
        match seconds.filter(|seconds| seconds.is_finite() && value.is_finite()) {
            Some(seconds) => series.samples.push((seconds, value)),
            None => return Err(text.at(number, format!("`{cell}` or its time is too large"))),
        }
    }
    Ok(series)
}

/// Where the times come from.
enum Clock<'a> {
    Column { at: usize, name: &'a str, unit: Option<TimeUnit> },
    Every(f64),
}

impl<'a> Clock<'a> {
    fn of(text: &Text<'_>, names: &'a [String], wanted: &Wanted) -> Result<Self, SeriesError> {
        let at = match &wanted.time {
            Some(name) => Some(text.column(names, name)?),
            None if wanted.every_s.is_some() => None,
            None => names.iter().position(|name| time::is_time(name)),
        };
        let Some(at) = at else {
            return text.every(wanted).map(Self::Every).map_err(|error| match error {
                SeriesError::File { path, message } => {
                    SeriesError::File { path, message: format!("{message}, or name the column of times with `--time`") }
                }
                other => other,
            });
        };
        let unit = wanted.time_unit.or_else(|| TimeUnit::of_column(&names[at]));
        Ok(Self::Column { at, name: &names[at], unit })
    }
}

fn broken(text: &Text<'_>, error: &csv::Error) -> SeriesError {
    match (error.kind(), error.position()) {
        (csv::ErrorKind::UnequalLengths { expected_len, len, .. }, Some(at)) => {
            text.at(at.line(), format!("{len} fields, but the header has {expected_len}"))
        }
        (_, Some(at)) => text.at(at.line(), error.to_string()),
        _ => text.error(error.to_string()),
    }
}
