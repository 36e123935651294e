//! Facts about the machine of a run. What the system does not report is absent.

use std::path::Path;

use sha2::{Digest, Sha256};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::spec::Machine;

/// The machine's current facts.
#[must_use]
pub fn machine() -> Machine {
    let what =
        RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()).with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(what).ok();
    let cpus = system.as_ref().map(System::cpus).unwrap_or_default();
    Machine {
        os: System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.to_owned()),
        kernel: System::kernel_version().ok(),
        arch: std::env::consts::ARCH.to_owned(),
        cpu: cpus.first().map(|cpu| cpu.brand().trim().to_owned()).filter(|brand| !brand.is_empty()),
        physical_cores: System::physical_core_count().ok().and_then(|n| u32::try_from(n).ok()),
        logical_cores: u32::try_from(cpus.len()).ok().filter(|n| *n > 0),
        memory_bytes: system.as_ref().map(System::total_memory).filter(|bytes| *bytes > 0),
        accelerator: nvidia(Path::new("/proc/driver/nvidia/gpus")),
        virtual_machine: virtual_machine(),
        governor: governor(),
        power_source: power_source(),
        load_at_start: System::load_average().ok().map(|load| load.one),
        cpu_features: cpu_features(),
    }
}

/// SHA-256 in hex of the file's content, such as a host's executable; `None` when it cannot be
/// read.
#[must_use]
pub fn file_sha256(path: &Path) -> Option<String> {
    let mut file = fs_err::File::open(path).ok()?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).ok()?;
    Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The accelerators listed by NVIDIA's kernel driver, such as `NVIDIA H100` or `2 x NVIDIA H100`.
/// On Apple Silicon the GPU is part of the chip in [`Machine::cpu`].
fn nvidia(gpus: &Path) -> Option<String> {
    let mut models: Vec<String> = fs_err::read_dir(gpus)
        .ok()?
        .flatten()
        .filter_map(|gpu| fs_err::read_to_string(gpu.path().join("information")).ok())
        .filter_map(|text| Some(text.lines().find_map(|line| line.strip_prefix("Model:"))?.trim().to_owned()))
        .collect();
    models.sort();
    let names: Vec<String> = models
        .chunk_by(|a, b| a == b)
        .map(|alike| if alike.len() == 1 { alike[0].clone() } else { format!("{} x {}", alike.len(), alike[0]) })
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Whether this is a virtual machine, if the CPU or the system reports it.
fn virtual_machine() -> Option<bool> {
    #[cfg(target_os = "linux")]
    {
        let info = fs_err::read_to_string("/proc/cpuinfo").ok()?;
        let flags = info.lines().find(|line| line.starts_with("flags"));
        if let Some(flags) = flags {
            // x86: the CPU reports a hypervisor (CPUID leaf 1, ECX bit 31).
            return Some(flags.split_whitespace().any(|flag| flag == "hypervisor"));
        }
        let vendor = fs_err::read_to_string("/sys/class/dmi/id/sys_vendor").ok()?.to_lowercase();
        let guests = ["qemu", "kvm", "vmware", "xen", "microsoft corporation", "amazon ec2", "google", "parallels"];
        guests.iter().any(|name| vendor.contains(name)).then_some(true)
    }
    #[cfg(target_os = "macos")]
    {
        sysctl("kern.hv_vmm_present").map(|value| value == "1")
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    None
}

/// CPU frequency governor, if all cores have the same one.
fn governor() -> Option<String> {
    let mut found: Option<String> = None;
    for cpu in fs_err::read_dir("/sys/devices/system/cpu").ok()?.flatten() {
        let Ok(governor) = fs_err::read_to_string(cpu.path().join("cpufreq/scaling_governor")) else { continue };
        let governor = governor.trim().to_owned();
        match &found {
            Some(other) if *other != governor => return Some("mixed".to_owned()),
            _ => found = Some(governor),
        }
    }
    found
}

/// `mains` or `battery`, if the system reports it.
fn power_source() -> Option<String> {
    #[cfg(target_os = "macos")]
    return super::apple::on_battery().map(|on| if on { "battery" } else { "mains" }.to_owned());
    #[cfg(not(target_os = "macos"))]
    linux_power(Path::new("/sys/class/power_supply"))
}

#[cfg_attr(target_os = "macos", allow(dead_code))]
fn linux_power(supplies: &Path) -> Option<String> {
    let mut battery = None;
    for supply in fs_err::read_dir(supplies).ok()?.flatten() {
        let read = |name: &str| fs_err::read_to_string(supply.path().join(name)).unwrap_or_default().trim().to_owned();
        match read("type").as_str() {
            "Mains" | "USB" if read("online") == "1" => return Some("mains".to_owned()),
            // A mouse has a battery too; its scope is `Device`.
            "Battery" if read("scope") != "Device" => battery = Some(read("status")),
            _ => {}
        }
    }
    let source = if battery? == "Discharging" { "battery" } else { "mains" };
    Some(source.to_owned())
}

/// The features of this CPU that affect the arithmetic of inference.
fn cpu_features() -> Vec<String> {
    // The detection macro needs a literal name, so each architecture has its own list.
    #[cfg(target_arch = "x86_64")]
    macro_rules! those_here {
        ($($name:tt)*) => { [$(($name, std::arch::is_x86_feature_detected!($name))),*] };
    }
    #[cfg(target_arch = "aarch64")]
    macro_rules! those_here {
        ($($name:tt)*) => { [$(($name, std::arch::is_aarch64_feature_detected!($name))),*] };
    }
    #[cfg(target_arch = "x86_64")]
    let known = those_here!("sse4.2" "avx" "f16c" "fma" "avx2" "avxvnni" "avx512f" "avx512bw" "avx512vl" "avx512vnni"
        "avx512bf16" "avx512fp16");
    #[cfg(target_arch = "aarch64")]
    let known = those_here!("neon" "fp16" "dotprod" "bf16" "i8mm" "sve" "sve2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let known: [(&str, bool); 0] = [];
    known.into_iter().filter(|(_, here)| *here).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(target_os = "macos")]
fn sysctl(name: &str) -> Option<String> {
    let output = std::process::Command::new("sysctl").args(["-n", name]).output().ok()?;
    let value = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cores_and_memory() {
        let machine = machine();
        assert!(!machine.os.is_empty() && machine.kernel.is_some());
        assert!(machine.logical_cores.unwrap() >= 1 && machine.physical_cores <= machine.logical_cores);
        assert!(machine.memory_bytes.unwrap() > 100 << 20);
        assert!(machine.load_at_start.unwrap() >= 0.0);
    }

    #[test]
    fn the_hash_is_of_the_content() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("abc");
        fs_err::write(&file, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(file_sha256(&file).as_deref(), Some(known));
        assert_eq!(file_sha256(&dir.path().join("none")), None);
    }

    #[test]
    fn power_comes_from_mains_unless_a_battery_discharges() {
        let dir = tempfile::tempdir().unwrap();
        let supply = |name: &str, files: &[(&str, &str)]| {
            fs_err::create_dir_all(dir.path().join(name)).unwrap();
            for (file, text) in files {
                fs_err::write(dir.path().join(name).join(file), format!("{text}\n")).unwrap();
            }
        };
        assert_eq!(linux_power(dir.path()), None);
        supply("mouse", &[("type", "Battery"), ("scope", "Device"), ("status", "Discharging")]);
        assert_eq!(linux_power(dir.path()), None);
        supply("BAT0", &[("type", "Battery"), ("status", "Discharging")]);
        assert_eq!(linux_power(dir.path()).as_deref(), Some("battery"));
        supply("AC", &[("type", "Mains"), ("online", "1")]);
        assert_eq!(linux_power(dir.path()).as_deref(), Some("mains"));
    }

    #[test]
    fn accelerators_are_counted_by_model() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(nvidia(dir.path()), None);
        for (at, model) in ["NVIDIA A", "NVIDIA B", "NVIDIA A"].into_iter().enumerate() {
            let gpu = dir.path().join(at.to_string());
            fs_err::create_dir(&gpu).unwrap();
            fs_err::write(gpu.join("information"), format!("Model: \t\t {model}\nIRQ:   \t\t 1\n")).unwrap();
        }
        assert_eq!(nvidia(dir.path()).as_deref(), Some("2 x NVIDIA A, NVIDIA B"));
    }
}
