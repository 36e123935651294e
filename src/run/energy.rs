//! Energy of the phases of a request, from the power gauges: measured or absent, never estimated.

use crate::record::metric::is_power;
use crate::record::{GaugeInfo, SpanRow, TelemetryRow, TokenRow};
use crate::run::stretches::stretches;
use inferometer_protocol::Phase;

/// Samples must cover this share of a phase; the rest is counted with the average power of the
/// covered part.
const COVERED: f64 = 0.9;
/// A phase with fewer samples has no energy.
const SAMPLES_AT_LEAST: usize = 3;

/// Energy of the phases of a request, in joules.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PhaseEnergy {
    pub prefill_j: Option<f64>,
    pub decode_j: Option<f64>,
}

/// The power gauges of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    columns: Vec<usize>,
}

impl Meter {
    /// From the gauges, which are the columns of the rows.
    #[must_use]
    pub fn of(gauges: &[GaugeInfo]) -> Self {
        let columns = gauges.iter().enumerate().filter(|(_, gauge)| is_power(gauge)).map(|(column, _)| column);
        Self { columns: columns.collect() }
    }

    /// The energy of a request's phases: prefill over its spans, decode from the first to the last
    /// token. `samples` reach from before the request to its end; a phase that they do not cover
    /// has no energy.
    #[must_use]
    pub fn phases(&self, spans: &[SpanRow], tokens: &[TokenRow], samples: &[TelemetryRow]) -> PhaseEnergy {
        let prefill: Vec<(u64, u64)> =
            spans.iter().filter(|span| span.phase == Phase::Prefill).map(|span| (span.start_ns, span.end_ns)).collect();
        let decode = tokens.first().zip(tokens.last()).map(|(first, last)| (first.t_ns, last.t_ns));
        PhaseEnergy {
            prefill_j: self.joules(&prefill, samples),
            decode_j: decode.and_then(|decode| self.joules(&[decode], samples)),
        }
    }

    /// Energy of all power gauges over intervals of time, in joules; `None` if a gauge does not
    /// cover them or there is no gauge.
    #[must_use]
    pub fn joules(&self, parts: &[(u64, u64)], samples: &[TelemetryRow]) -> Option<f64> {
        let each: Option<Vec<f64>> = self.columns.iter().map(|column| integral(*column, parts, samples)).collect();
        each.filter(|each| !each.is_empty()).map(|each| each.iter().sum())
    }
}

/// A sample's value holds since the previous sample; if that stretch overlaps an interval partly,
/// the overlap counts.
fn integral(column: usize, parts: &[(u64, u64)], samples: &[TelemetryRow]) -> Option<f64> {
    let whole: u64 = parts.iter().map(|(start, end)| end.saturating_sub(*start)).sum();
    let (mut covered, mut joules, mut used) = (0, 0.0, 0);
    for stretch in stretches(samples, |row| row.values.get(column).copied().flatten()) {
        let ns: u64 = parts.iter().map(|part| stretch.within(*part)).sum();
        covered += ns;
        joules += stretch.value * ns as f64 / 1e9;
        used += usize::from(ns > 0);
    }
    let share = covered as f64 / whole as f64;
    (used >= SAMPLES_AT_LEAST && share >= COVERED).then(|| joules / share)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn gauge(name: &str, absent: Option<&str>) -> GaugeInfo {
        let absent = absent.map(str::to_owned);
        GaugeInfo { name: name.to_owned(), unit: "W".to_owned(), source: String::new(), absent }
    }

    /// One sample every 100 ms from 0: CPU 10 W up to 1 s and 30 W later, memory always 2 W.
    fn samples(last_ms: u64) -> Vec<TelemetryRow> {
        let values = |ms| match ms {
            0 => vec![None, None, None],
            _ => vec![Some(if ms <= 1000 { 10.0 } else { 30.0 }), Some(50.0), Some(2.0)],
        };
        (0..=last_ms).step_by(100).map(|ms| TelemetryRow { t_ns: ms * MS, host: Some(0), values: values(ms) }).collect()
    }

    fn meter() -> Meter {
        Meter::of(&[
            gauge("cpu_watts", None),
            gauge("system_watts", None),
            gauge("dram_watts", None),
            gauge("gpu_watts", Some("no GPU")),
        ])
    }

    #[test]
    fn energy_is_the_integral_of_power_over_the_phase() {
        let joules = |from: u64, to: u64| meter().joules(&[(from * MS, to * MS)], &samples(2000)).unwrap();
        for (from, to, expected) in
            [(200, 1000, 0.8 * 12.0), (1000, 2000, 32.0), (950, 1450, 0.05 * 12.0 + 0.45 * 32.0)]
        {
            assert!((joules(from, to) - expected).abs() < 1e-9, "{from} to {to}: {}", joules(from, to));
        }
        let parts = [(200 * MS, 450 * MS), (450 * MS, 1000 * MS)];
        assert!((meter().joules(&parts, &samples(2000)).unwrap() - 9.6).abs() < 1e-9, "chunks add up");
    }

    #[test]
    fn a_phase_that_samples_do_not_cover_has_no_energy() {
        let joules = |from: u64, to: u64| meter().joules(&[(from * MS, to * MS)], &samples(1000));
        assert_eq!(joules(400, 590), None, "two samples");
        assert_eq!(joules(500, 1100), None, "a sixth is not covered");
        assert!((joules(500, 1040).unwrap() - 0.54 * 12.0).abs() < 1e-9, "the last 40 ms are counted with the average");
        assert_eq!(joules(700, 700), None);
        let blind = Meter::of(&[gauge("system_watts", None), gauge("cpu_watts", Some("no permission"))]);
        assert_eq!(blind.joules(&[(200 * MS, 1000 * MS)], &samples(1000)), None);
        let mut gap = samples(1000);
        gap.iter_mut().skip(1).for_each(|row| row.values[2] = None);
        assert_eq!(meter().joules(&[(200 * MS, 1000 * MS)], &gap), None, "part of the power is unknown");
    }

    #[test]
    fn phases_are_those_of_the_request() {
        let span = |phase, start, end| SpanRow { request: 0, phase, index: 0, start_ns: start * MS, end_ns: end * MS };
        let spans = [span(Phase::Tokenize, 100, 200), span(Phase::Prefill, 200, 1000)];
        let token = |index, ms| TokenRow { request: 0, index, id: Some(1), t_ns: ms * MS };
        let tokens = [token(0, 1000), token(1, 1500), token(2, 2000)];
        let energy = meter().phases(&spans, &tokens, &samples(2000));
        assert!((energy.prefill_j.unwrap() - 9.6).abs() < 1e-9 && (energy.decode_j.unwrap() - 32.0).abs() < 1e-9);
        assert_eq!(meter().phases(&[], &[], &samples(2000)), PhaseEnergy::default());
    }
}
