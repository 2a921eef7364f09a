//! Greedy and sampled generation with a key-value cache. A prompt is computed once for all its samples.

mod cache;

use std::ops::Range;
use std::time::Instant;

use burn::tensor::Tensor;
use burn::tensor::activation::{softmax, tanh};
use collimate_backend::{FusedOps, in_dtype, in_float32};
use collimate_sampling::{GenerateOptions, Guidance, MAX_SEQUENCES, Sampler, draw_key};
use collimate_text::{EncodedPrompt, GroupBatch};

use self::cache::Cache;
use crate::causal_lm::CausalLm;
use crate::engine::{Mixer, Projections, Rotations};
use crate::error::ModelError;
use crate::host::{floats, int_tensor};

/// The samples that are drawn together.
struct Chunk {
    /// Index of its first prompt among all prompts.
    first_prompt: usize,
    /// Which samples of each prompt.
    samples: Range<usize>,
}

/// One sequence being generated.
struct Sequence {
    /// Index in the chunk.
    prompt: usize,
    /// Index in the chunk.
    sample: usize,
    ids: Vec<u32>,
    finished: bool,
}

impl<B: FusedOps> CausalLm<B> {
    /// Generates `options.num_samples` continuations of each prompt, by prompt and sample.
    ///
    /// A continuation ends where `options.ends` says, with the tokens that say so, or after `max_new_tokens` tokens, or
    /// when the time is over. Draws depend only on the seed and on the indices of prompt and sample, not on the rest of
    /// the batch. `progress` is called with the number of prompts in each
    /// finished chunk.
    ///
    /// # Errors
    /// An image that cannot be loaded, a token outside the vocabulary, a sequence longer than rotary frequencies are defined for,
    /// or logits that are not finite.
    pub fn generate(
        &self,
        prompts: &[EncodedPrompt],
        options: &GenerateOptions,
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<Vec<Vec<u32>>>, ModelError> {
        if let Some(transformer) = &self.scales {
            return self.generate_pictures(transformer, prompts, options);
        }
        let per_chunk = options.prompts_at_once();
        let mut outputs = Vec::new();
        for (chunk, prompts) in prompts.chunks(per_chunk).enumerate() {
            let mut generated = vec![Vec::new(); prompts.len()];
            for first_sample in (0..options.num_samples).step_by(MAX_SEQUENCES) {
                let samples = first_sample..options.num_samples.min(first_sample + MAX_SEQUENCES);
                let part = self.generate_chunk(
                    prompts,
                    options,
                    Chunk { first_prompt: options.first_prompt + chunk * per_chunk, samples },
                )?;
                generated.iter_mut().zip(part).for_each(|(all, part)| all.extend(part));
            }
            progress(generated.len());
            outputs.extend(generated);
        }
        Ok(outputs)
    }

    fn generate_chunk(
        &self,
        prompts: &[EncodedPrompt],
        options: &GenerateOptions,
        chunk: Chunk,
    ) -> Result<Vec<Vec<Vec<u32>>>, ModelError> {
        let begun = Instant::now();
        let num_samples = chunk.samples.len();
        // Under guidance, a row of the null prompt for each row, after all of them.
        let null = |Guidance { null_prompt, .. }| vec![EncodedPrompt::from(vec![null_prompt]); prompts.len()];
        let null = options.guidance.map(null);
        let (num_prompts, copies) = (prompts.len(), if null.is_some() { 2 } else { 1 });
        let prompts: Vec<EncodedPrompt> = prompts.iter().cloned().chain(null.into_iter().flatten()).collect();
        let with_guidance = |logits: Tensor<B, 2>| match options.guidance {
            Some(guidance) => guidance.apply(floats(logits)),
            None => floats(logits),
        };
        let (logits, mut cache) = self.prefill(&prompts, num_samples, options)?;
        let mut active: Vec<Sequence> = (0..num_prompts)
            .flat_map(|prompt| (0..num_samples).map(move |sample| (prompt, sample)))
            .map(|(prompt, sample)| Sequence { prompt, sample, ids: Vec::new(), finished: false })
            .collect();
        let mut done = vec![vec![Vec::new(); num_samples]; num_prompts];
        let sampler = Sampler::new(options);
        // Prefill computes one row of logits per prompt, shared by its samples.
        let mut rows = with_guidance(logits);
        let deadline = options.time_limit.map(|limit| Instant::now() + limit.after(begun.elapsed()));
        let vocab = self.config.vocab_size;
        for step in 0..options.max_new_tokens {
            for (row, sequence) in active.iter_mut().enumerate() {
                let row = if step == 0 { sequence.prompt } else { row };
                let (number, response) = (chunk.first_prompt + sequence.prompt, chunk.samples.start + sequence.sample);
                let key = draw_key(options.seed, number, response, step);
                let prompt = number - options.first_prompt;
                let token = sampler.draw(&rows[row * vocab..(row + 1) * vocab], key);
                sequence.ids.push(token.ok_or(ModelError::LogitsNotFinite { prompt, response, token: step })?);
                sequence.finished = options.ends.is_reached(&sequence.ids);
            }
            if active.iter().any(|s| s.finished) {
                let all = active.len();
                let kept = (0..copies * all).filter(|&row| !active[row % all].finished).collect::<Vec<_>>();
                cache.keep(&kept, &self.device);
                let (finished, rest) = active.into_iter().partition(|s| s.finished);
                active = rest;
                store(finished, &mut done);
            }
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if active.is_empty() || step + 1 == options.max_new_tokens || is_late {
                break;
            }
            let last: Vec<u32> = active.iter().map(|s| s.ids[s.ids.len() - 1]).collect();
            rows = with_guidance(self.decode(&last.repeat(copies), &mut cache));
        }
        store(active, &mut done);
        Ok(done)
    }

    /// Runs the prompts: returns the logits of their next tokens, [B, V], and a cache with a row per sample.
    fn prefill(
        &self,
        prompts: &[EncodedPrompt],
        num_samples: usize,
        options: &GenerateOptions,
    ) -> Result<(Tensor<B, 2>, Cache<B>), ModelError> {
        let batch = GroupBatch::prompts(prompts);
        self.check(&batch)?;
        // The last generated token is never an input.
        let longest = prompts.iter().map(EncodedPrompt::len).max().unwrap_or(0);
        self.check_length(longest.saturating_add(options.max_new_tokens.saturating_sub(1)))?;
        let pack = self.pack(&batch);
        let engine = self.engine(true, None);
        let mut cache = Cache::new(prompts, num_samples, options.max_new_tokens);
        let (mut x, _) = self.with_images(engine.embed(pack.tokens.clone()), &batch, true, false)?;
        for layer in 0..self.config.num_hidden_layers {
            let (y, activations) = engine.block(layer, x, &pack);
            match activations.mixer {
                Mixer::Attention(attention) => {
                    let Projections { k, v, .. } = attention.projections;
                    cache.push_layer(&self.kv_heads(k), &self.kv_heads(v), &batch.spans);
                }
                Mixer::Delta(delta) => {
                    // Behind the prompts may be rows that fill up the pack.
                    cache.push_memory(engine.delta_memory(layer, &delta, &pack.segments[..prompts.len()]));
                }
            }
            x = y;
        }
        let last: Vec<u32> = batch.spans.iter().map(|span| span.end as u32 - 1).collect();
        let hidden = engine.final_norm(&x.select(0, int_tensor(&last, &self.device)));
        Ok((engine.logits(&hidden), cache))
    }

    /// Decodes one token for every active sequence: tokens, [S], to the logits of the next, [S, V].
    fn decode(&self, tokens: &[u32], cache: &mut Cache<B>) -> Tensor<B, 2> {
        cache.make_room();
        let engine = self.engine(true, None);
        let rotations = Rotations::<B>::new(&self.ropes, &cache.positions(), &self.device);
        let mut x = engine.embed(int_tensor(tokens, &self.device));
        for layer in 0..self.config.num_hidden_layers {
            let mixed = match cache.memory(layer) {
                Some(memory) => engine.delta_step(layer, &x, memory),
                None => {
                    let mut p = engine.projections(layer, &x, &rotations);
                    let (gate, mask) = (p.gate.take(), cache.mask(self.config.layer_windows[layer], &self.device));
                    engine.gated_output(gate.as_ref(), &self.attend_to_cache(layer, p, cache, mask))
                }
            };
            x = engine.after_attention(layer, &x, &mixed).0;
        }
        cache.advance();
        engine.logits(&engine.final_norm(&x))
    }

    /// Appends a token to a layer's cache and attends from it to its whole sequence, [S, H · head_dim].
    fn attend_to_cache(
        &self,
        layer: usize,
        p: Projections<B>,
        cache: &mut Cache<B>,
        mask: Tensor<B, 4>,
    ) -> Tensor<B, 2> {
        let (heads, kv_heads, dim) =
            (self.config.num_attention_heads, self.config.num_key_value_heads, self.config.head_dim);
        let count = p.q.dims()[0];
        let (k, v) = cache.append(layer, self.kv_heads(p.k).unsqueeze_dim(2), self.kv_heads(p.v).unsqueeze_dim(2));
        let q = p.q.reshape([count, kv_heads, heads / kv_heads, dim]);
        let scores = in_float32(q.matmul(k.swap_dims(2, 3))).mul_scalar(self.config.attention_scale);
        let scores = match self.config.attention_softcap {
            Some(cap) => tanh(scores.div_scalar(cap)).mul_scalar(cap),
            None => scores,
        };
        let scores = scores + mask;
        let weights = match self.index.adapted.layers[layer].sinks {
            None => softmax(scores, 3),
            Some(sinks) => {
                let [count, kv_heads, group, slots] = scores.dims();
                let sinks = self.params[sinks].clone().reshape([1, kv_heads, group, 1]);
                let sinks = sinks.expand([count, kv_heads, group, 1]);
                softmax(Tensor::cat(vec![scores, sinks], 3), 3).narrow(3, 0, slots)
            }
        };
        let mixed = in_dtype(weights, v.dtype()).matmul(v);
        mixed.reshape([count, heads * dim])
    }

    /// [N, H_kv · head_dim] to [N, H_kv, head_dim].
    fn kv_heads(&self, packed: Tensor<B, 2>) -> Tensor<B, 3> {
        let rows = packed.dims()[0];
        packed.reshape([rows, self.config.num_key_value_heads, self.config.head_dim])
    }
}

fn store(sequences: Vec<Sequence>, done: &mut [Vec<Vec<u32>>]) {
    for sequence in sequences {
        done[sequence.prompt][sequence.sample] = sequence.ids;
    }
}
