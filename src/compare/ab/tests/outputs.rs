//! Sides that generate other tokens.

use super::*;

fn divergence(gap: Option<f32>, allowed: bool) -> Divergence {
    Divergence { cell: 0, turn: 0, index: 17, a: Some(5), b: Some(6), gap, allowed }
}

#[test]
fn other_tokens_outweigh_any_speed() {
    let regressed = || Made::new(&[DecodeTps]).pairs(10, |_, row| decode(row, 1.5));
    let changed = regressed().found(OutputsRule::Identical, vec![divergence(None, false)], None);
    changed.expect(Verdict::OutputChanged, 4, &["position 17", "token 6 instead of token 5"]);
    let any = regressed().found(OutputsRule::Any, vec![divergence(None, true)], None);
    any.expect(Verdict::Regressed, 1, &[]);

    let margin = OutputsRule::Margin { logits: 0.05 };
    let close = regressed().found(margin, vec![divergence(Some(0.01), true)], None);
    close.expect(Verdict::Regressed, 1, &[]);
    let far = regressed().found(margin, vec![divergence(Some(0.01), true), divergence(Some(0.5), false)], None);
    far.expect(
        Verdict::OutputChanged,
        4,
        &["in 1 places by more than 0.05 logits", "token 6 instead of token 5, by 0.5"],
    );
}

#[test]
fn tokens_are_looked_at_in_every_pair() {
    let other = |row: &mut RequestRow| row.token_hash = Some("cafe".to_owned());
    // B differs from A once.
    let mut made = Made::new(&[DecodeTps]).pairs(9, |_, _| {});
    made.pair(as_it_is, other);
    made.expect(Verdict::OutputChanged, 4, &["different tokens than A in pair 10"]);
    // A itself is not deterministic, so B cannot be judged.
    let mut made = Made::new(&[DecodeTps]).pairs(9, |_, _| {});
    made.pair(other, as_it_is);
    made.expect(Verdict::Invalid, 4, &["side A does not generate the same tokens each time (pair 10)"]);
    let mut made = Made::new(&[DecodeTps]).pairs(9, |_, _| {});
    made.pair(other, other);
    made.expect(Verdict::Invalid, 4, &["side A"]);
    // A pair excluded for speed, or an A/A pair, still provides outputs.
    let mut made = Made::new(&[DecodeTps]).pairs(10, |_, _| {});
    made.pair(as_it_is, |row| {
        other(row);
        invalid(row);
    });
    made.expect(Verdict::OutputChanged, 4, &["different tokens than A in pair 11"]);
    let mut made = Made::new(&[DecodeTps]);
    made.null_pair(as_it_is, other);
    made.expect(Verdict::Invalid, 4, &["side A does not generate the same tokens each time (pair 1)"]);
    let mut any = Made::new(&[DecodeTps]).pairs(9, |_, _| {}).found(OutputsRule::Any, Vec::new(), None);
    any.pair(other, as_it_is);
    any.expect(Verdict::Unchanged, 0, &[]);
}
