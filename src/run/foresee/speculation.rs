//! Settings of speculative decoding that would have no effect, or that nothing can follow.

use std::collections::BTreeMap;

use crate::engines;
use crate::run::error::RunError;
use crate::spec::{Cell, Plan, Scenario};
use inferometer_protocol::toggle::{DRAFT_MODEL, LOOKUP_NGRAM, NO_DRAFT_MODEL, NUM_DRAFT_TOKENS};
use inferometer_protocol::{EngineError, Value};

/// What a cell asks for.
struct Asked {
    drafts: bool,
    lookup: bool,
    model: bool,
}

impl Asked {
    fn of(cell: &Cell) -> Self {
        let count = |name| cell.toggles.get(name).and_then(Value::as_count).unwrap_or(0);
        let model = cell.toggles.get(DRAFT_MODEL).and_then(Value::as_text);
        Self {
            drafts: count(NUM_DRAFT_TOKENS) > 0,
            lookup: count(LOOKUP_NGRAM) > 0,
            model: model.is_some_and(|model| model != NO_DRAFT_MODEL),
        }
    }
}

/// Refuses drafts that nothing makes, and a draft model or a look-up that no cell uses. One
/// scenario, or the sides of a session: one of them may be without drafts.
///
/// # Errors
/// Names both keys and says what to add.
pub fn speculation(sides: &[(&Scenario, &Plan)]) -> Result<(), RunError> {
    let refused = |problem: String| Err(RunError::Engine(EngineError::bad_request(problem)));
    let mut groups: BTreeMap<Option<u32>, Vec<Asked>> = BTreeMap::new();
    for &(scenario, plan) in sides {
        for cell in own(scenario, plan) {
            let asked = Asked::of(cell);
            if asked.drafts && !asked.lookup && !asked.model {
                return refused(format!(
                    "cell `{}` has `{NUM_DRAFT_TOKENS}` above 0, but nothing drafts: add `{LOOKUP_NGRAM}` above 0 \
                     (such as 3) for prompt look-up, or a `{DRAFT_MODEL}` (`--draft-model` of `bench`)",
                    cell.label
                ));
            }
            groups.entry((sides.len() == 1).then_some(cell.engine)).or_default().push(asked);
        }
    }
    for cells in groups.values() {
        let unused = |is: fn(&Asked) -> bool| cells.iter().any(is) && !cells.iter().any(|one| is(one) && one.drafts);
        let given = [(DRAFT_MODEL, unused(|one| one.model)), (LOOKUP_NGRAM, unused(|one| one.lookup))];
        if let Some((name, _)) = given.into_iter().find(|(_, unused)| *unused) {
            return refused(format!(
                "`{name}` has no effect, because `{NUM_DRAFT_TOKENS}` is 0: add `{NUM_DRAFT_TOKENS}` above 0 (such as \
                 4) to the toggles, or remove `{name}`"
            ));
        }
    }
    Ok(())
}

/// Where a draft model is loaded and does not draft.
pub(super) fn warning(scenario: &Scenario, plan: &Plan) -> Option<String> {
    let both = |cell: &&Cell| matches!(Asked::of(cell), Asked { drafts: true, lookup: true, model: true });
    let cell = own(scenario, plan).find(both)?;
    Some(format!(
        "the draft model is loaded but not used where `{LOOKUP_NGRAM}` is above 0, such as in cell `{}`: there the \
         look-up drafts",
        cell.label
    ))
}

fn own<'a>(scenario: &'a Scenario, plan: &'a Plan) -> impl Iterator<Item = &'a Cell> {
    plan.cells.iter().filter(|cell| engines::is_own(&scenario.engines[cell.engine as usize].name))
}
