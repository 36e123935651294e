//! The text of macOS's `powermetrics`: samples that state how long each took, with lines such as
//! `GPU Power: 45 mW`.

use super::{Series, SeriesError, Text, Unit, Wanted};

pub(super) const SAMPLE: &str = "*** Sampled system activity (";

pub(super) fn read(text: &Text<'_>, wanted: &Wanted) -> Result<Series, SeriesError> {
    let mut names: Vec<String> = Vec::new();
    let mut rows: Vec<(u64, &str)> = Vec::new();
    for (number, line) in (1..).zip(text.text.lines()) {
        if let Some((name, _)) = figure(line) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
            rows.push((number, line));
        } else if line.starts_with(SAMPLE) {
            rows.push((number, line));
        }
    }
    let column = names.swap_remove(text.column(&names, &wanted.column)?);
    let mut series = Series { column, unit: Unit::Other(String::new()), samples: Vec::new(), empty: 0 };
    let mut now_s = 0.0;
    let mut open = false;
    for (number, line) in rows {
        if line.starts_with(SAMPLE) {
            series.empty += usize::from(open);
            now_s += elapsed_s(line).ok_or_else(|| {
                text.at(number, "the sample does not say how long it took; expected `(1000.00ms elapsed)`")
            })?;
            open = true;
        } else if let Some((_, value)) = figure(line).filter(|(name, _)| open && *name == series.column) {
            let (digits, unit) = split(value);
            let value: f64 = digits
                .parse()
                .map_err(|_| text.at(number, format!("`{value}` of `{}` is not a number", series.column)))?;
            series.unit = Unit::Other(unit.to_owned());
            series.samples.push((now_s, value));
            open = false;
        }
    }
    series.empty += usize::from(open);
    Ok(series)
}

/// Name and value of a line such as `CPU Power: 1500 mW`.
fn figure(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':').filter(|_| !line.starts_with('*'))?;
    let value = value.trim();
    value.starts_with(|c: char| c.is_ascii_digit() || c == '-').then_some((name.trim(), value))
}

/// `1500 mW` as digits and unit; what follows in brackets is left out.
fn split(value: &str) -> (&str, &str) {
    let value = value.split('(').next().unwrap_or_default().trim();
    let end = value.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-')).unwrap_or(value.len());
    (&value[..end], value[end..].trim())
}

fn elapsed_s(line: &str) -> Option<f64> {
    let before = line.split("elapsed").next()?.trim_end();
    let number = before.rsplit('(').next()?.trim().strip_suffix("ms")?.trim();
    let ms: f64 = number.parse().ok()?;
    (ms > 0.0 && ms.is_finite()).then_some(ms / 1e3)
}
