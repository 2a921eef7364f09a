//! The ids of tokens that files name: EOS, BOS and padding.

use std::collections::HashMap;
use std::path::Path;

use tokenizers::{AddedToken, Tokenizer};

use crate::TextError;
use crate::model_files::ModelLimits;
use crate::special_tokens::SpecialTokens;

/// What is needed to find the id of a named token.
pub(super) struct Named<'a> {
    pub(super) special: &'a SpecialTokens,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) limits: ModelLimits,
    pub(super) dir: &'a Path,
}

impl Named<'_> {
    /// EOS. `is_new` says that only its name is known: it has an id after all others.
    ///
    /// # Errors
    /// There is none, or the model has no embedding for it.
    pub(super) fn eos(&self, is_new: bool) -> Result<u32, TextError> {
        let Some(text) = self.special.text("eos_token") else {
            return SpecialTokens::numbered(self.tokenizer, "eos_token", self.dir)?.ok_or_else(|| TextError::File {
                path: self.dir.to_owned(),
                problem: "no end-of-sequence token: expected \"eos_token\" in tokenizer_config.json or \
                          special_tokens_map.json, or \"eos_token_id\" in generation_config.json or config.json"
                    .to_owned(),
            });
        };
        let id = self.tokenizer.token_to_id(text);
        id.filter(|id| self.has_embedding(*id, is_new)).ok_or_else(|| {
            let rows =
                self.limits.num_embeddings.map(|rows| format!("the model has no embedding for it (vocab_size {rows})"));
            let reasons =
                is_new.then(|| "it is not in the vocabulary of tokenizer.json".to_owned()).into_iter().chain(rows);
            let reasons = reasons.collect::<Vec<_>>().join(", and ");
            TextError::File {
                path: self.dir.join("tokenizer_config.json"),
                problem: format!("field \"eos_token\": the token {text:?} cannot end a response: {reasons}"),
            }
        })
    }

    /// BOS or padding; none if the model has no embedding for it, which harms nobody who does not use it.
    pub(super) fn id(&self, field: &str, is_new: bool) -> Result<Option<u32>, TextError> {
        let Some(text) = self.special.text(field) else {
            return SpecialTokens::numbered(self.tokenizer, field, self.dir);
        };
        Ok(self.tokenizer.token_to_id(text).filter(|id| self.has_embedding(*id, is_new)))
    }

    /// A token that only has a name is taken to have an embedding if the model's configuration says so.
    fn has_embedding(&self, id: u32, is_new: bool) -> bool {
        self.limits.num_embeddings.map_or(!is_new, |rows| (id as usize) < rows)
    }
}

/// Ids and texts of special tokens and of EOS, sorted by id.
pub(super) fn specials(
    tokenizer: &Tokenizer,
    added: &HashMap<u32, AddedToken>,
    eos: u32,
    splits_special: bool,
) -> (Vec<u32>, Vec<String>) {
    let mut special: Vec<(u32, String)> = added
        .iter()
        .filter(|(id, token)| (token.special || **id == eos) && !token.content.is_empty())
        .map(|(id, token)| (*id, token.content.clone()))
        .collect();
    if !special.iter().any(|(id, _)| *id == eos) {
        special.extend(tokenizer.id_to_token(eos).map(|text| (eos, text)));
    }
    special.sort();
    let (ids, texts): (Vec<u32>, Vec<String>) = special.into_iter().unzip();
    // Their texts mean nothing where they are encoded like any other text.
    (ids, if splits_special { Vec::new() } else { texts })
}
