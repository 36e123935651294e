//! Which positions a cache holds: all, or with a window the last ones and some before them.

/// Appended positions are numbered from 0; the held ones are the last of them, in order and
/// contiguous.
#[derive(Debug)]
pub struct Extent {
    /// Number of last positions that attention sees.
    window: Option<usize>,
    held: usize,
    /// Positions before the first held one.
    dropped: usize,
    /// Positions that may be removed from the end, besides the last one.
    removable: usize,
}

impl Extent {
    #[must_use]
    pub fn new(window: Option<usize>) -> Self {
        Self { window, held: 0, dropped: 0, removable: 0 }
    }

    /// Positions that a query sees, including itself.
    #[must_use]
    pub fn window(&self) -> usize {
        self.window.unwrap_or(usize::MAX)
    }

    /// Positions in memory; attention sees the last ones.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    #[must_use]
    pub fn seen(&self) -> usize {
        self.dropped + self.held
    }

    /// Positions that attention sees.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.min(self.window())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Positions that are no longer needed: all but those that the next position sees, one more, so
    /// that the last one can be removed again, and those of [`Extent::allow_removing`].
    #[must_use]
    pub fn spare(&self) -> usize {
        self.held.saturating_sub(self.window().saturating_add(self.removable))
    }

    /// From now on so many more positions are held, so that as many can be removed from the end.
    pub fn allow_removing(&mut self, count: usize) {
        self.removable = count;
    }

    /// Room to allocate for `len` positions, in steps; a full window moves once per step, not with
    /// each position.
    #[must_use]
    pub fn room(&self, len: usize, step: usize) -> usize {
        let most = self.window().saturating_add(self.removable).saturating_add(step);
        len.next_multiple_of(step).min(most.max(len))
    }

    pub fn append(&mut self, count: usize) {
        self.held += count;
    }

    /// Drops the first `count` held positions.
    pub fn drop_first(&mut self, count: usize) {
        self.held -= count;
        self.dropped += count;
    }

    #[must_use]
    pub fn can_truncate(&self, seen: usize) -> bool {
        // A whole window must stay, one position more than the next one needs: the cache is then as
        // long as one that was never longer.
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

    #[test]
    fn as_many_as_allowed_can_be_removed_one_after_another() {
        for removable in [0, 5] {
            let mut extent = Extent::new(Some(9));
            extent.allow_removing(removable);
            extent.append(300);
            // The room was used up in the middle of a draft.
            extent.drop_first(extent.spare());
            extent.append(1);
            assert!(extent.can_truncate(300 - removable), "{removable}");
            assert!(!extent.can_truncate(300 - removable - 1), "{removable}");
        }
    }

    /// Dropped positions cannot come back, so truncation is allowed only if a whole window stays.
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
