//! A prompt as a model reads it.

use crate::{PlacedImage, axes_of_prompt};

/// A prompt as token ids, with its images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EncodedPrompt {
    /// Token ids, \[P\].
    pub ids: Vec<u32>,
    /// The images of the prompt, in order.
    pub images: Vec<PlacedImage>,
}

impl EncodedPrompt {
    /// Tokens, P.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The position at which what follows goes on.
    pub fn next_position(&self) -> u32 {
        axes_of_prompt(self.ids.len(), &self.images).1
    }
}

impl From<Vec<u32>> for EncodedPrompt {
    fn from(ids: Vec<u32>) -> Self {
        Self { ids, images: Vec::new() }
    }
}
