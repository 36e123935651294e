//! Heat on macOS, as `pmset` tells it.

use super::{Finding, Grade};

#[cfg(target_os = "macos")]
pub(super) fn heat() -> Finding {
    let output = std::process::Command::new("pmset").args(["-g", "therm"]).output().ok();
    read(&output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default())
}

/// Reads what `pmset -g therm` prints.
fn read(text: &str) -> Finding {
    let limit = text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "CPU_Speed_Limit").then(|| value.trim().parse::<u32>().ok())?
    });
    match limit {
        Some(limit @ 0..100) => {
            let seen = format!("the CPU is held to {limit} % of its speed");
            Finding::new("heat", Grade::Warning, seen, "let it cool down, and leave pauses with `cooldown_s`")
        }
        Some(_) => Finding::ok("heat", "the CPU's speed is not limited"),
        None if text.contains("No thermal warning level has been recorded") => {
            Finding::ok("heat", "no thermal warning was recorded")
        }
        None => Finding::not_visible("heat", "`pmset -g therm` does not tell"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limited_speed_is_warned_of() {
        assert_eq!(
            read("CPU Power notify\n\tCPU_Scheduler_Limit \t= 100\n\tCPU_Speed_Limit \t= 70\n").grade,
            Grade::Warning
        );
        assert_eq!(read("\tCPU_Speed_Limit \t= 100\n").grade, Grade::Ok);
        assert_eq!(read("Note: No thermal warning level has been recorded\n").grade, Grade::Ok);
        assert!(read("").seen.starts_with("not visible"));
    }
}
