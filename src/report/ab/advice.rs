//! What to do next, verdict by verdict.

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
            all.push("Look which cells and which cost moved; profile B there.".to_owned());
            all.push(
                "If the slow-down is intended, say so in the commit message and raise the delta of the gate."
                    .to_owned(),
            );
        }
        Verdict::Improved | Verdict::Unchanged => all.push("Nothing needs doing.".to_owned()),
        Verdict::Inconclusive if manifest.refused.is_some() => {
            all.push("Run it on a quieter machine, or give the gate a delta that this machine supports.".to_owned());
        }
        Verdict::Inconclusive => {
            all.push(
                "Nothing is proven, neither a slow-down nor its absence. Run it again on a quieter machine.".to_owned(),
            );
            // Of this gate only: with the same delta another one, which is decided as it stands, might not have been.
            let open = judged.gates.iter().filter_map(|gate| Some((gate, gate.decision.would_decide?)));
            all.extend(open.map(|(gate, bound)| {
                let delta = gate.scale.size_up(bound);
                format!("With a delta of {delta} these pairs would have decided the gate on {}.", gate.name())
            }));
        }
        Verdict::NotDecided if manifest.state == FinishState::Running => {
            all.push("The session is still running, or was killed. `--resume` continues it.".to_owned());
        }
        Verdict::NotDecided => all.push("The session was interrupted. `--resume` continues it.".to_owned()),
        Verdict::OutputChanged => {
            all.push(
                "The two sides do different work, so their speeds cannot be compared. Find out first why the tokens differ."
                    .to_owned(),
            );
            if matches!(manifest.settings.outputs, OutputsRule::Identical) {
                let help =
                    "If only the order of a sum changed, `outputs = \"margin\"` allows tokens that were nearly tied.";
                all.push(help.to_owned());
            }
        }
        Verdict::Invalid => all.push("Remove the cause and run it again: what was measured says nothing.".to_owned()),
        Verdict::Failed => {
            all.push("B's own record in `b/` has the failed iterations and the log of its host.".to_owned())
        }
    }
    if neutral {
        all.push("The exit code is 0 nevertheless, because of `--neutral-ok`.".to_owned());
    }
    all
}
