//! Sampling of a token from logits.
//!
//! [`GenerateOptions`] says how, [`Sampler`] draws, and [`draw_key`] makes each draw independent of all others. The crate must not
//! know models or tensors.

use std::time::Duration;

use collimate_text::TurnEnds;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Maximum number of sequences decoded together.
pub const MAX_SEQUENCES: usize = 256;
/// Most samples of a prompt; they are in memory together.
const MAX_SAMPLES: usize = 1 << 16;
/// Most tokens that a prompt's samples may have together, the longest allowed for each.
const MAX_SAMPLED_TOKENS: usize = 1 << 24;

/// How to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Maximum tokens per sample.
    pub max_new_tokens: usize,
    /// Samples per prompt.
    pub num_samples: usize,
    /// Divides the logits; 0 is greedy decoding.
    pub temperature: f64,
    /// Nucleus sampling: keeps the smallest set of most likely tokens with at least this total probability; 1 keeps all.
    pub top_p: f64,
    /// Keeps this many of the most likely tokens; `None` keeps all.
    pub top_k: Option<usize>,
    /// Random seed.
    pub seed: u64,
    /// What the draws of the first prompt count as: prompts that are given in parts are drawn for as if they came together.
    pub first_prompt: usize,
    /// What ends a sample.
    pub ends: TurnEnds,
    /// Guidance, for a model with conditions; `None` for none.
    pub guidance: Option<Guidance>,
    /// Longest time that decoding may take; samples that are not complete by then are cut. `None` for no limit.
    pub time_limit: Option<TimeLimit>,
}

/// Classifier-free guidance: every token is drawn from the logits under the null prompt plus `scale` times what the prompt
/// itself adds to them. Each sequence is computed twice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance {
    /// 1 is the same as no guidance; more follows the prompt more closely.
    pub scale: f64,
    /// The token of the null prompt.
    pub null_prompt: u32,
}

impl Guidance {
    /// Guided logits [S, V] from those of the prompts, [S, V], followed by those of the null prompt, [S, V].
    pub fn apply(&self, mut logits: Vec<f32>) -> Vec<f32> {
        let half = logits.len() / 2;
        let scale = self.scale as f32;
        let (own, null) = logits.split_at_mut(half);
        own.iter_mut().zip(null).for_each(|(own, null)| *own = *null + scale * (*own - *null));
        logits.truncate(half);
        logits
    }
}

/// A limit on the time that decoding takes once the prompts are computed, for up to 256 sequences at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeLimit {
    /// Time that is granted in any case.
    pub at_least: Duration,
    /// As many times the time that computing the prompts took are granted.
    pub times_prompts: f64,
}

impl TimeLimit {
    /// The time for decoding after prompts that took this long.
    pub fn after(&self, prompts: Duration) -> Duration {
        // A day is no limit, and longer times might overflow.
        let relative = (prompts.as_secs_f64() * self.times_prompts).clamp(0.0, 86_400.0);
        self.at_least.max(Duration::from_secs_f64(relative))
    }
}

impl Default for GenerateOptions {
    /// One greedy sample of at most 256 tokens.
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            num_samples: 1,
            temperature: 0.0,
            top_p: 1.0,
            top_k: None,
            seed: 0,
            first_prompt: 0,
            ends: TurnEnds::default(),
            guidance: None,
            time_limit: None,
        }
    }
}

impl GenerateOptions {
    /// How many prompts are decoded together.
    pub fn prompts_at_once(&self) -> usize {
        let most = MAX_SEQUENCES / if self.guidance.is_some() { 2 } else { 1 };
        (most / self.num_samples.max(1)).max(1)
    }

    /// Why a prompt's samples may take more memory than they should, if they may.
    pub fn excess(&self) -> Option<String> {
        let Self { num_samples, max_new_tokens, .. } = self;
        if *num_samples > MAX_SAMPLES {
            return Some(format!(
                "{num_samples} responses to a prompt are more than {MAX_SAMPLES}, the most that are drawn"
            ));
        }
        let tokens = num_samples.saturating_mul(*max_new_tokens);
        let what = || {
            format!(
                "{num_samples} × {max_new_tokens} tokens are to be drawn for a prompt, {tokens} in all: at most \
                 {MAX_SAMPLED_TOKENS} are"
            )
        };
        (tokens > MAX_SAMPLED_TOKENS).then(what)
    }
}

/// The key of one draw, from seed, prompt, sample and step, so that no draw depends on another.
pub fn draw_key(seed: u64, prompt: usize, sample: usize, step: usize) -> [u8; 32] {
    let mut key = [0u8; 32];
    let words = [seed, prompt as u64, sample as u64, step as u64];
    for (chunk, word) in key.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    key
}

/// Draws tokens from logits.
#[derive(Debug, Clone)]
pub struct Sampler {
    temperature: f64,
    top_p: f64,
    top_k: Option<usize>,
}

impl Sampler {
    /// As these options say.
    pub fn new(options: &GenerateOptions) -> Self {
        Self { temperature: options.temperature, top_p: options.top_p, top_k: options.top_k }
    }

    /// Draws a token from logits \[V\]; `None` if they are not finite. A token whose logit is −∞ is never drawn.
    pub fn draw(&self, logits: &[f32], key: [u8; 32]) -> Option<u32> {
        let best = argmax(logits)?;
        if self.temperature <= 0.0 {
            return Some(best as u32);
        }
        let highest = f64::from(logits[best]);
        let weight = |&logit: &f32| ((f64::from(logit) - highest) / self.temperature).exp();
        let mut candidates: Vec<(usize, f64)> = logits.iter().map(weight).enumerate().collect();
        if self.top_k.is_some() || self.top_p < 1.0 {
            self.truncate(&mut candidates);
        }
        let total: f64 = candidates.iter().map(|(_, w)| w).sum();
        let mut left = ChaCha8Rng::from_seed(key).random::<f64>() * total;
        for &(token, weight) in &candidates {
            left -= weight;
            if left < 0.0 {
                return Some(token as u32);
            }
        }
        Some(best as u32)
    }

    /// Keeps the `top_k` most likely tokens, then the fewest of them whose total probability reaches `top_p`.
    fn truncate(&self, candidates: &mut Vec<(usize, f64)>) {
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if let Some(k) = self.top_k {
            candidates.truncate(k.max(1));
        }
        let total: f64 = candidates.iter().map(|(_, w)| w).sum();
        let mut sum = 0.0;
        let reach = candidates.iter().position(|(_, w)| {
            sum += w;
            sum >= self.top_p * total
        });
        candidates.truncate(reach.map_or(candidates.len(), |last| last + 1));
    }
}

/// Index of the first of the highest logits; `None` if one is not a number or is +∞, or all are −∞.
fn argmax(logits: &[f32]) -> Option<usize> {
    let (mut best, mut highest) = (None, f32::NEG_INFINITY);
    for (i, &logit) in logits.iter().enumerate() {
        if logit.is_nan() || logit == f32::INFINITY {
            return None;
        }
        if logit > highest {
            (best, highest) = (Some(i), logit);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(sampler: &Sampler, logits: &[f32], token: u32) -> f64 {
        let draws = 20_000;
        let hits = (0..draws).filter(|&i| sampler.draw(logits, draw_key(7, i, 0, 0)) == Some(token)).count();
        hits as f64 / draws as f64
    }

    #[test]
    fn counts_beyond_memory_are_named() {
        let excess = |num_samples, max_new_tokens| {
            GenerateOptions { num_samples, max_new_tokens, ..GenerateOptions::default() }.excess()
        };
        assert_eq!(excess(1 << 16, 256), None);
        assert_eq!(excess(1, 1 << 24), None);
        assert!(excess(10_000_000, 1).is_some_and(|what| what.contains("more than 65536")));
        assert!(
            excess(1, 1_000_000_000)
                .is_some_and(|what| what.contains("1 × 1000000000 tokens are to be drawn for a prompt"))
        );
        assert!(excess(1 << 16, usize::MAX).is_some());
    }

    #[test]
    fn guidance_goes_on_from_the_null_prompt_through_the_prompt() {
        let guided = |scale| Guidance { scale, null_prompt: 9 }.apply(vec![1.0, 5.0, 2.0, 3.0]);
        assert_eq!(guided(1.0), [1.0, 5.0]);
        assert_eq!(guided(0.0), [2.0, 3.0]);
        assert_eq!(guided(3.0), [2.0 + 3.0 * (1.0 - 2.0), 3.0 + 3.0 * (5.0 - 3.0)]);
    }

    #[test]
    fn time_grows_with_that_of_the_prompts() {
        let limit = TimeLimit { at_least: Duration::from_secs(1), times_prompts: 4.0 };
        assert_eq!(limit.after(Duration::from_millis(200)), Duration::from_secs(1));
        assert_eq!(limit.after(Duration::from_millis(500)), Duration::from_secs(2));
        let endless = TimeLimit { times_prompts: f64::INFINITY, ..limit };
        assert_eq!(endless.after(Duration::from_secs(1)), Duration::from_secs(86_400));
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_most_likely() {
        let sampler = Sampler { temperature: 0.0, top_p: 1.0, top_k: None };
        assert_eq!(sampler.draw(&[0.0, 3.0, 3.0, -1.0], draw_key(0, 0, 0, 0)), Some(1));
    }

    /// Greedy decoding once drew token 0 for ever.
    #[test]
    fn nothing_is_drawn_from_logits_that_are_not_finite() {
        for temperature in [0.0, 1.0] {
            let sampler = Sampler { temperature, top_p: 0.9, top_k: Some(2) };
            let draw = |logits: [f32; 3]| sampler.draw(&logits, draw_key(0, 0, 0, 0));
            for broken in [f32::NAN, f32::INFINITY] {
                assert_eq!(draw([0.0, broken, 1.0]), None);
                assert_eq!(draw([0.0, 1.0, broken]), None);
            }
            assert_eq!(draw([f32::NEG_INFINITY; 3]), None);
            assert_eq!(draw([f32::NEG_INFINITY, 0.5, f32::NEG_INFINITY]), Some(1));
        }
    }

    #[test]
    fn draws_follow_the_softmax_at_the_temperature() {
        let sampler = Sampler { temperature: 2.0, top_p: 1.0, top_k: None };
        // Odds e^{2/2} : 1 between the two tokens.
        let expected = 1f64.exp() / (1f64.exp() + 1.0);
        let found = share(&sampler, &[2.0, 0.0], 0);
        assert!((found - expected).abs() < 5.0 * (0.25f64 / 20_000.0).sqrt(), "{found} against {expected}");
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits = [3f32.ln(), 2f32.ln(), 1f32.ln(), -40.0];
        let top_k = Sampler { temperature: 1.0, top_p: 1.0, top_k: Some(2) };
        assert_eq!(share(&top_k, &logits, 2), 0.0);
        assert!((share(&top_k, &logits, 0) - 3.0 / 5.0).abs() < 0.02);
        let top_p = Sampler { temperature: 1.0, top_p: 0.5, top_k: None };
        assert_eq!(share(&top_p, &logits, 0), 1.0);
        let wider = Sampler { temperature: 1.0, top_p: 0.51, top_k: None };
        assert!((share(&wider, &logits, 1) - 2.0 / 5.0).abs() < 0.02);
    }
}
