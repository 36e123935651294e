use super::*;
use crate::spec::Side;

fn row(pair: u32, first: Side) -> PairRow {
    PairRow { pair, kind: PairKind::Pair, first, first_iteration: pair, second: first.other(), second_iteration: pair }
}

#[test]
fn pairs_are_read_as_far_as_whole_lines_go() {
    let dir = tempfile::tempdir().unwrap();
    let text = "pair,kind,first,first_iteration,second,second_iteration\n1,pilot,a,1,a,2\n2,pair,b,1,a,3\n3,pair,a,4,b";
    fs_err::write(dir.path().join(PAIRS), text).unwrap();
    let (rows, bytes) = store::read_pairs(dir.path()).unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].kind, rows[0].iterations()), (PairKind::Pilot, [(Side::A, 1), (Side::A, 2)]));
    assert_eq!(rows[1].iterations(), [(Side::A, 3), (Side::B, 1)]);
    assert_eq!(bytes as usize, text.rfind('\n').unwrap() + 1);
}

#[test]
fn a_pair_out_of_order_is_refused_by_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let text = "pair,kind,first,first_iteration,second,second_iteration\n1,pair,a,1,b,1\n3,pair,a,2,b,2\n";
    fs_err::write(dir.path().join(PAIRS), text).unwrap();
    let error = store::read_pairs(dir.path()).unwrap_err().to_string();
    assert!(error.contains("line 3") && error.contains("pair 3"), "{error}");
    fs_err::write(dir.path().join(PAIRS), text.replace("pair,a,1", "fair,a,1")).unwrap();
    assert!(store::read_pairs(dir.path()).unwrap_err().to_string().contains("line 2"));
}

#[test]
fn what_is_no_session_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let error = read(dir.path()).unwrap_err().to_string();
    assert!(error.contains("ab.json"), "{error}");
    fs_err::write(dir.path().join(MANIFEST), "{\"schema_version\": 99}").unwrap();
    assert!(matches!(read(dir.path()), Err(RecordError::Newer { found: 99, .. })));
    assert_eq!(row(1, Side::B).iterations(), [(Side::A, 1), (Side::B, 1)]);
}

#[test]
fn pairs_that_cannot_be_are_refused_by_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        ("2,pilot,a,3,b,1", "not A against A"),
        ("2,pair,b,2,b,3", "side B twice"),
        ("2,pair,a,0,b,1", "numbered from 1"),
        ("2,pair,a,4294967295,b,1", "above the limit"),
        ("2,pair,b,1,a,2", "iteration 2 of side A is already in another pair"),
        ("2,pilot,a,3,a,3", "iteration 3 of side A is already in another pair"),
    ];
    for (line, words) in cases {
        let text = format!("pair,kind,first,first_iteration,second,second_iteration\n1,pilot,a,1,a,2\n{line}\n");
        fs_err::write(dir.path().join(PAIRS), text).unwrap();
        let error = store::read_pairs(dir.path()).unwrap_err().to_string();
        assert!(error.contains("pairs.csv, line 3") && error.contains(words), "{line}: {error}");
    }
}
