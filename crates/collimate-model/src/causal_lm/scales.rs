//! Passes of a model of token maps in several scales, whose parameters are held like a decoder's.

use collimate_backend::{FusedOps, plain};
use collimate_hf::Scales;
use collimate_sampling::{GenerateOptions, Sampler, draw_key};
use collimate_scales::{Codebook, Pictures, Sizes, Transformer};
use collimate_text::{EncodedPrompt, GroupBatch};

use super::CausalLm;
use super::passes::TokenLogps;
use crate::dropout::Dropout;
use crate::error::ModelError;

impl<B: FusedOps> CausalLm<B> {
    /// Gives a model of token maps its codebook, without which it computes nothing.
    pub fn set_codebook(&mut self, codebook: Codebook) {
        let Some(Scales { sides, shares_modulation, normalizes_attention, .. }) = self.config.scales.clone() else {
            return;
        };
        let sizes = Sizes {
            sides,
            depth: self.config.num_hidden_layers,
            width: self.config.hidden_size,
            heads: self.config.num_attention_heads,
            vocab_size: self.config.vocab_size,
            norm_eps: self.config.rms_norm_eps,
            shares_modulation,
            normalizes_attention,
        };
        self.scales = Some(Transformer { sizes, codebook });
    }

    /// Log-probs of a pack's pictures, one after the other: pictures of a pack need not be in memory together.
    pub(super) fn score_pictures(
        &self,
        transformer: &Transformer,
        batch: &GroupBatch,
        dropout: Option<&Dropout>,
    ) -> Result<TokenLogps, ModelError> {
        let names = self.names();
        let score = |group: Vec<Pictures>| {
            let one = |picture: &Pictures| transformer.logps(&names, &self.params, picture, &self.device).concat();
            group.iter().map(one).collect()
        };
        Ok(self.pictures(transformer, batch, dropout)?.into_iter().map(score).collect())
    }

    /// Adds the gradient of `Σ c · logp` over a pack's pictures to those that the model holds.
    pub(super) fn add_picture_gradients(
        &mut self,
        transformer: &Transformer,
        batch: &GroupBatch,
        dropout: Option<&Dropout>,
        coefficients: &[Vec<f64>],
    ) -> Result<(), ModelError> {
        let pictures = self.pictures(transformer, batch, dropout)?;
        for (picture, coefficient) in pictures.iter().flatten().zip(coefficients.iter().flatten()) {
            let (_, found) = transformer.gradients(&self.names(), &self.params, picture, &[*coefficient], &self.device);
            for (id, gradient) in found.into_iter().enumerate().filter(|(id, _)| self.trainable[*id]) {
                plain::accumulate(&mut self.gradients[id], gradient);
            }
        }
        Ok(())
    }

    /// Draws pictures scale by scale, each scale with all of its places at once. Every scale is a whole pass.
    pub(crate) fn generate_pictures(
        &self,
        transformer: &Transformer,
        prompts: &[EncodedPrompt],
        options: &GenerateOptions,
    ) -> Result<Vec<Vec<Vec<u32>>>, ModelError> {
        let (names, vocab_size) = (self.names(), self.config.vocab_size as u32);
        let condition_of = |prompt: &EncodedPrompt| match prompt.ids.as_slice() {
            &[token] if token >= vocab_size => Ok(token - vocab_size),
            _ => {
                Err(ModelError::NoPicture { prompt: prompt.len(), tokens: 0, expected: transformer.sizes.num_tokens() })
            }
        };
        let sampler = Sampler::new(options);
        let draw = |(number, prompt): (usize, &EncodedPrompt)| {
            let condition = condition_of(prompt)?;
            let logits = |condition: u32, tokens: &[u32]| {
                let picture = Pictures { conditions: vec![condition], tokens: tokens.to_vec(), paths: Vec::new() };
                transformer.logits(&names, &self.params, &picture, &self.device)
            };
            let sample = |response: usize| {
                let mut tokens = vec![0; transformer.sizes.num_tokens()];
                let mut start = 0;
                for side in &transformer.sizes.sides {
                    let mut rows = logits(condition, &tokens);
                    if let Some(guidance) = options.guidance {
                        rows.extend(logits(guidance.null_prompt - vocab_size, &tokens));
                        rows = guidance.apply(rows);
                    }
                    let rows: Vec<&[f32]> = rows.chunks(vocab_size as usize).collect();
                    for place in start..start + side * side {
                        let key = draw_key(options.seed, options.first_prompt + number, response, place);
                        let token = sampler.draw(rows[place], key);
                        let broken = ModelError::LogitsNotFinite { prompt: number, response, token: place };
                        tokens[place] = token.ok_or(broken)?;
                    }
                    start += side * side;
                }
                Ok(tokens)
            };
            (0..options.num_samples).map(sample).collect::<Result<Vec<_>, ModelError>>()
        };
        prompts.iter().enumerate().map(draw).collect()
    }

    fn names(&self) -> Vec<&str> {
        self.index.infos.iter().map(|info| info.name.as_str()).collect()
    }

    /// The pictures of a pack, each with its condition, by group.
    fn pictures(
        &self,
        transformer: &Transformer,
        batch: &GroupBatch,
        dropout: Option<&Dropout>,
    ) -> Result<Vec<Vec<Pictures>>, ModelError> {
        self.check(batch)?;
        let expected = transformer.sizes.num_tokens();
        let vocab_size = self.config.vocab_size;
        let (num_blocks, mut position) = (self.config.num_hidden_layers, 0);
        let mut picture = |response: &collimate_text::ResponseSpan| {
            let paths = dropout.map_or_else(Vec::new, |dropout| dropout.paths(position, num_blocks));
            position += 1;
            let (prompt, tokens) = (&batch.tokens[response.prompt.clone()], &batch.tokens[response.tokens.clone()]);
            match prompt {
                &[condition] if condition as usize >= vocab_size && tokens.len() == expected => {
                    Ok(Pictures { conditions: vec![condition - vocab_size as u32], tokens: tokens.to_vec(), paths })
                }
                _ => Err(ModelError::NoPicture { prompt: prompt.len(), tokens: tokens.len(), expected }),
            }
        };
        batch.groups.iter().map(|group| group.iter().map(&mut picture).collect()).collect()
    }
}
