//! `inferometer oscillation`: series of other programs, analysed as the memory of a run is.

use serde_json::Value;

use crate::lab::Lab;

/// A recorded series of an M2 Max (see the README beside it).
const WIRED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/crates/inferometer-stats/tests/data/m2max-gpt-oss-20b/run1_wired.csv");

#[test]
fn a_recorded_series_shows_its_figures_and_what_they_mean() {
    let done = Lab::new().run(&["oscillation", WIRED, "--column", "wired"]).expect(0);
    insta::assert_snapshot!(done.stdout, @r#"
    figure             value  meaning
    ────────────────────────────────────────────────────────────────────────────────
    cycles                23  cycles of h or more, by rainflow counting
    a minute            3.75  cycles / minutes watched
    p95              788 MiB  95th percentile of their ranges
    largest         1.03 GiB  the largest range
    reclaimed       14.9 GiB  sum of all falls of h or more
    churn              0.713  reclaimed / (highest - lowest)
    highest         31.2 GiB  highest sample; samples may miss the peak
    plateau         30.0 GiB  median after the warm-up
    slope a minute  2.99 GiB  median slope after the warm-up (Theil-Sen); above 0:
                              a leak, or a cache that still grows
    at 1, 2, 5 %    23, 6, 0  cycles at h = 1, 2 and 5 % of the highest sample
    resolution       1000 ms  median time between two samples; a swing within it is
                              not seen
    h                320 MiB  the smallest swing that counts

    wired_bytes: oscillates: 23 cycles of 320 MiB or more (350 samples in 6 min 8 s)
    h = max(16 MiB, 1 % of the highest sample); there are no idle samples
    "#);
    assert_eq!(done.stderr, "");
}

/// The same rows as `vm_stat 1` prints them: the same cycles.
#[test]
fn the_output_of_vm_stat_gives_what_a_table_gives() {
    let lab = Lab::new();
    let rows = fs_err::read_to_string(WIRED).unwrap();
    let mut text = String::new();
    for (at, line) in rows.lines().skip(1).enumerate() {
        if at % 20 == 0 {
            text += "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n    free    wired   faults\n";
        }
        let bytes: u64 = line.split(',').nth(1).unwrap().parse().unwrap();
        text += &format!("    1000 {:8} 1234\n", bytes / 16384);
    }
    let file = lab.write("vm_stat.txt", text).display().to_string();
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&lab.run(&[&["oscillation", "--json"], arguments].concat()).expect(0).stdout).unwrap()
    };
    let table = json(&[WIRED, "--column", "wired_bytes"]);
    let printed = json(&[&file, "--column", "wired", "--every", "1"]);
    // The recording has a few gaps, of which rows without times know nothing.
    for figure in ["samples", "peak_bytes", "least_bytes", "reclaimed_bytes", "churn"] {
        assert_eq!(table["oscillation"][figure], printed["oscillation"][figure], "{figure}");
    }
    let cycles = |found: &Value| {
        found["oscillation"]["by_share"]
            .as_array()
            .unwrap()
            .iter()
            .map(|count| count["cycles"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(cycles(&table), [23, 6, 0]);
    assert_eq!(cycles(&table), cycles(&printed));
    assert_eq!((&table["unit"], &table["finding"]), (&"bytes".into(), &"oscillates".into()));
}

/// Watts have no least swing in bytes, and no names with bytes.
#[test]
fn a_series_that_is_no_memory_is_analysed_too() {
    let lab = Lab::new();
    let sample = |at: usize| {
        let power = if at % 20 < 10 { 900 } else { 2400 };
        format!(
            "*** Sampled system activity (Tue Jul 14 10:00:00 2026 -0700) (100.0ms elapsed) ***\n\nGPU Power: {power} mW\n\n"
        )
    };
    let file = lab.write("power.txt", (0..200).map(sample).collect::<String>()).display().to_string();
    let done = lab.run(&["oscillation", &file, "--column", "gpu power", "--json"]).expect(0);
    let found: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&found["unit"], &found["finding"]), (&"mW".into(), &"oscillates".into()));
    assert_eq!(found["oscillation"]["counted"]["range_largest"], 1500.0);
    assert!(!done.stdout.contains("bytes"), "{}", done.stdout);
}

#[test]
fn what_cannot_be_measured_is_not_decided() {
    let lab = Lab::new();
    let file = |name: &str, values: &[u64]| {
        let rows: String = values.iter().enumerate().map(|(t, mib)| format!("{t},{mib}\n")).collect();
        lab.write(name, format!("t_s,used_mib\n{rows}")).display().to_string()
    };
    let first = |arguments: &[&str]| {
        let out = lab.run(&[&["oscillation", "--column", "used"], arguments].concat()).expect(0).stdout;
        out.lines().find(|line| line.starts_with("used_mib: ")).unwrap().to_owned()
    };
    let few = file("few.csv", &[100, 900, 100, 900, 100]);
    insta::assert_snapshot!(first(&[&few]), @r#"used_mib: not decided: fewer than 20 samples give neither a rate of cycles nor a"#);
    let flat = file("flat.csv", &[100; 60]);
    insta::assert_snapshot!(first(&[&flat]), @r#"used_mib: steady: no cycle of 16.0 MiB or more (60 samples in 59.0 s)"#);
    insta::assert_snapshot!(first(&[&flat, "--cycle", "2"]), @r#"used_mib: not decided: no cycle was seen, but the samples are too far apart (60"#);
    lab.run(&["oscillation", &file("one.csv", &[100]), "--column", "used"]).expect(2).says("has 1 values");
    lab.run(&["oscillation", &few, "--column", "wired"])
        .expect(2)
        .says("no column `wired`; the file has `t_s`, `used_mib`");
}
