//! Token embeddings, with an adapter's matrices, and their backward pass.

use burn::tensor::{Int, Tensor};
use collimate_backend::{ComputeDtype, Factor, FusedOps, in_dtype, in_float32};
use half::bf16;

use super::{Addition, Engine, Gradients, PackInputs};
use crate::host::int_tensor;

impl<B: FusedOps> Engine<'_, B> {
    /// Token embeddings, [N] → [N, D].
    pub(crate) fn embed(&self, tokens: Tensor<B, 1, Int>) -> Tensor<B, 2> {
        let rows = self.looked_up(tokens.clone());
        let Some(lora) = &self.index.embedding_lora else { return self.scaled_embedding(rows) };
        let low = self.params[lora.a].clone().select(0, tokens);
        let b = Factor::new(&self.params[lora.b]);
        self.scaled_embedding(B::multiply(Some(rows), lora.scale, Factor::new(&low), b))
    }

    /// The same of a pack, with dropout.
    pub(crate) fn embed_dropped(&self, pack: &PackInputs<B>) -> Tensor<B, 2> {
        self.thinned(self.embed(pack.tokens.clone()), Addition::Embedding)
    }

    /// Rows of the embedding, [N] → [N, D]; of conditions, whose tokens follow the vocabulary, those of their own.
    fn looked_up(&self, tokens: Tensor<B, 1, Int>) -> Tensor<B, 2> {
        let table = self.params[self.index.embedding].clone();
        let Some(conditions) = self.index.conditions else { return table.select(0, tokens) };
        let (vocab_size, shape) = (self.config.vocab_size as i64, [tokens.dims()[0], self.config.hidden_size]);
        let is_condition = tokens.clone().greater_equal_elem(vocab_size);
        let rows = table.select(0, tokens.clone().mask_fill(is_condition.clone(), 0));
        let numbers = (tokens - vocab_size).clamp_min(0);
        let of_conditions = self.params[conditions].clone().select(0, numbers);
        rows.mask_where(is_condition.unsqueeze_dim::<2>(1).expand(shape), of_conditions)
    }

    /// Adds the gradients of rows that were looked up.
    fn looked_up_backward(&self, tokens: &[u32], dy: &Tensor<B, 2>, gradients: &mut Gradients<'_, B>) {
        let mut add = |id: usize, tokens: &[u32], dy: &Tensor<B, 2>| {
            if let Some(gradient) = gradients.get(id) {
                *gradient = Some(B::add_rows(gradient.take().unwrap_or_else(|| self.zero_gradient(id)), tokens, dy));
            }
        };
        let Some(conditions) = self.index.conditions else { return add(self.index.embedding, tokens, dy) };
        let vocab_size = self.config.vocab_size as u32;
        let (of_conditions, of_words): (Vec<u32>, Vec<u32>) =
            (0..tokens.len() as u32).partition(|row| tokens[*row as usize] >= vocab_size);
        for (id, rows, first) in [(self.index.embedding, of_words, 0), (conditions, of_conditions, vocab_size)] {
            let numbers: Vec<u32> = rows.iter().map(|row| tokens[*row as usize] - first).collect();
            if !rows.is_empty() {
                add(id, &numbers, &dy.clone().select(0, int_tensor(&rows, self.device)));
            }
        }
    }

    /// Applies the embedding scale, to embeddings or to their gradients.
    ///
    /// Rounded to the dtype of the computation, as reference implementations do.
    fn scaled_embedding(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        match self.config.embedding_scale {
            Some(scale) if self.dtype == ComputeDtype::Bfloat16 => rows.mul_scalar(bf16::from_f64(scale).to_f32()),
            Some(scale) => rows.mul_scalar(scale as f32),
            None => rows,
        }
    }

    /// Adds the gradients of what embeds tokens, where it is trained, given that of the embeddings.
    pub(crate) fn embedding_backward(&self, pack: &PackInputs<B>, dy: Tensor<B, 2>, gradients: &mut Gradients<'_, B>) {
        let dy = self.scaled_embedding(in_float32(dy));
        let tokens: Vec<u32> = pack.tokens.clone().into_data().iter::<i64>().map(|token| token as u32).collect();
        self.looked_up_backward(&tokens, &dy, gradients);
        let Some(lora) = &self.index.embedding_lora else { return };
        if let Some(gradient) = gradients.get(lora.b) {
            let low = self.params[lora.a].clone().select(0, pack.tokens.clone());
            B::add_product(gradient, lora.scale, Factor::transpose_of(&low), Factor::new(&dy));
        }
        if let Some(gradient) = gradients.get(lora.a) {
            let b = Factor::transpose_of(&self.params[lora.b]);
            let d_low = in_dtype(B::multiply(None, lora.scale, Factor::new(&dy), b), dy.dtype());
            let held = gradient.take().unwrap_or_else(|| self.zero_gradient(lora.a));
            *gradient = Some(B::add_rows(held, &tokens, &d_low));
        }
    }
}
