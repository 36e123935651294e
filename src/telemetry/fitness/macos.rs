//! Thermal state on macOS, from the system, and on Intel Macs from `pmset`.

use super::{Finding, Grade};

const ADVICE: &str = "let it cool down, or add pauses with `cooldown_s`";

/// `pressure`: the gauge `thermal_pressure`.
#[cfg(target_os = "macos")]
pub(super) fn heat(pressure: Option<f64>) -> Finding {
    let output = std::process::Command::new("pmset").args(["-g", "therm"]).output().ok();
    read(pressure, &output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default())
}

/// Reads the output of `pmset -g therm` if the system reports no thermal state, or a nominal one.
fn read(pressure: Option<f64>, text: &str) -> Finding {
    if let Some(level) = pressure.filter(|level| *level > 0.0) {
        return match level {
            l if l < 2.0 => Finding::note("heat", "the system is warm (thermal state fair)", ADVICE).at_best(Grade::B),
            _ => {
                let seen = "the system throttles because of heat (thermal state serious or critical)";
                Finding::warning("heat", seen, ADVICE).at_best(Grade::D)
            }
        };
    }
    let limit = text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "CPU_Speed_Limit").then(|| value.trim().parse::<u32>().ok())?
    });
    match limit {
        Some(limit @ 0..100) => {
            let seen = format!("the CPU is limited to {limit} % of its speed");
            Finding::warning("heat", seen, ADVICE).at_best(Grade::D)
        }
        Some(_) => Finding::ok("heat", "the CPU's speed is not limited"),
        None if pressure.is_some() => Finding::ok("heat", "no thermal pressure"),
        None if text.contains("No thermal warning level has been recorded") => {
            Finding::ok("heat", "no thermal warning was recorded")
        }
        None => Finding::not_visible("heat", "neither the system nor `pmset -g therm` reports it"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_limited_speed_is_warned_of() {
        let limited = read(Some(0.0), "CPU Power notify\n\tCPU_Scheduler_Limit \t= 100\n\tCPU_Speed_Limit \t= 70\n");
        assert_eq!((limited.level, limited.at_best), (Level::Warning, Grade::D));
        assert_eq!(read(None, "\tCPU_Speed_Limit \t= 100\n").level, Level::Ok);
        assert_eq!(read(None, "Note: No thermal warning level has been recorded\n").level, Level::Ok);
        assert!(read(None, "").seen.starts_with("not visible"));
    }

    #[test]
    fn thermal_pressure_is_graded() {
        let grades = [0.0, 1.0, 2.0, 3.0].map(|level| read(Some(level), "").at_best);
        assert_eq!(grades, [Grade::A, Grade::B, Grade::D, Grade::D]);
        assert_eq!(read(Some(0.0), "").level, Level::Ok);
    }
}
