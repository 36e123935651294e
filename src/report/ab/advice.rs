//! What to do next, for each verdict.

use crate::compare::ab::Judgement;
use crate::record::FinishState;
use crate::record::ab::AbManifest;
use crate::spec::OutputsRule;
use inferometer_stats::sequential::Verdict;

/// At least one sentence, none of which repeats the verdict's reasons.
pub fn advice(judged: &Judgement, manifest: &AbManifest, neutral: bool) -> Vec<String> {
    let mut all = Vec::new();
    match judged.verdict {
        Verdict::Regressed => {
            all.push("Check which cells and which cost moved, then profile B in those cells.".to_owned());
            all.push(
                "If the slow-down is intended, say so in the commit message and raise the gate's delta.".to_owned(),
            );
        }
        Verdict::Improved | Verdict::Unchanged => all.push("Nothing to do.".to_owned()),
        Verdict::Inconclusive if manifest.refused.is_some() => {
            all.push("Run it on a quieter machine, or give the gate a delta that this machine supports.".to_owned());
        }
        Verdict::Inconclusive => {
            all.push("Neither a slow-down nor its absence is proven. Run it again on a quieter machine.".to_owned());
            // This is about one gate: with the same delta, a gate that is decided now might not
            // have been.
            let open = judged.gates.iter().filter_map(|gate| Some((gate, gate.decision.would_decide?)));
            all.extend(open.map(|(gate, bound)| {
                let delta = gate.scale.size_up(bound);
                format!("With a delta of {delta}, these pairs would have decided the gate on {}.", gate.name())
            }));
        }
        Verdict::NotDecided if manifest.state == FinishState::Running => {
            all.push("The session is still running, or was killed. `--resume` continues it.".to_owned());
        }
        Verdict::NotDecided => all.push("The session was interrupted. `--resume` continues it.".to_owned()),
        Verdict::OutputChanged => {
            all.push(
                "The two sides do different work, so their speeds cannot be compared. First find out why the tokens differ."
                    .to_owned(),
            );
            if matches!(manifest.settings.outputs, OutputsRule::Identical) {
                let help =
                    "If only the order of a sum changed, `outputs = \"margin\"` allows tokens that were nearly tied.";
                all.push(help.to_owned());
            }
        }
        Verdict::Invalid => all.push("The measurements cannot be used. Remove the cause and run it again.".to_owned()),
        Verdict::Failed => all.push("See the failed iterations and the host's log in B's record, `b/`.".to_owned()),
    }
    if neutral {
        all.push("The exit code is 0 because of `--neutral-ok`.".to_owned());
    }
    all
}
