//! Models of pictures as token maps in several scales.

/// The file of the codebook, in the model's folder.
pub const CODEBOOK_FILE: &str = "vae.safetensors";

/// Sizes and options of a model of token maps in several scales (VAR), and of the codebook beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Scales {
    /// Sides of the maps, the last one that of the picture.
    pub sides: Vec<usize>,
    /// Width of an entry of the codebook.
    pub codebook_width: usize,
    /// Convolutions that scales share.
    pub smoothings: usize,
    /// Share of the smoothed map in its sum with the map itself.
    pub residual: f64,
    /// Whether all blocks share one layer that makes shifts and scales of a condition.
    pub shares_modulation: bool,
    /// Whether queries and keys have length 1.
    pub normalizes_attention: bool,
}

impl Scales {
    /// Tokens of a picture.
    pub fn num_tokens(&self) -> usize {
        self.sides.iter().map(|side| side * side).sum()
    }
}
