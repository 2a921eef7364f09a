//! What turns a group's text into tokens, and what is said about it.

use std::fmt;

use blake3::Hash;
use collimate_data::PromptGroup;
use collimate_text::{TextChecks, TextError, TextTokenizer, TokenizeOptions, TokenizedGroup, tokenize_checked};

/// Turns text into tokens.
pub enum Encoder<'a> {
    /// With a model's tokenizer.
    Tokenizer {
        /// The tokenizer.
        tokenizer: &'a TextTokenizer,
        /// Length limits, and what to do with groups that cannot be used.
        options: TokenizeOptions,
        /// Whether conversations begin with a system prompt of the run's own.
        has_system_prompt: bool,
    },
    /// Without one: groups of estimated lengths.
    Estimate(&'a (dyn Fn(&PromptGroup) -> TokenizedGroup + Sync)),
}

impl Encoder<'_> {
    /// A hash of everything that the tokens depend on but the text; `None` if what comes out is not to be kept.
    pub(super) fn identity(&self) -> Option<Hash> {
        match self {
            // An image that cannot be read leaves out its group, and no key has the content of the images' files.
            Self::Tokenizer { tokenizer, options, .. } if tokenizer.reads_images() && options.skip_unusable => None,
            Self::Tokenizer { tokenizer, options, has_system_prompt } => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(tokenizer.identity()?.as_bytes()).update(&[u8::from(*has_system_prompt)]);
                hasher.update(format!("{options:?}").as_bytes());
                if options.skip_unusable {
                    // A limit that follows memory then leaves groups out; otherwise it refuses them.
                    hasher.update(&(tokenizer.max_text_bytes() as u64).to_le_bytes());
                }
                if let Some(images) = tokenizer.images_identity() {
                    hasher.update(images.as_bytes());
                }
                Some(hasher.finalize())
            }
            Self::Estimate(_) => None,
        }
    }

    /// Whether groups may have images.
    pub(super) fn reads_images(&self) -> bool {
        matches!(self, Self::Tokenizer { tokenizer, .. } if tokenizer.reads_images())
    }

    pub(super) fn encode(&self, group: &PromptGroup) -> Result<(TokenizedGroup, TextChecks), TextError> {
        match self {
            Self::Tokenizer { tokenizer, options, .. } => tokenize_checked(group, tokenizer, options),
            Self::Estimate(estimate) => Ok((estimate(group), TextChecks::default())),
        }
    }

    /// Whether an error only leaves out its group.
    pub(super) fn skips(&self, error: &TextError) -> bool {
        match (self, error) {
            (Self::Tokenizer { options, .. }, TextError::Unusable { reason, .. }) => options.skips(reason),
            _ => false,
        }
    }
}

impl fmt::Debug for Encoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tokenizer { .. } => "Tokenizer",
            Self::Estimate(_) => "Estimate",
        })
    }
}
