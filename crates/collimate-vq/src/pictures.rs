//! From a model's tokens to a picture.

use std::path::Path;

use collimate_hf::{CODEBOOK_FILE, HfError, HostTensor, ModelConfig, Scales};
use collimate_scales::Codebook;
use collimate_weights::read_config;

use crate::codebook::read_codebook;
use crate::decoder::Decoder;
use crate::file::{TensorFile, VqError};
use crate::image::Image;
use crate::map::Map;

/// The file of the quantizer beside a LlamaGen.
pub const PATCHES_FILE: &str = "vq.safetensors";
/// Its codebook, [V, C].
const ENTRIES: &str = "quantize.embedding.weight";
/// Shortest vector that is made one of length 1.
const SHORTEST: f32 = 1e-12;

/// Makes pictures of the tokens of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureDecoder {
    source: Source,
    num_tokens: usize,
    vocab_size: usize,
}

/// What tokens stand for.
#[derive(Debug, Clone, PartialEq)]
enum Source {
    /// Squares of gray pixels: a codebook without a decoder.
    Patches { entries: Vec<f32>, side: usize, patch: usize },
    /// Vectors at the places of one map (LlamaGen).
    Map { entries: Vec<f32>, width: usize, side: usize, decoder: Decoder },
    /// Vectors at the places of maps of growing sides, which add up to one (VAR).
    Scales { codebook: Codebook, sides: Vec<usize>, decoder: Decoder },
}

impl PictureDecoder {
    /// Whether a model's folder has what [`open`](Self::open) reads.
    pub fn is_in(folder: &Path) -> bool {
        let Ok(config) = read_config(folder) else { return false };
        match (&config.scales, config.grid) {
            (Some(_), _) => {
                let file = TensorFile::open(&folder.join(CODEBOOK_FILE), "");
                file.is_ok_and(|file| file.has_any("decoder."))
            }
            (None, Some(_)) => folder.join(PATCHES_FILE).is_file(),
            (None, None) => false,
        }
    }

    /// Reads the quantizer in a model's folder: `vq.safetensors` beside a LlamaGen, `vae.safetensors` beside a VAR.
    ///
    /// A LlamaGen's without `decoder.*` has entries that are squares of gray pixels themselves, from 0 to 1.
    ///
    /// # Errors
    /// The model is none of pictures, the file is missing, or a tensor of it is missing or has another shape than its layer.
    pub fn open(folder: &Path) -> Result<Self, VqError> {
        let config = read_config(folder)?;
        match (config.scales.clone(), config.grid) {
            (Some(scales), _) => Self::of_scales(folder, &config, &scales),
            (None, Some(side)) => Self::of_map(folder, &config, side),
            (None, None) => Err(VqError::NoPictures { path: folder.to_owned() }),
        }
    }

    fn of_scales(folder: &Path, config: &ModelConfig, scales: &Scales) -> Result<Self, VqError> {
        let remedy = "it has the decoder (the published file with decoder.* and post_quant_conv.*)";
        let file = TensorFile::open(&folder.join(CODEBOOK_FILE), remedy)?;
        let codebook = read_codebook(folder, config)?.ok_or_else(|| VqError::NoPictures { path: folder.to_owned() })?;
        let decoder = Decoder::read(&file, codebook.width)?;
        let source = Source::Scales { codebook, sides: scales.sides.clone(), decoder };
        Ok(Self { source, num_tokens: scales.num_tokens(), vocab_size: config.vocab_size })
    }

    fn of_map(folder: &Path, config: &ModelConfig, side: usize) -> Result<Self, VqError> {
        let path = folder.join(PATCHES_FILE);
        let file = TensorFile::open(&path, "it has codebook and decoder of the model's tokens")?;
        let HostTensor { shape, data: mut entries } = file.read(ENTRIES)?;
        let width = match shape.as_slice() {
            &[count, width] if count == config.vocab_size && width > 0 => width,
            _ => {
                let problem = format!("expected the shape [{}, width], found {shape:?}", config.vocab_size);
                return Err(file.wrong(ENTRIES, problem));
            }
        };
        let (num_tokens, vocab_size) = (side * side, config.vocab_size);
        if !file.has_any("decoder.") {
            let patch = width.isqrt();
            if patch * patch != width {
                let problem = format!("without a decoder, entries are squares of pixels, and {width} is no square");
                return Err(file.wrong(ENTRIES, problem));
            }
            return Ok(Self { source: Source::Patches { entries, side, patch }, num_tokens, vocab_size });
        }
        if has_unit_entries(folder, config)? {
            entries.chunks_exact_mut(width).for_each(to_unit);
        }
        let decoder = Decoder::read(&file, width)?;
        Ok(Self { source: Source::Map { entries, width, side, decoder }, num_tokens, vocab_size })
    }

    /// Tokens of a picture.
    pub fn num_tokens(&self) -> usize {
        self.num_tokens
    }

    /// Pixels in a line of a picture.
    pub fn side(&self) -> usize {
        match &self.source {
            Source::Patches { side, patch, .. } => side * patch,
            Source::Map { side, decoder, .. } => side * decoder.zoom(),
            Source::Scales { sides, decoder, .. } => sides.last().map_or(0, |side| side * decoder.zoom()),
        }
    }

    /// The picture of some tokens.
    ///
    /// # Errors
    /// They are not as many as a picture has, or one is not in the codebook.
    pub fn picture(&self, tokens: &[u32]) -> Result<Image, VqError> {
        let (numbers, channels, range) = self.numbers(tokens)?;
        Ok(Image::of_numbers(&numbers, channels, range))
    }

    /// Red, green and blue of each pixel, [side, side, 3], or its brightness, as the decoder gives them: their number, and
    /// the numbers of black and white.
    pub(crate) fn numbers(&self, tokens: &[u32]) -> Result<(Vec<f32>, usize, [f32; 2]), VqError> {
        self.check(tokens)?;
        let in_color = |map: Map| (map.data, 3, [-1.0, 1.0]);
        Ok(match &self.source {
            Source::Patches { entries, side, patch } => (patches(entries, tokens, *side, *patch), 1, [0.0, 1.0]),
            Source::Map { entries, width, side, decoder } => {
                let entry = |token: &u32| &entries[*token as usize * width..(*token as usize + 1) * width];
                let data = tokens.iter().flat_map(entry).copied().collect();
                in_color(decoder.colors(&Map { data, side: *side, channels: *width }))
            }
            Source::Scales { codebook, sides, decoder } => {
                let data = codebook.sum_of_maps(sides, tokens);
                let side = sides.last().copied().unwrap_or(1);
                in_color(decoder.colors(&Map { data, side, channels: codebook.width }))
            }
        })
    }

    fn check(&self, tokens: &[u32]) -> Result<(), VqError> {
        let (expected, last) = (self.num_tokens, self.vocab_size.saturating_sub(1));
        let wrong = |found: String| Err(VqError::Tokens { expected, last, found });
        match tokens.iter().find(|token| **token as usize > last) {
            _ if tokens.len() != expected => wrong(format!("{} tokens", tokens.len())),
            Some(token) => wrong(token.to_string()),
            None => Ok(()),
        }
    }
}

/// Whether entries count by their direction alone: `codebook_l2_norm` of the published quantizer, which is on.
fn has_unit_entries(folder: &Path, config: &ModelConfig) -> Result<bool, HfError> {
    match config.raw.get("codebook_l2_norm") {
        None | Some(serde_json::Value::Null) => Ok(true),
        Some(serde_json::Value::Bool(flag)) => Ok(*flag),
        Some(found) => Err(HfError::Field {
            path: folder.join("config.json"),
            field: "codebook_l2_norm".to_owned(),
            expected: "true or false".to_owned(),
            found: found.to_string(),
        }),
    }
}

fn to_unit(entry: &mut [f32]) {
    let length = entry.iter().map(|x| x * x).sum::<f32>().sqrt().max(SHORTEST);
    entry.iter_mut().for_each(|x| *x /= length);
}

/// The brightness of each pixel of a picture whose entries are squares of pixels.
fn patches(entries: &[f32], tokens: &[u32], side: usize, patch: usize) -> Vec<f32> {
    let (size, line) = (patch * patch, side * patch);
    let pixel = |place: usize| {
        let (y, x) = (place / line, place % line);
        let token = tokens[y / patch * side + x / patch] as usize;
        entries[token * size + y % patch * patch + x % patch]
    };
    (0..line * line).map(pixel).collect()
}

#[cfg(test)]
mod tests;
