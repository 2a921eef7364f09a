//! What the ranks of a run did of a step, and which of them the others waited for.

use collimate_report::MetricsRow;

use crate::format::format_seconds;

/// How much longer than the mean of the others a rank computes that is named.
const STRAGGLES: f64 = 1.5;
/// The least difference that is worth a line, in seconds.
const LEAST_SECONDS: f64 = 0.5;

/// What a rank did of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RankShare {
    /// Tokens that it computed.
    pub tokens: u64,
    /// Seconds of its passes, without waiting for others.
    pub seconds: f64,
    /// Its resident memory, in bytes; 0 if the system does not say.
    pub memory: u64,
}

impl RankShare {
    /// As bytes, for the other ranks.
    pub fn to_bytes(self) -> Vec<u8> {
        let words = [self.tokens, self.seconds.to_bits(), self.memory];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// What a rank has sent.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let word = |at: usize| bytes.as_chunks().0.get(at).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Self { tokens: word(0), seconds: f64::from_bits(word(1)), memory: word(2) }
    }

    fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds
    }
}

/// The rank that computed longest.
fn slowest(shares: &[RankShare]) -> Option<(usize, &RankShare)> {
    shares.iter().enumerate().max_by(|(_, a), (_, b)| a.seconds.total_cmp(&b.seconds))
}

/// Adds to a step's row how fast several ranks were, all together and the slowest of them.
pub fn add_speed(row: &mut MetricsRow, shares: &[RankShare], step_seconds: f64) {
    let (Some((rank, share)), true) = (slowest(shares), shares.len() > 1) else { return };
    let tokens: u64 = shares.iter().map(|share| share.tokens).sum();
    row.set_count("ranks", shares.len() as u64);
    row.set("tokens_per_second", tokens as f64 / step_seconds);
    row.set("slowest_tokens_per_second", share.tokens_per_second());
    row.set_count("slowest_rank", rank as u64);
}

/// A line about a rank that the others waited for, if one stands out.
pub fn straggler(shares: &[RankShare]) -> Option<String> {
    let (rank, share) = slowest(shares).filter(|_| shares.len() > 1)?;
    let others: f64 = shares.iter().map(|share| share.seconds).sum::<f64>() - share.seconds;
    let mean = others / (shares.len() - 1) as f64;
    (share.seconds > STRAGGLES * mean && share.seconds - mean > LEAST_SECONDS).then(|| {
        let (its, theirs) = (format_seconds(share.seconds), format_seconds(mean));
        format!("rank {rank} computed for {its}, the others for {theirs} on average")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(seconds: &[f64]) -> Vec<RankShare> {
        seconds.iter().map(|&seconds| RankShare { tokens: 600, seconds, memory: 0 }).collect()
    }

    #[test]
    fn what_a_rank_did_arrives_as_it_was() {
        let share = RankShare { tokens: 7, seconds: 0.125, memory: 1 << 40 };
        assert_eq!(RankShare::from_bytes(&share.to_bytes()), share);
    }

    #[test]
    fn the_slowest_rank_is_in_the_row_of_several_only() {
        let row = |seconds: &[f64]| {
            let mut row = MetricsRow::default();
            add_speed(&mut row, &shares(seconds), 4.0);
            row
        };
        assert_eq!(row(&[2.0]), MetricsRow::default());
        let several = row(&[2.0, 3.0, 1.0]);
        let figure = |name: &str| several.get(name);
        assert_eq!((figure("ranks"), figure("slowest_rank")), (Some(3.0), Some(1.0)));
        assert_eq!(figure("tokens_per_second"), Some(1800.0 / 4.0));
        assert_eq!(figure("slowest_tokens_per_second"), Some(600.0 / 3.0));
    }

    #[test]
    fn a_rank_that_stands_out_is_named() {
        assert_eq!(straggler(&shares(&[9.0])), None);
        assert_eq!(straggler(&shares(&[2.0, 2.4, 2.8])), None);
        assert_eq!(straggler(&shares(&[0.01, 0.4])), None, "less than half a second");
        let line = straggler(&shares(&[2.0, 2.0, 8.0])).expect("a line");
        assert!(line.starts_with("rank 2 computed for 8"), "{line}");
    }
}
