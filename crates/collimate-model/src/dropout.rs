//! Dropout whose draws depend only on (seed, step, sequence, layer): of LoRA's inputs, of the residual stream, and of whole
//! layers.

use std::ops::Range;

use burn::tensor::Tensor;
use collimate_backend::{DropoutRows, FusedOps};
use collimate_hf::Dropped;
use collimate_text::GroupBatch;

/// Identifies the draws of a step: the same key gives the same masks, whatever ran before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropoutKey {
    /// The run's seed.
    pub seed: u64,
    /// Optimizer step, from 0.
    pub step: u64,
}

/// What is added to the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Addition {
    /// Embeddings, with which it begins.
    Embedding,
    /// The attention of a layer.
    Attention(usize),
    /// The feed-forward half of a layer.
    FeedForward(usize),
}

impl Addition {
    /// Identifies its draws, apart from those of linear layers, which are counted from 0.
    fn ordinal(self) -> usize {
        let number = match self {
            Self::Embedding => 0,
            Self::Attention(layer) => 1 + 2 * layer,
            Self::FeedForward(layer) => 2 + 2 * layer,
        };
        usize::MAX - number
    }
}

/// Dropout on adapter inputs and the residual stream, in training only.
///
/// Draws belong to a prompt or response, not to a position in the pack, so the masks are the same however a micro-batch is
/// divided into packs and whether a prompt is shared or repeated. The K responses of a prompt share its mask.
#[derive(Debug, Clone)]
pub(crate) struct Dropout {
    probability: f64,
    dropped: Dropped,
    key: DropoutKey,
    parts: Vec<Part>,
}

/// Rows of one prompt or response.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    rows: Range<usize>,
    /// The group's index in the data.
    group: u64,
    /// 0 for the prompt, 1 + k for response k.
    sequence: u64,
}

impl Dropout {
    /// `probability` is that of an adapter's inputs.
    pub(crate) fn new(probability: f64, dropped: Dropped, key: DropoutKey, batch: &GroupBatch) -> Self {
        let mut parts: Vec<Part> = Vec::new();
        for (&index, responses) in batch.indices.iter().zip(&batch.groups) {
            for response in responses {
                let group = index as u64;
                let prompt = Part { rows: response.prompt.clone(), group, sequence: 0 };
                if !parts.contains(&prompt) {
                    parts.push(prompt);
                }
                parts.push(Part { rows: response.tokens.clone(), group, sequence: 1 + response.number as u64 });
            }
        }
        Self { probability, dropped, key, parts }
    }

    /// Whether numbers of the residual stream are dropped.
    pub(crate) fn drops_numbers(&self) -> bool {
        self.dropped.numbers > 0.0
    }

    /// Applies dropout to what is added to the residual stream, [N, D], or to its gradient.
    pub(crate) fn apply_to<B: FusedOps>(&self, added: Tensor<B, 2>, what: Addition) -> Tensor<B, 2> {
        if !self.drops_numbers() {
            return added;
        }
        let rows: Vec<DropoutRows> = self.parts.iter().map(|part| self.stream(part, what.ordinal())).collect();
        B::dropout(added, &rows, self.dropped.numbers)
    }

    /// Factors on what attention and the feed-forward layer of each block add for a response, the one at `position` among all
    /// of the pack: 0, or 1 over the share that is kept. Empty if no layers are dropped.
    pub(crate) fn paths(&self, position: usize, num_blocks: usize) -> Vec<[f64; 2]> {
        let part = self.parts.iter().filter(|part| part.sequence > 0).nth(position);
        let Some(part) = part.filter(|_| self.dropped.paths > 0.0) else { return Vec::new() };
        let factor = |block: usize, what: Addition| {
            let rate = self.dropped.paths * block as f64 / (num_blocks - 1).max(1) as f64;
            let draw = (self.stream(part, what.ordinal()).key >> 11) as f64 / (1_u64 << 53) as f64;
            if draw < rate { 0.0 } else { 1.0 / (1.0 - rate) }
        };
        let both = |block| [factor(block, Addition::Attention(block)), factor(block, Addition::FeedForward(block))];
        (0..num_blocks).map(both).collect()
    }

    /// Applies dropout to the input of a linear layer, [N, in], whose rows are the pack's or those that `gathered` lists.
    pub(crate) fn apply<B: FusedOps>(&self, x: Tensor<B, 2>, linear: usize, gathered: Option<&[u32]>) -> Tensor<B, 2> {
        let whole = self.parts.iter().map(|part| self.stream(part, linear));
        let rows: Vec<DropoutRows> = match gathered {
            None => whole.collect(),
            Some(gathered) => whole.flat_map(|stream| gathered_rows(&stream, gathered)).collect(),
        };
        B::dropout(x, &rows, self.probability)
    }

    fn stream(&self, part: &Part, linear: usize) -> DropoutRows {
        let words = [self.key.seed, self.key.step, part.group, part.sequence, linear as u64];
        let key = words.into_iter().fold(0, |key: u64, word| scramble(key.wrapping_add(word)));
        DropoutRows { rows: part.rows.clone(), first: 0, key }
    }
}

/// The rows of a stream among rows gathered in ascending order, each with its index in the stream.
fn gathered_rows(stream: &DropoutRows, gathered: &[u32]) -> Vec<DropoutRows> {
    let from = gathered.partition_point(|&row| (row as usize) < stream.rows.start);
    let to = gathered.partition_point(|&row| (row as usize) < stream.rows.end);
    let one_row = |row: usize| {
        let first = gathered[row] as usize - stream.rows.start;
        DropoutRows { rows: row..row + 1, first, key: stream.key }
    };
    (from..to).map(one_row).collect()
}

/// One step of SplitMix64 (Steele, Lea and Flood 2014).
fn scramble(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use burn_flex::{Flex, FlexDevice};
    use collimate_text::{TokenizedGroup, TokenizedResponse};

    use super::*;
    use crate::host::floats;

    fn group(index: usize) -> TokenizedGroup {
        let response = |len| TokenizedResponse { ids: vec![1; len], reward: 0.0, num_cut: 0 };
        let responses = vec![response(2), response(3)];
        TokenizedGroup { index, line: 1, prompt_ids: vec![1; 4], responses, ..TokenizedGroup::default() }
    }

    fn keys(batch: &GroupBatch, step: u64, linear: usize) -> Vec<u64> {
        let dropout = Dropout::new(0.25, Dropped::default(), DropoutKey { seed: 1, step }, batch);
        dropout.parts.iter().map(|part| dropout.stream(part, linear).key).collect()
    }

    #[test]
    fn every_step_layer_group_and_response_has_its_own_draws() {
        let batch = GroupBatch::shared([&group(0), &group(1)]);
        let mut all = Vec::new();
        for (step, linear) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            all.extend(keys(&batch, step, linear));
        }
        let count = all.len();
        assert_eq!(count, 4 * 2 * (1 + 2), "a prompt and two responses of two groups, four times");
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "no key twice");
    }

    #[test]
    fn whole_layers_are_dropped_more_often_the_later_they_are() {
        let dropped = Dropped { numbers: 0.0, paths: 0.5 };
        let batch = GroupBatch::shared([&group(0), &group(1)]);
        let (mut zeros, steps) = ([0; 3], 400);
        for step in 0..steps {
            let dropout = Dropout::new(0.0, dropped, DropoutKey { seed: 1, step }, &batch);
            for (block, factors) in dropout.paths(2, 3).into_iter().enumerate() {
                for factor in factors {
                    // A quarter, then a half.
                    let kept = 1.0 / (1.0 - 0.25 * block as f64);
                    assert!(factor == 0.0 || (factor - kept).abs() < 1e-12, "{factor}");
                    zeros[block] += usize::from(factor == 0.0);
                }
            }
        }
        let shares = zeros.map(|count| count as f64 / (2 * steps) as f64);
        assert!(shares[0] == 0.0 && (shares[1] - 0.25).abs() < 0.06 && (shares[2] - 0.5).abs() < 0.06, "{shares:?}");
    }

    #[test]
    fn gathered_rows_keep_their_draws() {
        let batch = GroupBatch::shared([&group(0), &group(1)]);
        let dropout = Dropout::new(0.5, Dropped::default(), DropoutKey { seed: 1, step: 2 }, &batch);
        let rows = batch.num_tokens();
        let x = Tensor::<Flex, 2>::ones([rows, 5], &FlexDevice);
        let all = floats(dropout.apply(x.clone(), 3, None));
        let gathered = [1, 4, 5, 8, 13, 17];
        let few = floats(dropout.apply(x.narrow(0, 0, gathered.len()), 3, Some(&gathered)));
        let expected = gathered.iter().flat_map(|&row| all[row as usize * 5..][..5].to_vec());
        assert_eq!(few, expected.collect::<Vec<_>>());
        assert!(few.contains(&0.0) && few.contains(&2.0));
    }

    #[test]
    fn packing_changes_no_draw() {
        let (first, second) = (group(0), group(1));
        let together = keys(&GroupBatch::shared([&first, &second]), 3, 5);
        let alone = keys(&GroupBatch::shared([&second]), 3, 5);
        assert_eq!(together[3..], alone);
        let [prompt, a, b] = alone[..] else { panic!("a prompt and two responses") };
        assert_eq!(keys(&GroupBatch::separate([&second]), 3, 5), [prompt, a, prompt, b]);
        assert_eq!(keys(&GroupBatch::parts([(&second, 1..2)], true), 3, 5), [prompt, b]);
    }
}
