//! Attention over segments.

use burn_flex::{Flex, FlexDevice};
use collimate_kernels as kernels;

use super::tensors::{Matrix, matrix, rows_of, with_numbers, wrap, zeros};
use crate::attention_map::{AttentionMap, AttentionSaved, AttentionShape, Segment};

/// The segments themselves, which the kernels read directly.
#[derive(Debug)]
pub struct Segments(Vec<Segment>);

impl AttentionMap<Flex> for Segments {
    fn new(segments: &[Segment], _: &AttentionShape, _: &[Option<usize>], _: &FlexDevice) -> Self {
        Self(segments.to_vec())
    }

    fn attend(&self, shape: &AttentionShape, q: &Matrix, k: &Matrix, v: &Matrix) -> (Matrix, Matrix) {
        let (rows, dtype) = (q.dims()[0], q.dtype());
        let [q, k, v] = [q, k, v].map(rows_of);
        let mut out = zeros(dtype, [rows, shape.heads * shape.head_dim]);
        let mut lse = vec![0.0; rows * shape.heads];
        with_numbers!(dtype, T => {
            let (q, k, v) = (q.storage::<T>(), k.storage(), v.storage());
            kernels::attention(shape, &self.0, q, k, v, out.storage_mut(), &mut lse);
        });
        (wrap(out), matrix(lse, [rows, shape.heads]))
    }

    fn attend_backward(&self, shape: &AttentionShape, saved: AttentionSaved<'_, Flex>, d_out: &Matrix) -> [Matrix; 3] {
        let dtype = saved.q.dtype();
        let [mut d_q, mut d_k, mut d_v] = [saved.q, saved.k, saved.v].map(|x| zeros(dtype, x.dims()));
        let [q, k, v, out, lse, d_out] = [saved.q, saved.k, saved.v, saved.out, saved.lse, d_out].map(rows_of);
        with_numbers!(dtype, T => {
            let held = kernels::AttentionSaved::<T> {
                q: q.storage(),
                k: k.storage(),
                v: v.storage(),
                out: out.storage(),
                lse: lse.storage(),
            };
            let (d_q, d_k, d_v) = (d_q.storage_mut(), d_k.storage_mut(), d_v.storage_mut());
            kernels::attention_backward(shape, &self.0, held, d_out.storage(), d_q, d_k, d_v);
        });
        [d_q, d_k, d_v].map(wrap)
    }
}
