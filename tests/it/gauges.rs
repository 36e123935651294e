//! `inferometer gauges`, and runs on machines with few readable gauges.

use std::process::Command;

use inferometer::spec::GaugeInfo;
use inferometer::telemetry::GAUGES;
#[cfg(target_os = "linux")]
use {
    crate::lab::{Lab, statuses},
    inferometer::record::Status,
};

/// Gauges that need no file of `/proc` or `/sys`.
#[cfg(target_os = "linux")]
fn needs_no_file(name: &str) -> bool {
    name == "process_cpu_percent" || name.starts_with("engine_") || name.starts_with("gpu_")
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_inferometer"))
}

#[test]
fn the_list_has_every_gauge_with_a_source_or_a_reason() {
    let output = program().args(["gauges", "--format", "json"]).output().unwrap();
    let listed: Vec<GaugeInfo> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(listed.iter().map(|g| &g.name).collect::<Vec<_>>(), GAUGES.iter().map(|g| g.name).collect::<Vec<_>>());
    assert!(listed.iter().all(|g| g.absent.as_ref().map_or(!g.source.is_empty(), |reason| !reason.is_empty())));
    assert!(listed.iter().any(|g| g.name == "rss_bytes" && g.absent.is_none()));
}

#[test]
fn a_process_is_sampled_as_csv() {
    let own = std::process::id().to_string();
    let arguments = ["gauges", "--pid", &own, "--seconds", "0.5", "--interval", "10", "--groups", "memory"];
    let output = program().args(arguments).output().unwrap();
    assert!(output.status.success());
    let mut rows = csv::Reader::from_reader(output.stdout.as_slice());
    let column = rows.headers().unwrap().iter().position(|name| name == "rss_bytes").unwrap();
    assert!(rows.headers().unwrap().iter().all(|name| name != "load_1m"), "the groups asked for only");
    let values: Vec<f64> = rows.records().filter_map(|row| row.unwrap()[column].parse().ok()).collect();
    assert!(values.len() > 3 && values.iter().all(|bytes| *bytes > 1e6), "{values:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    insta::assert_snapshot!(crate::lab::without_figures(&said), @r#"
    t_ns counts from #-#-#T#:#:#Z
    # samples, # skipped; late by # (median), # (#th percentile); sampling used # % of a core
    "#);
}

#[test]
fn what_cannot_be_sampled_is_refused() {
    let mut child = Command::new("true").spawn().unwrap();
    let dead = child.id().to_string();
    child.wait().unwrap();
    for arguments in [
        ["--seconds", "1", "--pid", &dead],
        ["--seconds", "1", "--interval", "4"],
        ["--seconds", "0", "--groups", "cpu"],
    ] {
        let output = program().arg("gauges").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

/// On a machine without readable files, the run completes and its record says what is missing.
#[cfg(target_os = "linux")]
#[test]
fn a_run_completes_where_nothing_can_be_read() {
    let lab = Lab::new();
    let empty = lab.path("no-such-machine");
    let rest = "[run]\niterations = 2\nwarmup = 0\n[telemetry]\ninterval_ms = 5\n";
    let scenario = lab.exec(&[], rest);
    let mut run = lab.program(&["run", scenario.to_str().unwrap()]);
    lab.done(run.env("INFEROMETER_SYSTEM_ROOT", empty).output().unwrap()).expect(0);
    let record = lab.record();
    assert_eq!(statuses(&record), [Status::Ok; 2]);
    let gauges = &record.manifest.gauges;
    assert_eq!(gauges.len(), GAUGES.len());
    for info in gauges.iter().filter(|info| !needs_no_file(&info.name)) {
        assert!(info.absent.as_ref().is_some_and(|reason| !reason.is_empty()), "{info:?}");
    }
    for row in &record.telemetry {
        for (info, value) in gauges.iter().zip(&row.values) {
            assert!(value.is_none() || info.absent.is_none(), "{info:?}: {value:?}");
        }
    }
    let [sitting] = record.manifest.sampling.as_slice() else { panic!("{:?}", record.manifest.sampling) };
    assert!(sitting.interval_ms == 5 && sitting.cpu_ns > 0 && sitting.cpu_ns < sitting.active_ns, "{sitting:?}");
    assert!(sitting.samples >= record.telemetry.len() as u64, "{sitting:?}");
}
