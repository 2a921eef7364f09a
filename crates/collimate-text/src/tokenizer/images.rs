//! How a model's images become tokens.

use std::path::Path;

use collimate_images::ImageSettings;
use collimate_towers::TowerFamily;
use tokenizers::Tokenizer;

use super::TextTokenizer;
use crate::TextError;
use crate::model_files::read_json;

/// The token that stands for a part of an image, and how large images are.
#[derive(Debug, Clone)]
pub(crate) struct ImageTokens {
    settings: ImageSettings,
    token: u32,
    text: String,
}

impl ImageTokens {
    /// Reads a model's folder; `None` for a model that computes no images.
    ///
    /// # Errors
    /// The settings of images cannot be read, or the tokenizer lacks the token.
    pub(crate) fn from_model_dir(dir: &Path, tokenizer: &Tokenizer) -> Result<Option<Self>, TextError> {
        let path = dir.join("config.json");
        // What is wrong with the file, whoever loads the model reports.
        let Ok(Some(config)) = read_json(&path) else { return Ok(None) };
        let Some((_, token)) = TowerFamily::of_model(&config) else { return Ok(None) };
        let settings = ImageSettings::from_folder(dir)
            .map_err(|(path, error)| TextError::File { path, problem: error.to_string() })?;
        let text = tokenizer.id_to_token(token).ok_or_else(|| TextError::File {
            path,
            problem: format!("field \"image_token_id\": tokenizer.json has no token {token}"),
        })?;
        Ok(Some(Self { settings, token, text }))
    }

    pub(crate) fn settings(&self) -> &ImageSettings {
        &self.settings
    }

    pub(crate) fn token(&self) -> u32 {
        self.token
    }

    /// The token as it stands in texts.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether a text has the token.
    pub(crate) fn stands_in(&self, text: &str) -> bool {
        text.contains(&self.text)
    }
}

impl TextTokenizer {
    /// Whether the model computes images.
    pub fn reads_images(&self) -> bool {
        self.images.is_some()
    }

    /// A hash of how images become tokens; `None` if the model computes none.
    pub fn images_identity(&self) -> Option<blake3::Hash> {
        let images = self.images.as_ref()?;
        Some(blake3::hash(format!("{:?} {}", images.settings, images.token).as_bytes()))
    }

    /// The tokenizer of an adapter's folder, which has images as the model's folder says.
    ///
    /// # Errors
    /// The settings of images cannot be read, or the tokenizer lacks their token.
    pub fn with_images_of(mut self, model: &Path) -> Result<Self, TextError> {
        self.images = ImageTokens::from_model_dir(model, &self.tokenizer)?;
        Ok(self)
    }

    /// How images become tokens, if the model computes them.
    pub(crate) fn image_tokens(&self) -> Option<&ImageTokens> {
        self.images.as_ref()
    }
}
