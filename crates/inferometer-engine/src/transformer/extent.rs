//! Which positions a cache holds: all of them, or with a window the last ones and some before.

/// Positions that went in are numbered from 0; those held are the last of them, in order and in one piece.
#[derive(Debug)]
pub struct Extent {
    /// Attention looks at the last so many positions.
    window: Option<usize>,
    held: usize,
    /// Positions that went in before the first one held.
    dropped: usize,
}

impl Extent {
    #[must_use]
    pub fn new(window: Option<usize>) -> Self {
        Self { window, held: 0, dropped: 0 }
    }

    /// Positions that a query looks back at, itself included.
    #[must_use]
    pub fn window(&self) -> usize {
        self.window.unwrap_or(usize::MAX)
    }

    /// Positions in memory; the last ones count.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    #[must_use]
    pub fn seen(&self) -> usize {
        self.dropped + self.held
    }

    /// Positions that attention looks at.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.min(self.window())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Positions that are not needed any more: all but one more than the next position looks at, so that the last one
    /// can be taken back.
    #[must_use]
    pub fn spare(&self) -> usize {
        self.held.saturating_sub(self.window())
    }

    /// Room to take for `len` positions, in steps; a full window moves once in a step, not with each position.
    #[must_use]
    pub fn room(&self, len: usize, step: usize) -> usize {
        len.next_multiple_of(step).min(self.window().saturating_add(step).max(len))
    }

    pub fn append(&mut self, count: usize) {
        self.held += count;
    }

    /// The first `count` positions held are gone.
    pub fn drop_first(&mut self, count: usize) {
        self.held -= count;
        self.dropped += count;
    }

    #[must_use]
    pub fn can_truncate(&self, seen: usize) -> bool {
        // A whole window must stay, one position more than the next one looks back at: what is held is then as long as
        // in a cache that was never longer.
        seen == 0 || seen >= self.seen() || self.dropped == 0 || seen >= self.dropped + self.window()
    }

    pub fn truncate(&mut self, seen: usize) {
        if seen < self.dropped {
            (self.held, self.dropped) = (0, 0);
        } else {
            self.held = self.held.min(seen - self.dropped);
        }
        if self.held == 0 {
            self.dropped = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Positions that were dropped cannot come back, so a cut may reach only so far as a whole window stays.
    #[test]
    fn what_is_cut_still_holds_a_whole_window() {
        for window in [1, 2, 9] {
            let mut extent = Extent::new(Some(window));
            extent.append(300);
            extent.drop_first(extent.spare());
            extent.append(5);
            assert_eq!((extent.seen(), extent.held()), (305, window + 5));
            assert!(!extent.can_truncate(299) && extent.can_truncate(300) && extent.can_truncate(0));
            extent.truncate(300);
            assert_eq!((extent.seen(), extent.len()), (300, window), "window {window}");
            extent.truncate(0);
            assert_eq!((extent.seen(), extent.held()), (0, 0));
        }
    }
}
