//! What is shown beyond the gates: growth laws, other metrics, settings.

use super::*;

/// Prompt lengths of the growth tests; a decode of 101 tokens happens at about `length + 51` tokens
/// of context.
const LENGTHS: [u32; 5] = [200, 400, 800, 1600, 3200];

/// Decode time a + b n in milliseconds per token, with a little noise that differs for all pairs
/// and lengths.
fn law(row: &mut RequestRow, pair: usize, a: f64, b: f64) {
    let wobble = 1.0 + 0.002 * ((pair * 7 + row.cell as usize * 3) % 5) as f64;
    let context = f64::from(row.prompt_tokens.unwrap()) + 51.0;
    decode(row, (a + b * context) * wobble / 10.0);
}

#[test]
fn the_growth_law_names_what_moved() {
    let planted = |a: f64, b: f64| {
        let mut made = Made::of_lengths(&[DecodeTps], &LENGTHS);
        for pair in 0..10 {
            made.pair(|row| law(row, pair, 10.0, 0.01), |row| law(row, pair + 1, a, b));
        }
        let beyond = made.beyond();
        let found = beyond.laws.iter().find(|law| law.law.name() == "decode").unwrap();
        assert_eq!(found.ratios.len(), LENGTHS.len(), "the ratio at every length stands beside it");
        (found.change.as_ref().and_then(|change| change.named), found.not_identifiable.clone())
    };
    use inferometer_stats::growth::Term;
    let (term, why) = planted(10.0, 0.02);
    assert_eq!(term, Some(Term::PerTokenOfContext), "{why:?}");
    assert_eq!(planted(14.0, 0.01).0, Some(Term::PerToken));
    assert_eq!(planted(10.0, 0.01).0, None, "nothing moved");
    // Two lengths are not enough for a law, which is reported.
    let few = Made::of_lengths(&[DecodeTps], &[100, 200]).pairs(10, |_, _| {}).beyond();
    assert!(few.laws.iter().all(|law| law.change.is_none() && law.not_identifiable.is_some()));
}

#[test]
fn advisory_metrics_share_their_false_discoveries() {
    let made = Made::of_lengths(&[PrefillTps], &[100, 200]).pairs(10, |pair, row| {
        row.ttft_ms = row.ttft_ms.map(|ms| ms * noise(pair));
        if row.cell == 1 {
            decode(row, 1.1);
        }
    });
    let beyond = made.beyond();
    let stands_out: Vec<(&str, u32)> =
        beyond.effects.iter().filter(|one| one.stands_out()).map(|one| (one.metric, one.cell)).collect();
    assert_eq!(stands_out, [("decode_tps", 1)]);
    let found = |metric: &str| beyond.effects.iter().find(|one| one.metric == metric && one.cell == 1).unwrap();
    let slower = found("decode_tps");
    assert!((slower.shift - 1.1_f64.ln()).abs() < 1e-12 && slower.pairs == 10);
    // Exact signed-rank of ten equal signs is 2 / 1024; the other tests make it larger.
    assert!((slower.p_value - 2.0 / 1024.0).abs() < 1e-12 && slower.adjusted > slower.p_value);
    assert!(!found("ttft_ms").stands_out());
    made.expect(Verdict::Unchanged, 0, &[]);
}

#[test]
fn effective_settings_that_differ_are_found() {
    let window = |row: &mut RequestRow, window: &str| {
        row.effective.insert("window".to_owned(), window.into());
    };
    let asked = |mut made: Made| {
        made.manifest.sides =
            [side(&["toggles.repetition_window_cap=0"]), side(&["toggles.repetition_window_cap=768"])];
        made
    };
    let lengths = || Made::of_lengths(&[DecodeTps], &[100, 2000]);
    // The cap binds in the long cell only.
    let made = asked(lengths()).pairs(10, |_, row| {
        if row.cell == 1 {
            window(row, "768")
        }
    });
    let effective = made.effective();
    let differ: Vec<_> = effective.iter().map(|d| (d.cell, d.a.as_deref(), d.b.as_deref())).collect();
    assert_eq!(differ, [(1, Some("all"), Some("768"))]);
}
