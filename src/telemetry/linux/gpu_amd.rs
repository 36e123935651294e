//! AMD GPUs, from the files of their driver (<https://docs.kernel.org/gpu/amdgpu/thermal.html>).

use std::path::{Path, PathBuf};

use super::super::pace::Pace;
use super::super::{Source, gauge};
use super::file::{ProcFile, Root, word_in};
use crate::spec::GaugeInfo;

const EVERY_MS: u64 = 250;
const VENDOR: &str = "0x1002";

/// Gauge, file (may begin with `hwmon/*`), factor, and how to combine several GPUs.
type Figure = (&'static str, &'static str, f64, Combine);
type Combine = fn(f64, f64) -> f64;
const FILES: [Figure; 6] = [
    ("gpu_percent", "gpu_busy_percent", 1.0, f64::max),
    ("gpu_memory_bytes", "mem_info_vram_used", 1.0, |a, b| a + b),
    ("gpu_mhz", "hwmon/freq1_input", 1e-6, f64::max),
    ("gpu_memory_mhz", "hwmon/freq2_input", 1e-6, f64::max),
    ("gpu_watts", "hwmon/power1_average", 1e-6, |a, b| a + b),
    ("gpu_celsius", "hwmon/temp1_input", 1e-3, f64::max),
];

pub(super) struct Amd {
    /// For each entry of [`FILES`], the file of every GPU that has it.
    files: Vec<Result<Vec<ProcFile>, String>>,
    pace: Pace,
}

impl Amd {
    pub fn new(root: &Root) -> Self {
        let cards = cards(root);
        let files = FILES.iter().map(|(_, file, _, _)| {
            if cards.is_empty() {
                return Err("no AMD GPU in /sys/class/drm".to_owned());
            }
            let mut reason = String::new();
            let opened = cards.iter().filter_map(|card| open(card, file).map_err(|e| reason = e).ok());
            let opened: Vec<ProcFile> = opened.collect();
            if opened.is_empty() { Err(reason) } else { Ok(opened) }
        });
        Self { files: files.collect(), pace: Pace::often(EVERY_MS) }
    }
}

/// The device folders of AMD's cards; connectors (`card0-DP-1`) are skipped.
fn cards(root: &Root) -> Vec<PathBuf> {
    let devices = root.list("sys/class/drm").unwrap_or_default().into_iter();
    let devices = devices.filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("card"));
        name.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
    });
    let devices = devices.map(|card| card.join("device"));
    devices.filter(|device| word_in(&device.join("vendor")).as_deref() == Some(VENDOR)).collect()
}

fn open(card: &Path, file: &str) -> Result<ProcFile, String> {
    let Some(sensor) = file.strip_prefix("hwmon/") else { return ProcFile::of_number(card.join(file)) };
    let folder = card.join("hwmon");
    let mut sensors = fs_err::read_dir(&folder).map_err(|e| e.to_string())?.flatten();
    let own = sensors.next().ok_or_else(|| format!("`{}` is empty", folder.display()))?;
    ProcFile::of_number(own.path().join(sensor))
}

impl Source for Amd {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let named = FILES.iter().zip(&self.files);
        named
            .map(|((name, file, _, _), opened)| {
                gauge(name, &format!("/sys/class/drm/card*/device/{file}"), opened.as_ref().err().cloned())
            })
            .collect()
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let files = &mut self.files;
        self.pace.when_due(|| {
            for ((value, files), (_, _, factor, combine)) in values.iter_mut().zip(files).zip(FILES) {
                let Ok(files) = files else { continue };
                *value = files.iter_mut().filter_map(ProcFile::number).map(|n| n * factor).reduce(combine);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{put, read, root};
    use super::*;

    #[test]
    fn cards_of_amd_are_read_and_put_together() {
        let dir = root();
        let card = |n: u32, vendor: &str, files: &[(&str, &str)]| {
            let device = format!("sys/class/drm/card{n}/device");
            put(dir.path(), &format!("{device}/vendor"), vendor);
            files.iter().for_each(|(file, text)| put(dir.path(), &format!("{device}/{file}"), text));
        };
        card(0, "0x8086\n", &[("gpu_busy_percent", "99\n")]);
        card(1, "0x1002\n", &[("gpu_busy_percent", "40\n"), ("mem_info_vram_used", "100\n")]);
        let files = [
            ("gpu_busy_percent", "60\n"),
            ("mem_info_vram_used", "200\n"),
            ("hwmon/hwmon3/power1_average", "30000000\n"),
            ("hwmon/hwmon3/freq1_input", "1500000000\n"),
            ("hwmon/hwmon3/temp1_input", "61000\n"),
        ];
        card(2, "0x1002\n", &files);
        put(dir.path(), "sys/class/drm/card2-DP-1/status", "connected\n");
        let mut amd = Amd::new(&Root::at(dir.path()));
        assert_eq!(read(&mut amd, None), [Some(60.0), Some(300.0), Some(1500.0), None, Some(30.0), Some(61.0)]);
        assert!(amd.gauges()[3].absent.as_ref().unwrap().contains("freq2_input"));
    }

    #[test]
    fn without_a_card_all_are_absent() {
        let dir = root();
        let amd = Amd::new(&Root::at(dir.path()));
        assert!(amd.gauges().iter().all(|info| info.absent.as_deref() == Some("no AMD GPU in /sys/class/drm")));
    }
}
