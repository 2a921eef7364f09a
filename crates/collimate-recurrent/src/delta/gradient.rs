//! The backward pass of a chunk of one head's tokens; the letters are those of `chunk.rs`.

use super::chunk::{Chunk, by_width, sized};
use collimate_kernels::multiply_here;
use collimate_kernels::simd::{dispatch, sum_zip};

/// Buffers of a chunk's backward pass, and the gradients of its inputs.
#[derive(Default)]
pub(super) struct Gradient {
    /// [C, key_dim].
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    /// [C, value_dim].
    pub(super) v: Vec<f32>,
    /// Of β and of g, \[C\].
    pub(super) beta: Vec<f32>,
    pub(super) decay: Vec<f32>,
    /// Of U, then of `β (V − e^G K S)`, [C, value_dim].
    u: Vec<f32>,
    /// Of D Q Kᵀ, then of Q Kᵀ, [C, C].
    weights: Vec<f32>,
    /// Of L, then of K Kᵀ, [C, C].
    lower: Vec<f32>,
    /// Q S, [C, value_dim].
    read: Vec<f32>,
    /// Of Q S and of K S, [C, value_dim].
    d_read: Vec<f32>,
    d_held: Vec<f32>,
    /// Of e^(G_C − G) K, [C, key_dim].
    late_keys: Vec<f32>,
    slopes: Slopes,
}

/// The gradient of the logarithms of decays, by which of their sums it goes through.
///
/// Each sum is kept apart: added to the sums from the start, what belongs to two tokens would come and go in every token's.
#[derive(Default)]
struct Slopes {
    /// From token j to token i, [C, C].
    pairs: Vec<f32>,
    /// From the chunk's start to a token, and from a token to the chunk's end, \[C\].
    from_start: Vec<f32>,
    to_end: Vec<f32>,
    /// From its start to its end.
    whole: f32,
}

impl Gradient {
    /// Computes the gradients of a loaded chunk's inputs from that of its outputs, [C, value_dim], and takes that of the
    /// state, [key_dim, value_dim], from the chunk's end to its start. `state` is the state at its start.
    pub(super) fn backward(&mut self, chunk: &mut Chunk, state: &[f32], d_state: &mut [f32], d_out: &[f32]) {
        chunk.solve(state);
        chunk.weigh();
        chunk.delay_keys();
        self.beta.clear();
        self.beta.resize(chunk.len, 0.0);
        self.slopes.clear(chunk.len);
        self.of_state_at_end(chunk, state, d_state);
        self.of_outputs(chunk, state, d_state, d_out);
        self.of_solution(chunk);
        self.of_missing(chunk, state, d_state);
        self.slopes.by_token(sized(&mut self.decay, chunk.len));
        self.of_lengths(chunk);
    }

    /// Through `e^(G_C) S + (e^(G_C − G) K)ᵀ U`: begins the gradients of U and K.
    fn of_state_at_end(&mut self, chunk: &Chunk, state: &[f32], d_state: &[f32]) {
        let (len, key_dim, value_dim) = (chunk.len, chunk.key_dim, chunk.value_dim);
        let d_end = by_width(d_state, value_dim);
        let late = by_width(&chunk.late_keys, key_dim);
        multiply_here(sized(&mut self.u, len * value_dim), false, 1.0, late, d_end);
        let d_late = sized(&mut self.late_keys, len * key_dim);
        multiply_here(d_late, false, 1.0, by_width(&chunk.u, value_dim), d_end.transpose());
        sized(&mut self.k, len * key_dim);
        let Self { k, slopes, late_keys, .. } = self;
        dispatch(
            #[inline(always)]
            || {
                slopes.whole = chunk.whole_decay() * sum_zip(state, d_state, |s, d| s * d);
                for i in 0..len {
                    let row = i * key_dim..(i + 1) * key_dim;
                    let d_late = &late_keys[row.clone()];
                    slopes.to_end[i] = sum_zip(d_late, &chunk.late_keys[row.clone()], |d, k| d * k);
                    for (k, &d) in k[row].iter_mut().zip(d_late) {
                        *k = chunk.to_end[i] * d;
                    }
                }
            },
        );
    }

    /// Through `e^G Q S + (D Q Kᵀ) U`.
    fn of_outputs(&mut self, chunk: &Chunk, state: &[f32], d_state: &mut [f32], d_out: &[f32]) {
        let (len, key_dim, value_dim) = (chunk.len, chunk.key_dim, chunk.value_dim);
        let (queries, keys) = (by_width(&chunk.q, key_dim), by_width(&chunk.k, key_dim));
        let d_outputs = by_width(d_out, value_dim);
        multiply_here(&mut self.u, true, 1.0, by_width(&chunk.weights, len).transpose(), d_outputs);
        let d_weights = sized(&mut self.weights, len * len);
        multiply_here(d_weights, false, 1.0, d_outputs, by_width(&chunk.u, value_dim).transpose());
        self.slopes.through_decays(&mut self.weights, &chunk.weights, &chunk.decays);
        let d_products = by_width(&self.weights, len);
        multiply_here(sized(&mut self.q, len * key_dim), false, 1.0, d_products, keys);
        multiply_here(&mut self.k, true, 1.0, d_products.transpose(), queries);

        multiply_here(sized(&mut self.read, len * value_dim), false, 1.0, queries, by_width(state, value_dim));
        let d_read = sized(&mut self.d_read, len * value_dim);
        for (i, (d_read, d_out)) in d_read.chunks_exact_mut(value_dim).zip(d_out.chunks_exact(value_dim)).enumerate() {
            d_read.iter_mut().zip(d_out).for_each(|(d_read, &d)| *d_read = chunk.from_start[i] * d);
            self.slopes.from_start[i] += dot(d_read, &self.read[i * value_dim..(i + 1) * value_dim]);
        }
        let d_read = by_width(&self.d_read, value_dim);
        multiply_here(&mut self.q, true, 1.0, d_read, by_width(state, value_dim).transpose());
        let whole = chunk.whole_decay();
        d_state.iter_mut().for_each(|d| *d *= whole);
        multiply_here(d_state, true, 1.0, queries.transpose(), d_read);
    }

    /// Through `(I + L) U = β (V − e^G K S)` and `L = β D (K Kᵀ)`.
    fn of_solution(&mut self, chunk: &Chunk) {
        let (len, value_dim, keys) = (chunk.len, chunk.value_dim, by_width(&chunk.k, chunk.key_dim));
        let u = &mut self.u;
        dispatch(
            #[inline(always)]
            || {
                for i in (1..len).rev() {
                    let (before, own) = u.split_at_mut(i * value_dim);
                    for (u, &l) in before.chunks_exact_mut(value_dim).zip(&chunk.lower[i * len..]) {
                        u.iter_mut().zip(&own[..value_dim]).for_each(|(u, &own)| *u = l.mul_add(-own, *u));
                    }
                }
            },
        );
        let d_lower = sized(&mut self.lower, len * len);
        multiply_here(d_lower, false, -1.0, by_width(&self.u, value_dim), by_width(&chunk.u, value_dim).transpose());
        for i in 0..len {
            let row = i * len..(i + 1) * len;
            let factors = chunk.decays[row.clone()].iter().zip(&chunk.likeness[row.clone()]);
            let below = self.lower[row].iter().zip(factors).take(i);
            self.beta[i] += below.map(|(d, (decay, likeness))| d * decay * likeness).sum::<f32>();
        }
        self.slopes.through_decays(&mut self.lower, &chunk.lower, &chunk.decays);
        for (i, row) in self.lower.chunks_exact_mut(len).enumerate() {
            let (below, rest) = row.split_at_mut(i);
            below.iter_mut().for_each(|d| *d *= chunk.beta[i]);
            rest.fill(0.0);
        }
        let d_likeness = by_width(&self.lower, len);
        multiply_here(&mut self.k, true, 1.0, d_likeness, keys);
        multiply_here(&mut self.k, true, 1.0, d_likeness.transpose(), keys);
    }

    /// Through `β (V − e^G K S)`.
    fn of_missing(&mut self, chunk: &Chunk, state: &[f32], d_state: &mut [f32]) {
        let (len, value_dim, keys) = (chunk.len, chunk.value_dim, by_width(&chunk.k, chunk.key_dim));
        sized(&mut self.v, len * value_dim);
        sized(&mut self.d_held, len * value_dim);
        for i in 0..len {
            let row = i * value_dim..(i + 1) * value_dim;
            let (d, v, d_held) = (&self.u[row.clone()], &mut self.v[row.clone()], &mut self.d_held[row.clone()]);
            self.beta[i] += dot(d, &chunk.missing[row.clone()]);
            let (beta, decay) = (chunk.beta[i], chunk.from_start[i]);
            for ((v, d_held), &d) in v.iter_mut().zip(&mut *d_held).zip(d) {
                *v = beta * d;
                *d_held = -decay * *v;
            }
            self.slopes.from_start[i] += dot(d_held, &chunk.held[row]);
        }
        let d_held = by_width(&self.d_held, value_dim);
        multiply_here(&mut self.k, true, 1.0, d_held, by_width(state, value_dim).transpose());
        multiply_here(d_state, true, 1.0, keys.transpose(), d_held);
    }

    /// From the queries and keys of fixed length to those that were read.
    fn of_lengths(&mut self, chunk: &Chunk) {
        let dim = chunk.key_dim;
        let scale = 1.0 / (dim as f32).sqrt();
        let (of_queries, of_keys) = chunk.inverse_lengths.split_at(chunk.len);
        for (d, x, inverse_lengths, scale) in
            [(&mut self.q, &chunk.q, of_queries, scale), (&mut self.k, &chunk.k, of_keys, 1.0)]
        {
            for ((d, x), inverse) in d.chunks_exact_mut(dim).zip(x.chunks_exact(dim)).zip(inverse_lengths) {
                // x = scale · unit vector, so the part of the gradient along the vector goes.
                let along = dot(d, x) / (scale * scale);
                d.iter_mut().zip(x).for_each(|(d, &x)| *d = inverse * scale * (*d - along * x));
            }
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    dispatch(
        #[inline(always)]
        || sum_zip(a, b, |a, b| a * b),
    )
}

impl Slopes {
    fn clear(&mut self, len: usize) {
        for (list, len) in [(&mut self.pairs, len * len), (&mut self.from_start, len), (&mut self.to_end, len)] {
            list.clear();
            list.resize(len, 0.0);
        }
    }

    /// Turns the gradient of `value = D · product`, [C, C], into that of the product.
    fn through_decays(&mut self, d: &mut [f32], value: &[f32], decays: &[f32]) {
        dispatch(
            #[inline(always)]
            || {
                let factors = value.iter().zip(decays);
                for ((d, (value, decay)), pair) in d.iter_mut().zip(factors).zip(&mut self.pairs) {
                    *pair += *d * value;
                    *d *= decay;
                }
            },
        );
    }

    /// The gradient of each token's g: of every sum that it is in.
    fn by_token(&self, decay: &mut [f32]) {
        let len = decay.len();
        let mut sum = self.whole;
        for (decay, slope) in decay.iter_mut().zip(&self.to_end) {
            *decay = sum;
            sum += slope;
        }
        let mut sum = 0.0;
        for (decay, slope) in decay.iter_mut().zip(&self.from_start).rev() {
            sum += slope;
            *decay += sum;
        }
        for (i, row) in self.pairs.chunks_exact(len).enumerate() {
            let mut sum = 0.0;
            for (decay, slope) in decay[1..].iter_mut().zip(&row[..i]) {
                sum += slope;
                *decay += sum;
            }
        }
    }
}
