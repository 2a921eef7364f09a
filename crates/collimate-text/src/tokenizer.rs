//! A model's tokenizer with its special tokens and its chat template.

mod decoding;
mod ends;
mod guard;
mod identity;
mod images;
mod kept;
pub(crate) mod long;
mod named;
mod of_pictures;
mod pieces;
mod reading;
mod start;
mod words;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use collimate_chat::{ChatDefaults, ChatTemplate};
use tokenizers::{AddedToken, Encoding, Tokenizer};

use crate::model_files::{ModelLimits, read_bytes};
use crate::pictures::PictureTokens;
use crate::special_tokens::SpecialTokens;
use crate::{TextError, read_chat_template};
use decoding::TokenBytes;
pub(crate) use ends::PROBE;
pub use ends::TurnEnds;
use ends::listed_ends;
pub(crate) use images::ImageTokens;
pub(crate) use kept::{Keep, LeftOut};
use long::Framed;
use named::{Named, specials};
pub(crate) use reading::Before;
use reading::InsertedSpaces;
pub(crate) use start::StartIds;
use start::around;
use words::Words;

/// A model's tokenizer: text to token ids and back. Can be shared between threads.
///
/// Reads `tokenizer.json`, not SentencePiece or tiktoken files, and the tokens that other files add to it.
#[derive(Debug)]
pub struct TextTokenizer {
    tokenizer: Arc<Tokenizer>,
    /// How texts are encoded word by word, where that gives the same ids.
    words: Option<Words>,
    /// The bytes of every token, once they are asked for; `None` inside if the decoder does more than join them.
    bytes: OnceLock<Option<TokenBytes>>,
    chat_template: Option<ChatTemplate>,
    eos: u32,
    bos: Option<u32>,
    pad: Option<u32>,
    /// Every token that is looked for in a text before the tokenizer's model sees the rest, by id.
    added: HashMap<u32, AddedToken>,
    special_texts: Vec<String>,
    special_ids: Vec<u32>,
    limits: ModelLimits,
    /// How images become tokens, for a model that computes them.
    images: Option<ImageTokens>,
    spaces: InsertedSpaces,
    misplaced: Option<String>,
    /// What the file asks for that is random, and is not done.
    random: Option<String>,
    ends: TurnEnds,
    /// Bytes of memory that limits on texts follow; 0 for those of little memory.
    memory: u64,
    /// The tokens of a model of pictures.
    pictures: Option<PictureTokens>,
}

/// A token that is looked for in a text before the tokenizer's model sees the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedToken<'a> {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub text: &'a str,
    /// Whether it is special, such as BOS, EOS or an end of turn.
    pub is_special: bool,
    /// Whether white space before it belongs to it.
    pub takes_space_before: bool,
    /// Whether white space after it belongs to it.
    pub takes_space_after: bool,
}

/// What is said of a dropout in a tokenizer's file.
fn not_applied(path: &Path, dropout: f32) -> String {
    let path = path.display();
    format!("{path}: field \"model.dropout\": {dropout} is not applied, so that a text always has the same tokens")
}

impl TextTokenizer {
    /// Reads the tokenizer, its special tokens and its chat template from a model's folder.
    ///
    /// Tokens are those of `tokenizer.json` with what `tokenizer_config.json` (`added_tokens_decoder`, names as
    /// `pad_token`, `extra_special_tokens`), `special_tokens_map.json` and `added_tokens.json` add, with the precedence of
    /// transformers 5. EOS, BOS and padding have their names there, or else their ids in `generation_config.json` or
    /// `config.json`. A model of pictures needs no file: its tokens are numbers. Truncation and padding stored in `tokenizer.json`
    /// are ignored, and so are `add_bos_token` and `add_eos_token`, as in transformers 5. BPE dropout is turned off: a text always has the same tokens.
    ///
    /// # Errors
    /// `tokenizer.json` is missing or unreadable, there is no EOS, or the model has no embedding for it; each error names
    /// the file and the field.
    pub fn from_model_dir(dir: &Path) -> Result<Self, TextError> {
        if let Some(pictures) = PictureTokens::from_model_dir(dir)? {
            return Self::of_pictures(pictures, dir);
        }
        let path = dir.join("tokenizer.json");
        let file_error = |problem: String| TextError::File { path: path.clone(), problem };
        let Some(bytes) = read_bytes(&path, guard::MAX_TOKENIZER_BYTES)? else {
            return Err(file_error("no such file; a model's folder needs its tokenizer as tokenizer.json".to_owned()));
        };
        let mut tokenizer =
            guard::parse(&bytes).map_err(|problem| file_error(format!("not a readable tokenizer: {problem}")))?;
        drop(bytes);
        let random = guard::turn_off_dropout(&mut tokenizer).map(|dropout| not_applied(&path, dropout));
        tokenizer.with_truncation(None).map_err(|error| file_error(error.to_string()))?;
        tokenizer.with_padding(None);

        let special = SpecialTokens::from_model_dir(dir)?;
        let limits = ModelLimits::from_model_dir(dir);
        let to_add = special.to_add(tokenizer.get_added_tokens_decoder());
        let is_known = |text: &str| tokenizer.token_to_id(text).is_some() || special.gives_an_id(text);
        let unknown = |field| special.text(field).is_some_and(|text| !is_known(text));
        let [is_new_eos, is_new_bos, is_new_pad] = ["eos_token", "bos_token", "pad_token"].map(unknown);
        guard::check_added(&to_add).map_err(file_error)?;
        guard::guarded(|| Ok(tokenizer.add_tokens(&to_add))).map_err(file_error)?;
        tokenizer.set_encode_special_tokens(special.splits_special);

        let named = Named { special: &special, tokenizer: &tokenizer, limits, dir };
        let eos = named.eos(is_new_eos)?;
        let (bos, pad) = (named.id("bos_token", is_new_bos)?, named.id("pad_token", is_new_pad)?);
        let added: HashMap<u32, AddedToken> = tokenizer.get_added_tokens_decoder().into_iter().collect();
        let (special_ids, special_texts) = specials(&tokenizer, &added, eos, special.splits_special);
        let chat_template = read_chat_template(dir)?;
        let images = ImageTokens::from_model_dir(dir, &tokenizer)?;
        let (spaces, misplaced) = (InsertedSpaces::default(), special.misplaced(&tokenizer));
        let opened = Self {
            words: Words::new(&tokenizer),
            bytes: OnceLock::new(),
            tokenizer: Arc::new(tokenizer),
            chat_template,
            eos,
            bos,
            pad,
            added,
            special_texts,
            special_ids,
            limits,
            images,
            spaces,
            misplaced,
            random,
            ends: TurnEnds::default(),
            memory: 0,
            pictures: None,
        };
        let opened = Self { spaces: opened.inserted_spaces(), ..opened };
        Ok(opened.with_ends(listed_ends(dir)?))
    }

    /// Encodes a text; `add_special_tokens` adds the tokens that `tokenizer.json` puts around a text, usually BOS.
    ///
    /// The text of a special token becomes that token.
    ///
    /// # Errors
    /// [`TextError::Encoding`] if the tokenizer cannot represent the text.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TextError> {
        let Framed { before, ids, after, .. } = self.framed(text, add_special_tokens, Keep::All)?;
        Ok(around(before, ids, after))
    }

    fn encoding(&self, text: &str, add_special_tokens: bool) -> Result<Encoding, TextError> {
        guard::guarded(|| self.tokenizer.encode_fast(text, add_special_tokens))
            .map_err(|problem| TextError::Encoding { problem })
    }

    /// A token as spelled in the vocabulary (`Ġthe`, `▁the`, `<0x0A>`); `None` beyond the vocabulary.
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The id of a token, spelled as in the vocabulary.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.tokenizer.token_to_id(text)
    }

    /// EOS: the token that ends a text. [`TextTokenizer::turn_ends`] has what ends a turn.
    pub fn eos_id(&self) -> u32 {
        self.eos
    }

    /// The token that starts a text, if the model has one.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// The padding token, if the model has one.
    pub fn pad_id(&self) -> Option<u32> {
        self.pad
    }

    /// The tokens that `tokenizer.json` or another file adds, sorted by id.
    pub fn added_tokens(&self) -> Vec<ListedToken<'_>> {
        let listed = self.added.iter().map(|(id, token)| ListedToken {
            id: *id,
            text: &token.content,
            is_special: token.special,
            takes_space_before: token.lstrip,
            takes_space_after: token.rstrip,
        });
        let mut listed: Vec<_> = listed.collect();
        listed.sort_unstable_by_key(|token| token.id);
        listed
    }

    /// Vocabulary size including added tokens. A model's embedding may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Whether a token is special, such as BOS, EOS or an end of turn.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.binary_search(&id).is_ok()
    }

    /// The model's chat template, if it has one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// Sets what the chat template is given where a conversation gives nothing.
    pub(crate) fn with_chat_defaults(mut self, defaults: ChatDefaults) -> Self {
        self.chat_template = self.chat_template.map(|template| template.with_defaults(defaults));
        let listed = std::mem::take(&mut self.ends.listed);
        self.with_ends(listed)
    }

    /// The texts of tokens that were added to the vocabulary.
    pub(crate) fn added_texts(&self) -> Vec<String> {
        let mut added: Vec<_> = self.tokenizer.get_added_tokens_decoder().into_iter().collect();
        added.sort_by_key(|(id, _)| *id);
        added.into_iter().map(|(_, token)| token.content).collect()
    }

    /// Replaces the chat template.
    pub fn with_chat_template(mut self, template: ChatTemplate) -> Self {
        self.chat_template = Some(template.with_memory(self.memory));
        let listed = std::mem::take(&mut self.ends.listed);
        self.with_ends(listed)
    }

    /// Byte offset in `text` of the special token that ends it but for white space; its length if there is none.
    pub(crate) fn start_of_last_special(&self, text: &str) -> usize {
        let trimmed = text.trim_end();
        let ends = self.special_texts.iter().filter(|special| trimmed.ends_with(special.as_str()));
        ends.map(|special| trimmed.len() - special.len()).min().unwrap_or(text.len())
    }

    /// Whether a token is looked for in a text before the tokenizer's model sees the rest.
    pub(crate) fn is_added(&self, id: u32) -> bool {
        self.added.contains_key(&id)
    }

    /// The text of such a token.
    pub(crate) fn added_text(&self, id: u32) -> Option<&str> {
        self.added.get(&id).map(|token| token.content.as_str())
    }

    /// The first of these tokens that the model has no embedding for, with the number of embeddings.
    pub(crate) fn without_embedding(&self, ids: &[u32]) -> Option<(u32, usize)> {
        let rows = self.limits.num_embeddings?;
        ids.iter().find(|id| **id as usize >= rows).map(|id| (*id, rows))
    }

    /// The first of these ids that is no token, where the model does not say how many it has.
    pub(crate) fn unknown(&self, ids: &[u32]) -> Option<u32> {
        let mut ids = ids.iter().copied().filter(|_| self.limits.num_embeddings.is_none());
        ids.find(|id| self.token_text(*id).is_none())
    }

    /// What the user should know of the files: tokens with other ids than they say, and what they ask for that would give a
    /// text other tokens each time and is turned off.
    pub fn warnings(&self) -> Vec<String> {
        let misplaced = self.misplaced.as_ref().map(|tokens| format!("warning: the token {tokens}"));
        let random = self.random.as_ref().map(|setting| format!("warning: {setting}"));
        misplaced.into_iter().chain(random).collect()
    }

    /// Tokens of the longest sequence that the model was made for, if `config.json` says.
    pub(crate) fn max_positions(&self) -> Option<usize> {
        self.limits.max_positions
    }
}

#[cfg(test)]
pub(crate) mod tests;
