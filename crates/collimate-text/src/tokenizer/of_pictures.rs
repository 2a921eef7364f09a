//! The tokenizer of a model of pictures, which needs no file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::reading::InsertedSpaces;
use super::{TextTokenizer, TurnEnds, guard};
use crate::TextError;
use crate::model_files::ModelLimits;
use crate::pictures::PictureTokens;

/// Ends a picture, which nothing does.
const NO_TOKEN: u32 = u32::MAX;

impl TextTokenizer {
    pub(super) fn of_pictures(pictures: PictureTokens, dir: &Path) -> Result<Self, TextError> {
        let problem = |problem| TextError::File { path: dir.join("config.json"), problem };
        let tokenizer = guard::parse(pictures.tokenizer_json().to_string().as_bytes()).map_err(problem)?;
        Ok(Self {
            images: None,
            words: None,
            bytes: OnceLock::new(),
            tokenizer: Arc::new(tokenizer),
            chat_template: None,
            eos: NO_TOKEN,
            bos: None,
            pad: None,
            added: HashMap::new(),
            special_texts: Vec::new(),
            special_ids: Vec::new(),
            limits: ModelLimits {
                num_embeddings: Some(pictures.vocab_size + pictures.conditions),
                max_positions: None,
            },
            spaces: InsertedSpaces::default(),
            misplaced: None,
            random: None,
            ends: TurnEnds::default(),
            memory: 0,
            pictures: Some(pictures),
        })
    }

    /// The tokens of a model of pictures; `None` for a language model.
    pub fn pictures(&self) -> Option<&PictureTokens> {
        self.pictures.as_ref()
    }
}
