//! Thermal state, power mode and power source, as the system reports them.

/// The state that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// `NSProcessInfoThermalState`.
    pub thermal: i64,
    pub low_power_mode: bool,
    /// `AC Power`, `Battery Power` or `UPS Power` (IOKit's IOPSKeys.h); `None` if the system did
    /// not report it.
    pub power: Option<String>,
}

impl State {
    /// 0 nominal, 1 fair, 2 serious, 3 critical
    /// (<https://developer.apple.com/documentation/foundation/processinfo/thermalstate-swift.enum>).
    pub fn thermal_pressure(&self) -> Option<f64> {
        (0..=3).contains(&self.thermal).then_some(self.thermal as f64)
    }

    /// 1 on a battery, including an uninterruptible supply without mains; 0 on mains.
    pub fn on_battery(&self) -> Option<f64> {
        match self.power.as_deref()? {
            "AC Power" => Some(0.0),
            "Battery Power" | "UPS Power" => Some(1.0),
            _ => None,
        }
    }

    pub fn low_power_mode(&self) -> f64 {
        f64::from(u8::from(self.low_power_mode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_nobody_documents_is_no_figure() {
        let state =
            |thermal, power: Option<&str>| State { thermal, low_power_mode: false, power: power.map(str::to_owned) };
        let pressures: Vec<_> = (-1..=4).map(|thermal| state(thermal, None).thermal_pressure()).collect();
        assert_eq!(pressures, [None, Some(0.0), Some(1.0), Some(2.0), Some(3.0), None]);
        let on = |power| state(0, power).on_battery();
        assert_eq!(
            [on(Some("AC Power")), on(Some("Battery Power")), on(Some("UPS Power"))].map(Option::unwrap),
            [0.0, 1.0, 1.0]
        );
        assert_eq!([on(None), on(Some("")), on(Some("Solar"))], [None; 3]);
        assert_eq!(State { low_power_mode: true, ..state(0, None) }.low_power_mode(), 1.0);
    }
}
