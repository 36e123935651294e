//! The columns of a record and the sources that fill them.

use super::table::{FROM_ENGINE, GAUGES};
use super::{Gauge, Source};
use crate::spec::GaugeInfo;

/// All gauges that are sampled together.
pub(super) struct Panel {
    gauges: Vec<GaugeInfo>,
    feeds: Vec<Feed>,
}

/// A source with its values, and the column of each value.
struct Feed {
    source: Box<dyn Source>,
    values: Vec<Option<f64>>,
    columns: Vec<Option<usize>>,
}

impl Panel {
    /// Every gauge of the table in these groups, readable on this machine or not.
    pub fn of_groups(groups: &[String], sources: Vec<Box<dyn Source>>) -> Self {
        let wanted = GAUGES.iter().filter(|gauge| groups.iter().any(|group| group == gauge.group));
        let known = sources.iter().flat_map(|source| source.gauges()).collect::<Vec<_>>();
        Self::new(wanted.map(|gauge| info(gauge, &known)).collect(), sources)
    }

    /// The columns of an existing record; one that this program cannot fill stays empty.
    pub fn of_record(gauges: &[GaugeInfo], sources: Vec<Box<dyn Source>>) -> Self {
        Self::new(gauges.to_vec(), sources)
    }

    /// The first source that has a gauge fills its column. A source that fills none is not read.
    fn new(gauges: Vec<GaugeInfo>, sources: Vec<Box<dyn Source>>) -> Self {
        let mut taken = vec![false; gauges.len()];
        let mut feeds = Vec::new();
        for source in sources {
            let own = source.gauges();
            let columns: Vec<Option<usize>> = own
                .iter()
                .map(|known| {
                    let column = gauges.iter().position(|gauge| known.absent.is_none() && gauge.name == known.name)?;
                    (!std::mem::replace(&mut taken[column], true)).then_some(column)
                })
                .collect();
            if columns.iter().any(Option::is_some) {
                feeds.push(Feed { source, values: vec![None; own.len()], columns });
            }
        }
        Self { gauges, feeds }
    }

    pub fn gauges(&self) -> &[GaugeInfo] {
        &self.gauges
    }

    /// Current values, one per gauge.
    pub fn sample(&mut self, target: Option<u32>) -> Vec<Option<f64>> {
        let mut row = vec![None; self.gauges.len()];
        for feed in &mut self.feeds {
            feed.values.fill(None);
            feed.source.sample(target, &mut feed.values);
            for (value, column) in feed.values.iter().zip(&feed.columns) {
                if let Some(column) = column {
                    row[*column] = *value;
                }
            }
        }
        row
    }
}

/// The first source's entry for a gauge, or why no source has it.
fn info(gauge: &Gauge, known: &[GaugeInfo]) -> GaugeInfo {
    let mut own = known.iter().filter(|info| info.name == gauge.name);
    if let Some(present) = own.clone().find(|info| info.absent.is_none()) {
        return present.clone();
    }
    if FROM_ENGINE.contains(&gauge.name) {
        return super::gauge(gauge.name, "the engine, through the protocol", None);
    }
    let mut reasons: Vec<String> = own.clone().filter_map(|info| info.absent.clone()).collect();
    reasons.dedup();
    let reason = if reasons.is_empty() { gauge.elsewhere.to_owned() } else { reasons.join("; ") };
    let source = own.next().map(|info| info.source.clone()).unwrap_or_default();
    super::gauge(gauge.name, &source, Some(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns fixed values.
    struct Fixed(Vec<(GaugeInfo, Option<f64>)>);

    impl Source for Fixed {
        fn gauges(&self) -> Vec<GaugeInfo> {
            self.0.iter().map(|(info, _)| info.clone()).collect()
        }

        fn sample(&mut self, _: Option<u32>, values: &mut [Option<f64>]) {
            for (place, (_, value)) in values.iter_mut().zip(&self.0) {
                assert_eq!(*place, None);
                *place = *value;
            }
        }
    }

    fn fixed(gauges: &[(&str, Result<f64, &str>)]) -> Box<dyn Source> {
        let gauge = |(name, value): &(&str, Result<f64, &str>)| {
            (super::super::gauge(name, "a test", value.err().map(str::to_owned)), value.ok())
        };
        Box::new(Fixed(gauges.iter().map(gauge).collect()))
    }

    fn sources() -> Vec<Box<dyn Source>> {
        vec![
            fixed(&[("gpu_percent", Err("no NVIDIA")), ("gpu_mhz", Ok(1.0)), ("load_1m", Ok(2.0))]),
            fixed(&[("gpu_percent", Err("no AMD")), ("gpu_mhz", Ok(9.0))]),
        ]
    }

    #[test]
    fn every_gauge_of_a_group_is_a_column_filled_by_the_first_source_that_has_it() {
        let mut panel = Panel::of_groups(&["gpu".to_owned()], sources());
        let row = panel.sample(None);
        let names: Vec<_> = GAUGES.iter().filter(|g| g.group == "gpu").map(|g| g.name).collect();
        assert_eq!(panel.gauges().iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), names);
        for (info, value) in panel.gauges().iter().zip(row) {
            match info.name.as_str() {
                "gpu_percent" => assert_eq!(info.absent.as_deref(), Some("no NVIDIA; no AMD")),
                "gpu_mhz" => assert_eq!((value, info.absent.as_ref()), (Some(1.0), None)),
                "gpu_throttle_reasons" => assert_eq!(info.absent.as_deref(), Some("NVIDIA only")),
                _ => assert!(info.absent.is_some() && value.is_none(), "{info:?}"),
            }
        }
    }

    #[test]
    fn a_record_keeps_its_columns() {
        let begun = ["load_1m", "gpu_percent"].map(|name| super::super::gauge(name, "as it was", None));
        let mut old = begun.to_vec();
        old[1].name = "a gauge of another version".to_owned();
        let mut panel = Panel::of_record(&old, sources());
        assert_eq!(panel.gauges(), old);
        assert_eq!(panel.sample(None), [Some(2.0), None]);
    }

    #[test]
    fn what_the_engine_says_is_present_though_no_source_has_it() {
        let panel = Panel::of_groups(&["memory".to_owned()], Vec::new());
        let engine = |info: &&GaugeInfo| FROM_ENGINE.contains(&info.name.as_str());
        assert_eq!(panel.gauges().iter().filter(engine).filter(|info| info.absent.is_none()).count(), 3);
        assert!(panel.gauges().iter().filter(|info| !engine(info)).all(|info| info.absent.is_some()));
    }
}
