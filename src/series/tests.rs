use super::*;

fn parsed(text: &str, wanted: Wanted) -> Result<Series, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("series");
    fs_err::write(&path, text).unwrap();
    read(&path, &wanted).map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
}

fn of(column: &str) -> Wanted {
    Wanted { column: column.to_owned(), ..Wanted::default() }
}

#[test]
fn times_have_the_unit_that_their_name_ends_with() {
    for (name, text) in [("t_s", "3"), ("elapsed [ms]", "3000"), ("t_us", "3000000"), ("Time (ns)", "3000000000")] {
        let series = parsed(&format!("{name},a,wired_mib\n0,7,1\n{text},7,2\n"), of("wired")).unwrap();
        assert_eq!(series.samples, [(0.0, 1_048_576.0), (3.0, 2_097_152.0)], "{name}");
        assert_eq!((series.column.as_str(), series.unit), ("wired_mib", Unit::Bytes));
    }
    let named = Wanted { time_unit: Some(TimeUnit::Milliseconds), ..of("a") };
    let found = parsed("timestamp\ta\n1764000000000\t1\n1764000000250\t\n1764000000500\t3\n", named).unwrap();
    assert_eq!((found.samples, found.empty), (vec![(0.0, 1.0), (0.5, 3.0)], 1));
    assert!(parsed("timestamp,a\n1764000000,1\n", of("a")).unwrap_err().contains("--time-unit"));
}

#[test]
fn numbers_beyond_all_measure_are_errors() {
    for text in ["t_s,a\n-1e290,1\n1e290,2\n", "t_s,a_gib\n0,1e300\n1,1e300\n"] {
        let told = parsed(text, of("a")).unwrap_err();
        assert!(told.contains("too large") || told.contains("1e290"), "{told}");
    }
}

#[test]
fn dates_are_times() {
    let text = "time;a\n2026-11-22T10:00:00.5+01:00;1\n2026-11-22T09:00:02Z;2\n";
    assert_eq!(parsed(text, of("a")).unwrap().samples, [(0.0, 1.0), (1.5, 2.0)]);
    let text = "date,a\n2026-11-22 10:00:00,1\n2026-11-22 10:00:02.25,2\n";
    assert_eq!(parsed(text, of("a")).unwrap().samples, [(0.0, 1.0), (2.25, 2.0)]);
}

/// Rows as `vm_stat` prints them: after each header the counters are those since the start.
#[test]
fn vm_stat_has_levels_and_counters() {
    let rows = "\
Mach Virtual Memory Statistics: (page size of 16384 bytes)
    free   active   specul inactive throttle    wired  prgable   faults
   11305  1724147     1924  1720352        0   665442     9455   154515K
   11306  1724147     1924  1720352        0   665443     9455      179
Mach Virtual Memory Statistics: (page size of 16384 bytes)
    free   active   specul inactive throttle    wired  prgable   faults
   15488  1726977      550  1724894        0   662420       25  179472K
   15488  1726977      550  1724894        0     662K       25       12
";
    let every = |column| Wanted { every_s: Some(0.5), ..of(column) };
    let found = parsed(rows, every("wired")).unwrap();
    let pages = [665_442.0, 665_443.0, 662_420.0, 662_000.0].map(|pages| pages * 16384.0);
    assert_eq!(found.samples, [0.0, 0.5, 1.0, 1.5].into_iter().zip(pages).collect::<Vec<_>>());
    let faults = parsed(rows, every("faults")).unwrap();
    assert_eq!((faults.samples, faults.unit), (vec![(0.5, 179.0), (1.5, 12.0)], Unit::Other(String::new())));
    assert_eq!(
        parsed(rows, of("wired")).unwrap_err(),
        "FILE: the rows have no times; state the seconds between two of them with `--every`, such as `--every 1`"
    );
    assert!(parsed(rows, every("wide")).unwrap_err().starts_with("FILE: no column `wide`; the file has `free`, "));
    let cut = rows.replace("   11306  1724147", "   11306");
    assert_eq!(parsed(&cut, every("wired")).unwrap_err(), "FILE, line 4: 7 fields, but the header has 8");
    let single = "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free:    10069.\n";
    assert!(parsed(single, every("free")).unwrap_err().contains("record one with `vm_stat 1 > FILE`"));
}

#[test]
fn powermetrics_has_its_own_times() {
    let sample = |ms: &str, power: &str| {
        format!(
            "*** Sampled system activity (Tue Jul 14 10:00:00 2026 -0700) ({ms}ms elapsed) ***\n\n**** GPU usage ****\n\n\
             GPU HW active residency:  25.50% (444 MHz: 3.1% 612 MHz: 22%)\n{power}\
             Combined Power (CPU + GPU + ANE): 570 mW\n\n"
        )
    };
    let text = sample("200.0", "GPU Power: 120 mW\n") + &sample("250.0", "") + &sample("250.0", "GPU Power: 2100 mW\n");
    let found = parsed(&text, of("gpu power")).unwrap();
    assert_eq!((found.samples, found.empty), (vec![(0.2, 120.0), (0.7, 2100.0)], 1));
    assert_eq!(found.unit, Unit::Other("mW".to_owned()));
    let residency = parsed(&text, of("GPU HW active residency")).unwrap();
    assert_eq!((residency.samples[0].1, residency.unit), (25.5, Unit::Other("%".to_owned())));
    let silent = text.replace(" (200.0ms elapsed)", "");
    assert_eq!(
        parsed(&silent, of("gpu power")).unwrap_err(),
        "FILE, line 1: the sample does not say how long it took; expected `(1000.00ms elapsed)`"
    );
}

#[test]
fn errors_name_file_line_and_column() {
    for (text, wanted, message) in [
        ("t_s,a\n0,1\n0,2\n", of("a"), "FILE, line 3: its time is not later than that of the row before it"),
        ("t_s,a\n0,1\n1,x\n", of("a"), "FILE, line 3: `x` in column `a` is not a number"),
        ("t_s,a\n0,1\n1,NaN\n", of("a"), "FILE, line 3: `NaN` in column `a` is not a number"),
        ("t_s,a\n0,1\n1\n", of("a"), "FILE, line 3: 1 fields, but the header has 2"),
        ("t_s,a\nsoon,1\n", of("a"), "FILE, line 2: `soon` in the time column `t_s`: neither a number nor a date"),
        ("t_s,ab,ac\n0,1,2\n", of("a"), "FILE: more than one column fits `a`; the file has `t_s`, `ab`, `ac`"),
        ("1,2\n3,4\n", of("a"), "FILE, line 1: no header: the first line must name the columns"),
        (
            "x,a\n0,1\n",
            of("a"),
            "FILE: the rows have no times; state the seconds between two of them with `--every`, such as `--every 1`, \
             or name the column of times with `--time`",
        ),
        (
            "<?xml version=\"1.0\"?>\n<plist version=\"1.0\">\n",
            of("a"),
            "FILE: a property list; let powermetrics write text instead: leave out `-f plist`",
        ),
    ] {
        assert_eq!(parsed(text, wanted).unwrap_err(), message);
    }
}

proptest::proptest! {
    /// Whatever the bytes: a series whose times rise, or an error.
    #[test]
    fn any_text_is_read_or_refused(text in "(t_s,a\n|Mach Virtual Memory Statistics: \\(page size of 4 bytes\\)\n)?[ -~\n\t]{0,200}") {
        if let Ok(series) = parsed(&text, Wanted { every_s: Some(1.0), ..of("a") }) {
            proptest::prop_assert!(series.samples.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }
}
