//! Utilization, clocks, watts and temperatures of Apple Silicon, read by the macmon library without
//! root.

/// One window of macmon. macmon reports missing figures as zero; here they are `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reading {
    /// Kinds of cores, from the slowest to the fastest.
    pub tiers: Vec<Tier>,
    /// Share of the window in which the GPU was active, 0 to 1, and its clock during that time.
    pub gpu_active: Option<f64>,
    pub gpu_mhz: Option<f64>,
    pub watts: Option<Watts>,
    /// Power of the whole machine.
    pub system_watts: Option<f64>,
    pub cpu_celsius: Option<f64>,
    pub gpu_celsius: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tier {
    pub cores: u32,
    pub mhz: u32,
    /// Mean share of the window in which its cores were active, 0 to 1.
    pub active: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Watts {
    /// A running CPU draws some power: a figure of zero was not counted.
    pub cpu: Option<f64>,
    pub gpu: f64,
    /// Of the neural engine.
    pub ane: f64,
    /// Not counted on chips from M3 on.
    pub dram: Option<f64>,
}

impl Watts {
    /// `None` if the machine has no energy counters, as in a virtual machine: then all figures are
    /// zero. GPU and neural engine alone may be at zero, and on some chips the CPU's counter has
    /// another name than macmon looks for, which says nothing about the GPU's.
    pub fn counted(cpu: f64, gpu: f64, ane: f64, dram: f64) -> Option<Self> {
        let all = [cpu, gpu, ane, dram];
        let any = all.iter().all(|watts| watts.is_finite()) && all.iter().any(|watts| *watts > 0.0);
        any.then_some(Self { cpu: counted(cpu), gpu, ane, dram: counted(dram) })
    }
}

/// A figure that is never zero if it is counted.
pub(super) fn counted(value: f64) -> Option<f64> {
    (value.is_finite() && value > 0.0).then_some(value)
}

impl Reading {
    /// `cpu_mhz`: mean over all cores.
    pub fn cpu_mhz(&self) -> Option<f64> {
        mhz(&self.tiers)
    }

    /// Utilization (0 to 100) and clock of the efficiency cores: the slowest kind if there are
    /// several.
    pub fn efficiency(&self) -> (Option<f64>, Option<f64>) {
        self.split().map_or((None, None), |(slow, _)| (percent(slow), mhz(slow)))
    }

    /// Utilization and clock of the performance cores: all kinds except the slowest.
    pub fn performance(&self) -> (Option<f64>, Option<f64>) {
        self.split().map_or((None, None), |(_, fast)| (percent(fast), mhz(fast)))
    }

    pub fn gpu_percent(&self) -> Option<f64> {
        self.gpu_active.map(|active| active * 100.0)
    }

    fn split(&self) -> Option<(&[Tier], &[Tier])> {
        (self.tiers.len() > 1).then(|| self.tiers.split_at(1))
    }
}

/// Mean of a figure over the cores of several kinds.
fn over_cores(tiers: &[Tier], figure: impl Fn(&Tier) -> f64) -> Option<f64> {
    let cores: u32 = tiers.iter().map(|tier| tier.cores).sum();
    (cores > 0).then(|| tiers.iter().map(|tier| figure(tier) * f64::from(tier.cores)).sum::<f64>() / f64::from(cores))
}

fn percent(tiers: &[Tier]) -> Option<f64> {
    over_cores(tiers, |tier| tier.active * 100.0)
}

fn mhz(tiers: &[Tier]) -> Option<f64> {
    tiers.iter().all(|tier| tier.mhz > 0).then(|| over_cores(tiers, |tier| f64::from(tier.mhz)))?
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn kinds_of_cores_are_weighed_by_their_number() {
        let tier = |cores, mhz, active| Tier { cores, mhz, active };
        let two = Reading { tiers: vec![tier(4, 1000, 0.5), tier(8, 3400, 0.25)], ..Reading::default() };
        assert_eq!(two.cpu_mhz(), Some(2600.0));
        assert_eq!((two.efficiency(), two.performance()), ((Some(50.0), Some(1000.0)), (Some(25.0), Some(3400.0))));
        let three = Reading { tiers: vec![tier(6, 2900, 0.1), tier(4, 4000, 0.0), tier(2, 4700, 1.0)], ..two };
        let (use_, clock) = three.performance();
        assert!((use_.unwrap() - 100.0 / 3.0).abs() < 1e-9 && (clock.unwrap() - 25_400.0 / 6.0).abs() < 1e-9);
        let busy = Reading { gpu_active: Some(0.25), ..Reading::default() };
        assert_eq!((busy.gpu_percent(), three.gpu_percent()), (Some(25.0), None));
        assert_eq!(three.efficiency(), (Some(10.0), Some(2900.0)));
    }

    #[test]
    fn a_virtual_machine_has_no_zero_watts_and_no_clock() {
        // One kind of cores, no clocks, no counters.
        let guest = Reading { tiers: vec![Tier { cores: 3, mhz: 0, active: 0.4 }], ..Reading::default() };
        assert_eq!((guest.cpu_mhz(), guest.efficiency(), guest.performance()), (None, (None, None), (None, None)));
        assert_eq!(Watts::counted(0.0, 0.0, 0.0, 0.0), None);
        assert_eq!((counted(0.0), counted(f64::NAN), counted(-1.0)), (None, None, None));
        assert_eq!(Reading::default().cpu_mhz(), None);
        let idle = Watts::counted(0.3, 0.0, 0.0, 0.0).unwrap();
        assert_eq!((idle.gpu, idle.ane, idle.dram), (0.0, 0.0, None));
    }
}
