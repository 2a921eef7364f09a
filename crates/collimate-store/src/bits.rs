//! A set of positions, one bit each.

/// Which positions of a list are chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    /// `len` positions, none chosen.
    pub(crate) fn none(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len }
    }

    /// Appends a position.
    pub(crate) fn push(&mut self, chosen: bool) {
        if self.len.is_multiple_of(64) {
            self.words.push(0);
        }
        self.len += 1;
        if chosen {
            self.set(self.len - 1, true);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether a position is chosen; one beyond the end is not.
    pub(crate) fn get(&self, position: usize) -> bool {
        self.words.get(position / 64).is_some_and(|word| word >> (position % 64) & 1 == 1)
    }

    pub(crate) fn set(&mut self, position: usize, chosen: bool) {
        if let Some(word) = self.words.get_mut(position / 64) {
            *word = *word & !(1 << (position % 64)) | u64::from(chosen) << (position % 64);
        }
    }

    /// Number of chosen positions.
    pub(crate) fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The last chosen position.
    pub(crate) fn last(&self) -> Option<usize> {
        let word = self.words.iter().rposition(|word| *word != 0)?;
        Some(word * 64 + 63 - self.words[word].leading_zeros() as usize)
    }

    /// Positions chosen in both sets of one length.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let words = self.words.iter().zip(&other.words).map(|(a, b)| a & b).collect();
        Self { words, len: self.len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_chosen_counted_and_left_out() {
        let mut bits = Bits::default();
        (0..200).for_each(|position| bits.push(position % 3 == 0));
        assert_eq!((bits.len(), bits.count(), bits.last()), (200, 67, Some(198)));
        bits.set(198, false);
        bits.set(64, true);
        assert_eq!((bits.count(), bits.last(), bits.get(64), bits.get(500)), (67, Some(195), true, false));
        let mut other = Bits::none(200);
        other.set(64, true);
        other.set(65, true);
        assert_eq!(bits.and(&other).count(), 1);
        assert_eq!((Bits::none(10).last(), Bits::none(0).count()), (None, 0));
    }
}
