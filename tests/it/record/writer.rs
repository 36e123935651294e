//! The writer: one at a time, without permission, out of space, killed.

use std::path::Path;

use inferometer::record::{Iteration, RecordError, Store, TokenRow, read};

use super::{FILES, iteration, length, manifest, record, stored};

#[test]
fn a_second_writer_is_refused_a_reader_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(dir.path(), manifest()).unwrap();
    store.commit(&iteration(0, 1)).unwrap();
    assert!(matches!(Store::resume(store.dir()), Err(RecordError::Busy { .. })));
    assert_eq!(read(store.dir()).unwrap().requests.len(), 1);
    let run = store.dir().to_owned();
    drop(store);
    Store::resume(&run).unwrap();
}

#[test]
fn rows_that_do_not_belong_together_are_refused_and_leave_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(dir.path(), manifest()).unwrap();
    store.commit(&iteration(5, 2)).unwrap();
    let good = || iteration(7, 2);
    type Harm = fn(&mut Iteration);
    let broken: [Harm; 7] = [
        |i| i.requests.clear(),
        |i| i.requests[0].request = 6,
        |i| i.requests[1].request = 7,
        |i| i.tokens[0].request = 3,
        |i| i.tokens[1].index = 0,
        |i| i.spans.reverse(),
        |i| i.telemetry[0].values.truncate(1),
    ];
    let lengths = FILES.map(|name| length(&store.dir().join(name)));
    let told = broken.map(|harm| {
        let mut iteration = good();
        harm(&mut iteration);
        store.commit(&iteration).unwrap_err().to_string()
    });
    let gauges = store.update(|m| m.gauges.clear()).unwrap_err().to_string();
    let told = [&told[..], &[gauges]].concat().join("\n").replace(store.dir().to_str().unwrap(), "[RUN]");
    insta::assert_snapshot!(told, @r#"
    cannot commit to [RUN]: an iteration without requests
    cannot commit to [RUN]: request 6 does not come after 6
    cannot commit to [RUN]: request 7 does not come after 7
    cannot commit to [RUN]: a token or span of request 3 has no request in the iteration
    cannot commit to [RUN]: token 0 of request 7 is out of order
    cannot commit to [RUN]: a token or span of request 7 has no request in the iteration
    cannot commit to [RUN]: a telemetry row does not have one value for each of the 2 gauges
    cannot commit to [RUN]: the gauges are fixed when the record is created
    "#);
    assert_eq!(FILES.map(|name| length(&store.dir().join(name))), lengths);
    store.commit(&good()).unwrap();
    assert_eq!(read(store.dir()).unwrap(), record(store.manifest(), &[iteration(5, 2), good()]));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    fs_err::write(&file, "").unwrap();
    let error = Store::create(&file.join("results"), manifest()).unwrap_err().to_string();
    insta::assert_snapshot!(error.replace(dir.path().to_str().unwrap(), "[DIR]"), @r#"failed to create directory `[DIR]/a-file/results`: Not a directory (os error 20)"#);

    let fixed = dir.path().join("read-only");
    fs_err::create_dir(&fixed).unwrap();
    let mut rights = fs_err::metadata(&fixed).unwrap().permissions();
    rights.set_readonly(true);
    fs_err::set_permissions(&fixed, rights).unwrap();
    // The superuser ignores permissions, but cannot write to the system's own folders.
    let bound = fs_err::create_dir(fixed.join("probe")).is_err();
    let own = if cfg!(target_os = "macos") { "/System" } else { "/sys/kernel" };
    let results = if bound { fixed } else { own.into() };
    let error = Store::create(&results, manifest()).unwrap_err().to_string();
    assert!(error.contains(&*results.to_string_lossy()), "{error}");
}

/// The tests below run this in a separate process, which is limited or killed.
#[test]
#[ignore = "a child process of other tests"]
#[allow(clippy::print_stdout)] // Its output is how the parent hears what was committed.
fn child_commits_until_it_cannot() {
    let (Ok(run), Ok(kind)) = (std::env::var("INFEROMETER_TEST_RUN"), std::env::var("INFEROMETER_TEST_KIND")) else {
        return;
    };
    if kind == "create" {
        println!("full {}", Store::create(Path::new(&run), manifest()).unwrap_err());
        return;
    }
    let (mut store, so_far) = Store::resume(Path::new(&run)).unwrap();
    for number in so_far.requests.len() as u64.. {
        match store.commit(&shaped(&kind, number)) {
            Ok(()) => println!("committed {number}"),
            Err(error) => {
                println!("full {} {error}", error.is_disk_full());
                assert_eq!(read(Path::new(&run)).unwrap().requests.len() as u64, number);
                return;
            }
        }
    }
}

/// An iteration of one request with most of its bytes in one file.
fn shaped(kind: &str, number: u64) -> Iteration {
    let mut iteration = iteration(number, 1);
    match kind {
        "tokens" => {
            let more = (3..200).map(|index| TokenRow { request: number, index, id: Some(index), t_ns: 1_000_000 });
            iteration.tokens.extend(more);
        }
        "spans" => iteration.spans = iteration.spans.iter().copied().cycle().take(200).collect(),
        "telemetry" => iteration.telemetry = iteration.telemetry.iter().cloned().cycle().take(200).collect(),
        _ => iteration.requests[0].reason = "for many reasons; ".repeat(100),
    }
    iteration
}

fn child(run: &Path, kind: &str, limit: &str) -> std::process::Command {
    let mut command = std::process::Command::new("sh");
    let script =
        format!("{limit} exec \"$0\" --exact record::writer::child_commits_until_it_cannot --ignored --nocapture");
    command
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env("INFEROMETER_TEST_RUN", run)
        .env("INFEROMETER_TEST_KIND", kind)
        .stdout(std::process::Stdio::piped());
    command
}

/// A limit on file size makes a write fail in the middle, like a full disk, and needs no
/// privileges.
#[test]
fn a_full_disk_costs_the_iteration_and_not_the_run() {
    for kind in ["tokens", "spans", "telemetry", "requests"] {
        let dir = tempfile::tempdir().unwrap();
        let (run, manifest) = stored(dir.path(), &[]);
        let output = child(&run, kind, "trap '' XFSZ; ulimit -f 24;").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let full = said.lines().find(|line| line.starts_with("full")).unwrap_or_else(|| panic!("{said}")).to_owned();
        assert!(full.starts_with("full true") && full.contains(&format!("{kind}.csv")), "{full}");
        let committed = said.matches("committed").count() as u64;
        assert!(committed > 2, "{said}");

        let so_far: Vec<_> = (0..committed).map(|number| shaped(kind, number)).collect();
        assert_eq!(read(&run).unwrap(), record(&manifest, &so_far));
        let (mut store, _) = Store::resume(&run).unwrap();
        store.commit(&shaped(kind, committed)).unwrap();
        assert_eq!(read(&run).unwrap().requests.len() as u64, committed + 1);
    }
}

#[test]
fn a_record_that_cannot_be_begun_leaves_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let output = child(dir.path(), "create", "trap '' XFSZ; ulimit -f 1;").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let full = said.lines().find(|line| line.starts_with("full ")).expect(&said);
    let (_, file) = full.rsplit_once("/").unwrap();
    insta::assert_snapshot!(file, @r#"requests.csv`: File too large (os error 27)"#);
    assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_killed_writer_leaves_what_it_said_it_committed() {
    use std::io::BufRead;
    let dir = tempfile::tempdir().unwrap();
    let (run, manifest) = stored(dir.path(), &[]);
    for round in 1..=5 {
        let mut writer = child(&run, "tokens", "").spawn().unwrap();
        let mut lines = std::io::BufReader::new(writer.stdout.take().unwrap()).lines().map(Result::unwrap);
        let heard = (&mut lines).filter(|line| line.starts_with("committed")).take(2 * round).count();
        assert_eq!(heard, 2 * round);
        writer.kill().unwrap();
        writer.wait().unwrap();
        let last = lines.filter_map(|line| line.strip_prefix("committed ")?.parse::<u64>().ok()).last();
        let found = read(&run).unwrap();
        let committed = found.requests.len() as u64;
        assert!(last.is_none_or(|last| committed > last), "{committed} after {last:?}");
        let expected: Vec<_> = (0..committed).map(|number| shaped("tokens", number)).collect();
        assert_eq!(found, record(&manifest, &expected));
    }
}
