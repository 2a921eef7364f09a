//! Log-probs of target tokens in chunks: never the whole logits, only at positions that predict a response token.

use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};
use collimate_data::GroupBatch;

/// Logits of a chunk: at most this many numbers (32 MiB of float32).
const CHUNK_ELEMENTS: usize = 8 << 20;

/// Which rows of the hidden states predict which tokens.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    /// Rows of the hidden states, [M].
    rows: Vec<i32>,
    /// The token that each row should predict, [M].
    tokens: Vec<i32>,
    /// How many of them belong to each response, by group.
    lengths: Vec<Vec<usize>>,
}

impl Targets {
    /// A response's first token is predicted by the prompt's last, each further one by the token before it.
    pub(crate) fn new(batch: &GroupBatch) -> Self {
        let mut targets = Self { rows: Vec::new(), tokens: Vec::new(), lengths: Vec::new() };
        for group in &batch.groups {
            for response in group {
                let predictors = std::iter::once(response.prompt.end - 1).chain(response.tokens.clone());
                targets.rows.extend(predictors.take(response.tokens.len()).map(|row| row as i32));
                targets.tokens.extend(batch.tokens[response.tokens.clone()].iter().map(|&t| t as i32));
            }
            targets.lengths.push(group.iter().map(|r| r.tokens.len()).collect());
        }
        targets
    }

    /// Splits [M] values into groups and responses.
    pub(crate) fn nest(&self, values: &[f64]) -> Vec<Vec<Vec<f64>>> {
        let mut rest = values;
        let mut take = |n: usize| {
            let (head, tail) = rest.split_at(n);
            rest = tail;
            head.to_vec()
        };
        self.lengths.iter().map(|group| group.iter().map(|&n| take(n)).collect()).collect()
    }

    /// Repeats each response's coefficient for its tokens, [M].
    pub(crate) fn spread(&self, coefficients: &[Vec<f64>]) -> Vec<f32> {
        let lengths = self.lengths.iter().flatten();
        let pairs = coefficients.iter().flatten().zip(lengths);
        pairs.flat_map(|(&c, &n)| std::iter::repeat_n(c as f32, n)).collect()
    }

    fn chunk<B: Backend>(&self, start: usize, end: usize, device: &B::Device) -> Chunk<B> {
        let ints = |values: &[i32]| Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device);
        Chunk { rows: ints(&self.rows[start..end]), tokens: ints(&self.tokens[start..end]) }
    }

    fn chunks(&self, vocab_size: usize) -> impl Iterator<Item = (usize, usize)> {
        let step = (CHUNK_ELEMENTS / vocab_size).max(1);
        let total = self.rows.len();
        (0..total).step_by(step).map(move |start| (start, (start + step).min(total)))
    }
}

struct Chunk<B: Backend> {
    rows: Tensor<B, 1, Int>,
    tokens: Tensor<B, 1, Int>,
}

/// The output layer; a row of its weight for each token, as in the embedding.
pub(crate) struct Head<B: Backend> {
    /// [V, D].
    weight: Tensor<B, 2>,
}

/// What going back through the output layer gives.
pub(crate) struct HeadGradients<B: Backend> {
    /// Gradient of the hidden states, [N, D].
    pub(crate) hidden: Tensor<B, 2>,
    /// Gradient of the output layer's weight, [V, D], where asked for.
    pub(crate) weight: Option<Tensor<B, 2>>,
}

impl<B: Backend> Head<B> {
    /// `weight` is [V, D].
    pub(crate) fn new(weight: Tensor<B, 2>) -> Self {
        Self { weight }
    }

    /// Logits of some hidden states, [S, D] → [S, V].
    pub(crate) fn logits(&self, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        hidden.matmul(self.weight.clone().transpose())
    }

    /// Log-probs of the targets in nats, [M], from hidden states [N, D].
    pub(crate) fn logps(&self, hidden: &Tensor<B, 2>, targets: &Targets) -> Vec<f64> {
        let device = hidden.device();
        let mut values = Vec::with_capacity(targets.rows.len());
        for (start, end) in targets.chunks(self.weight.dims()[0]) {
            let chunk = targets.chunk::<B>(start, end, &device);
            let logits = self.logits(hidden.clone().select(0, chunk.rows));
            let picked = logits.clone().gather(1, chunk.tokens.unsqueeze_dim(1));
            let highest = logits.clone().max_dim(1);
            let total = (logits - highest.clone()).exp().sum_dim(1);
            let columns = Tensor::cat(vec![picked, highest, total], 1).into_data();
            let columns: Vec<f64> = columns.iter::<f64>().collect();
            // Finished in float64: rounding each token's log-prob to float32 costs 1e-5 nats over a response, which
            // moves the coefficients by more than the rest of the forward pass does.
            values.extend(columns.chunks_exact(3).map(|c| c[0] - c[1] - c[2].ln()));
        }
        values
    }

    /// Gradients of `Σ_m coefficients[m] · logp[m]`; logits are computed again, chunk by chunk.
    pub(crate) fn backward(
        &self,
        hidden: &Tensor<B, 2>,
        targets: &Targets,
        coefficients: &[f32],
        with_weight: bool,
    ) -> HeadGradients<B> {
        let device = hidden.device();
        let mut d_hidden = hidden.zeros_like();
        let mut d_weight = with_weight.then(|| self.weight.zeros_like());
        for (start, end) in targets.chunks(self.weight.dims()[0]) {
            let chunk = targets.chunk::<B>(start, end, &device);
            let h = hidden.clone().select(0, chunk.rows.clone());
            let c = TensorData::new(coefficients[start..end].to_vec(), [end - start, 1]);
            let c = Tensor::<B, 2>::from_data(c, &device);
            // d logp / d logits = onehot − softmax; the one-hot part is done by picking rows.
            let pushed = softmax(self.logits(h.clone()), 1) * c.clone().neg();
            let picked = self.weight.clone().select(0, chunk.tokens.clone()) * c.clone();
            let d_h = pushed.clone().matmul(self.weight.clone()) + picked;
            d_hidden = d_hidden.select_assign(0, chunk.rows, d_h, IndexingUpdateOp::Add);
            d_weight = d_weight.map(|d| {
                let d = d + pushed.transpose().matmul(h.clone());
                d.select_assign(0, chunk.tokens, h * c, IndexingUpdateOp::Add)
            });
        }
        HeadGradients { hidden: d_hidden, weight: d_weight }
    }
}
