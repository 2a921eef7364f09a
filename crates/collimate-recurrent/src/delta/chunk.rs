//! A chunk of one head's tokens, forward.
//!
//! With G the sums of g from the chunk's start, D the decays `e^(G_i − G_j)` from token j to token i, and S the state at its
//! start: what token i adds to the state is `k_i ⊗ u_i`, where `(I + L) U = β (V − e^G K S)`, `L = β D (K Kᵀ)` below the
//! diagonal. Outputs are `e^G Q S + (D Q Kᵀ) U`, and the state at its end is `e^(G_C) S + (e^(G_C − G) K)ᵀ U`.

use std::ops::Range;

use super::rows::Head;
use super::{CHUNK, LENGTH_EPS};
use collimate_kernels::simd::{dispatch, exp, sum_map};
use collimate_kernels::{Element, View, multiply_here};

/// The numbers of a chunk, C tokens of one head.
#[derive(Default)]
pub(super) struct Chunk {
    /// Number of tokens, C.
    pub(super) len: usize,
    pub(super) key_dim: usize,
    pub(super) value_dim: usize,
    /// Queries of length 1/√key_dim and keys of length 1, [C, key_dim], and values, [C, value_dim].
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
    /// What the lengths of queries and keys were divided by, [2, C], as factors.
    pub(super) inverse_lengths: Vec<f32>,
    pub(super) beta: Vec<f32>,
    /// e^G, \[C\], and e^(G_C − G).
    pub(super) from_start: Vec<f32>,
    pub(super) to_end: Vec<f32>,
    /// D, zero above the diagonal, [C, C].
    pub(super) decays: Vec<f32>,
    /// K S, [C, value_dim].
    pub(super) held: Vec<f32>,
    /// K Kᵀ, and L, zero from the diagonal up, [C, C].
    pub(super) likeness: Vec<f32>,
    pub(super) lower: Vec<f32>,
    /// V − e^G K S, and U, [C, value_dim].
    pub(super) missing: Vec<f32>,
    pub(super) u: Vec<f32>,
    /// D Q Kᵀ, zero above the diagonal, [C, C].
    pub(super) weights: Vec<f32>,
    /// e^(G_C − G) K, [C, key_dim].
    pub(super) late_keys: Vec<f32>,
}

/// Rows of this width.
pub(super) fn by_width(numbers: &[f32], width: usize) -> View<'_> {
    View::new(numbers, numbers.len() / width, width, width)
}

/// Makes a buffer of `len` numbers that will all be written.
pub(super) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}

impl Chunk {
    /// Reads the rows of a head.
    pub(super) fn load<T: Element>(&mut self, head: &Head<'_, T>, rows: Range<usize>) {
        let (shape, inputs) = (head.shape, head.inputs);
        (self.len, self.key_dim, self.value_dim) = (rows.len(), shape.key_dim, shape.value_dim);
        let [query, key, value] = shape.columns(head.index);
        let row = |row: usize| &inputs.qkv[row * shape.width()..][..shape.width()];
        sized(&mut self.inverse_lengths, 2 * self.len);
        let (of_queries, of_keys) = self.inverse_lengths.split_at_mut(self.len);
        let scale = 1.0 / (self.key_dim as f32).sqrt();
        let keys = [(&mut self.q, query, of_queries, scale), (&mut self.k, key, of_keys, 1.0)];
        for (to, columns, inverse_lengths, scale) in keys {
            let to = sized(to, rows.len() * shape.key_dim).chunks_exact_mut(shape.key_dim);
            for ((to, row), inverse) in to.zip(rows.clone().map(row)).zip(inverse_lengths) {
                *inverse = normalize(&row[columns.clone()], scale, to);
            }
        }
        let to = sized(&mut self.v, rows.len() * shape.value_dim).chunks_exact_mut(shape.value_dim);
        for (to, row) in to.zip(rows.clone().map(row)) {
            to.iter_mut().zip(&row[value.clone()]).for_each(|(to, from)| *to = from.widen());
        }
        let at = |numbers: &[f32], row: usize| numbers[row * shape.value_heads + head.index];
        self.beta.clear();
        self.beta.extend(rows.clone().map(|row| at(inputs.beta, row)));
        self.decay(rows.map(|row| at(inputs.decay, row)));
    }

    /// Computes the decays between tokens from each token's g.
    fn decay(&mut self, decays: impl Iterator<Item = f32>) {
        // In float64: what a difference of two long sums loses in float32 would change decays close to one.
        let mut sums = [0.0; CHUNK];
        let mut sum = 0.0;
        for (to, g) in sums.iter_mut().zip(decays) {
            sum += f64::from(g);
            *to = sum;
        }
        let (sums, len) = (&sums[..self.len], self.len);
        let decays = sized(&mut self.decays, len * len);
        let (from_start, to_end) = (sized(&mut self.from_start, len), sized(&mut self.to_end, len));
        dispatch(
            #[inline(always)]
            || {
                for (i, row) in decays.chunks_exact_mut(len).enumerate() {
                    let (before, after) = row.split_at_mut(i + 1);
                    before.iter_mut().zip(sums).for_each(|(d, &g)| *d = exp((sums[i] - g) as f32));
                    after.fill(0.0);
                }
                from_start.iter_mut().zip(sums).for_each(|(d, &g)| *d = exp(g as f32));
                to_end.iter_mut().zip(sums).for_each(|(d, &g)| *d = exp((sum - g) as f32));
            },
        );
    }

    /// Takes the state, [key_dim, value_dim], from the chunk's start to its end; writes the outputs if asked.
    pub(super) fn forward(&mut self, state: &mut [f32], out: Option<&mut [f32]>) {
        self.solve(state);
        if let Some(out) = out {
            self.read(state, out);
        }
        self.write(state);
    }

    /// Computes U.
    pub(super) fn solve(&mut self, state: &[f32]) {
        let (len, value_dim) = (self.len, self.value_dim);
        sized(&mut self.held, len * value_dim);
        sized(&mut self.likeness, len * len);
        let keys = by_width(&self.k, self.key_dim);
        multiply_here(&mut self.held, false, 1.0, keys, by_width(state, value_dim));
        multiply_here(&mut self.likeness, false, 1.0, keys, keys.transpose());
        let Self { v, beta, from_start, decays, held, likeness, lower, missing, u, .. } = self;
        let (lower, missing) = (sized(lower, len * len), sized(missing, len * value_dim));
        let u = sized(u, len * value_dim);
        dispatch(
            #[inline(always)]
            || {
                for i in 0..len {
                    let row = i * len..(i + 1) * len;
                    for (j, l) in lower[row.clone()].iter_mut().enumerate() {
                        let below = if j < i { decays[i * len + j] } else { 0.0 };
                        *l = beta[i] * below * likeness[i * len + j];
                    }
                    let row = i * value_dim..(i + 1) * value_dim;
                    let missing = &mut missing[row.clone()];
                    for ((missing, &v), &held) in missing.iter_mut().zip(&v[row.clone()]).zip(&held[row.clone()]) {
                        *missing = v - from_start[i] * held;
                    }
                    let (before, rest) = u.split_at_mut(row.start);
                    let own = &mut rest[..value_dim];
                    own.iter_mut().zip(&*missing).for_each(|(u, &missing)| *u = beta[i] * missing);
                    for (u, &l) in before.chunks_exact(value_dim).zip(&lower[i * len..]) {
                        own.iter_mut().zip(u).for_each(|(own, &u)| *own = l.mul_add(-u, *own));
                    }
                }
            },
        );
    }

    /// Computes D Q Kᵀ.
    pub(super) fn weigh(&mut self) {
        sized(&mut self.weights, self.len * self.len);
        let (queries, keys) = (by_width(&self.q, self.key_dim), by_width(&self.k, self.key_dim));
        multiply_here(&mut self.weights, false, 1.0, queries, keys.transpose());
        self.weights.iter_mut().zip(&self.decays).for_each(|(weight, decay)| *weight *= decay);
    }

    fn read(&mut self, state: &[f32], out: &mut [f32]) {
        self.weigh();
        multiply_here(out, false, 1.0, by_width(&self.q, self.key_dim), by_width(state, self.value_dim));
        for (row, &decay) in out.chunks_exact_mut(self.value_dim).zip(&self.from_start) {
            row.iter_mut().for_each(|x| *x *= decay);
        }
        multiply_here(out, true, 1.0, by_width(&self.weights, self.len), by_width(&self.u, self.value_dim));
    }

    /// Computes e^(G_C − G) K.
    pub(super) fn delay_keys(&mut self) {
        let late = sized(&mut self.late_keys, self.k.len()).chunks_exact_mut(self.key_dim);
        for ((late, key), &decay) in late.zip(self.k.chunks_exact(self.key_dim)).zip(&self.to_end) {
            late.iter_mut().zip(key).for_each(|(late, &k)| *late = decay * k);
        }
    }

    fn write(&mut self, state: &mut [f32]) {
        self.delay_keys();
        let whole = self.whole_decay();
        state.iter_mut().for_each(|x| *x *= whole);
        let late = by_width(&self.late_keys, self.key_dim);
        multiply_here(state, true, 1.0, late.transpose(), by_width(&self.u, self.value_dim));
    }

    /// e^(G_C).
    pub(super) fn whole_decay(&self) -> f32 {
        self.from_start.last().copied().unwrap_or(1.0)
    }
}

/// Writes a vector with its length divided out, times `scale`; returns the factor without `scale`.
fn normalize<T: Element>(from: &[T], scale: f32, to: &mut [f32]) -> f32 {
    dispatch(
        #[inline(always)]
        || {
            let inverse = 1.0 / (sum_map(from, |x| x.widen() * x.widen()) + LENGTH_EPS).sqrt();
            to.iter_mut().zip(from).for_each(|(to, from)| *to = from.widen() * (inverse * scale));
            inverse
        },
    )
}
