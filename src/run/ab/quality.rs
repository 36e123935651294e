//! The quality pass of a session, after its verdict: each side scores the same text.

use super::session::{Session, key};
use crate::run::error::RunError;
use crate::run::worker::TOP;
use crate::spec::Side;

impl Session<'_> {
    /// Scores the fixed text on both sides; `false` if the user asked to stop. Errors become
    /// warnings.
    pub(super) fn score(&mut self) -> bool {
        let scored = self.score_sides();
        self.after("quality", scored)
    }

    fn score_sides(&mut self) -> Result<bool, RunError> {
        for side in Side::BOTH {
            let left = self.workers[side as usize].quality_left()?;
            if left.is_empty() {
                continue;
            }
            self.begin(side);
            for cells in left {
                if self.interrupt.requested() {
                    return Ok(false);
                }
                let (worker, observer) = (&mut self.workers[side as usize], &mut *self.observer);
                let key = key(cells[0]);
                worker.close_others(&key);
                if !worker.score(&cells, &key, TOP, observer)? {
                    return Ok(false);
                }
            }
            self.end(side);
        }
        Ok(true)
    }
}
