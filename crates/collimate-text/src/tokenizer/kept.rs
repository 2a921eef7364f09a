//! Which ids of a text are held: of one that is cut afterwards, no more than that leaves.

/// Which ids are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// All of them.
    All,
    /// This many from the start.
    First(usize),
    /// This many before the end.
    Last(usize),
}

/// What is known of ids that are not held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// How many they are.
    pub(crate) count: usize,
    /// The last id of the text.
    pub(crate) last: Option<u32>,
    /// How often it stands at the end.
    pub(crate) repeats: usize,
}

/// Ids as they are made, of which some are held.
#[derive(Debug)]
pub(super) struct Kept {
    keep: Keep,
    ids: Vec<u32>,
    left_out: LeftOut,
}

impl Kept {
    /// Room for the ids of a text of this many bytes.
    pub(super) fn new(keep: Keep, num_bytes: usize) -> Self {
        let most = match keep {
            Keep::All => usize::MAX,
            Keep::First(count) => count,
            Keep::Last(count) => count.saturating_mul(2),
        };
        Self { keep, ids: Vec::with_capacity(most.min(num_bytes / 4)), left_out: LeftOut::default() }
    }

    /// Appends ids.
    pub(super) fn extend(&mut self, ids: &[u32]) {
        let left_out = &mut self.left_out;
        if let Some(last) = ids.last() {
            let repeats = ids.iter().rev().take_while(|id| *id == last).count();
            let goes_on = repeats == ids.len() && left_out.last == Some(*last);
            left_out.repeats = if goes_on { left_out.repeats + repeats } else { repeats };
            left_out.last = Some(*last);
        }
        let room = match self.keep {
            Keep::First(count) => count.saturating_sub(self.ids.len()).min(ids.len()),
            _ => ids.len(),
        };
        self.ids.extend_from_slice(&ids[..room]);
        left_out.count += ids.len() - room;
        if let Keep::Last(count) = self.keep
            && self.ids.len() >= count.saturating_mul(2)
        {
            self.drop_first(count);
        }
    }

    fn drop_first(&mut self, count: usize) {
        let surplus = self.ids.len().saturating_sub(count);
        self.ids.drain(..surplus);
        self.left_out.count += surplus;
    }

    /// The ids that are held, and what is known of the others.
    pub(super) fn finish(mut self) -> (Vec<u32>, LeftOut) {
        if let Keep::Last(count) = self.keep {
            self.drop_first(count);
        }
        (self.ids, self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted_with_the_end_of_the_text() {
        let all: Vec<u32> = (0..40).chain([7; 5]).collect();
        for size in [1, 2, 3, 50] {
            for count in [1, 4, 44, 45, 60] {
                let kept = |keep| {
                    let mut kept = Kept::new(keep, 180);
                    all.chunks(size).for_each(|ids| kept.extend(ids));
                    kept.finish()
                };
                let left_out = LeftOut { count: all.len().saturating_sub(count), last: Some(7), repeats: 5 };
                let num = count.min(all.len());
                assert_eq!(kept(Keep::First(count)), (all[..num].to_vec(), left_out.clone()));
                assert_eq!(kept(Keep::Last(count)), (all[all.len() - num..].to_vec(), left_out));
                assert_eq!(kept(Keep::All).0, all);
            }
        }
    }
}
