//! What a run changes about a model's tokenizer: its chat template, its end of sequence, and what is said in every chat.

use std::path::{Path, PathBuf};

use collimate_chat::{ChatDefaults, ChatTemplate};
use serde_json::Value;

use crate::model_files::{read_json, read_text};
use crate::special_tokens::SpecialTokens;
use crate::{TextError, TextTokenizer, read_chat_template};

/// Changes of a model's tokenizer. By default there are none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenizerChanges {
    /// The chat template.
    pub chat_template: Option<String>,
    /// Where to take the chat template from: a Jinja file, or a folder, whose end of sequence is then taken too.
    pub chat_template_path: Option<PathBuf>,
    /// The token that ends a sequence.
    pub eos_token: Option<String>,
    /// System prompt and variables of every conversation.
    pub defaults: ChatDefaults,
    /// Bytes of memory that limits on texts follow; 0 for those of little memory.
    pub memory: u64,
}

/// A chat template and an end of sequence to use instead of the model's.
#[derive(Debug, Default)]
struct Resolved {
    template: Option<String>,
    eos_token: Option<String>,
}

impl TokenizerChanges {
    /// Opens a model's tokenizer with these changes.
    ///
    /// # Errors
    /// As [`TextTokenizer::from_model_dir`]; also if a file of the new template cannot be read or parsed, or the
    /// vocabulary lacks a token that it needs.
    pub fn open(&self, model: &Path) -> Result<TextTokenizer, TextError> {
        let mut tokenizer = TextTokenizer::from_model_dir(model)?;
        let Resolved { template, eos_token } = self.resolve(Some(&tokenizer))?;
        if let Some(source) = template {
            let tokens = SpecialTokens::from_model_dir(model)?.texts;
            tokenizer = tokenizer.with_chat_template(ChatTemplate::new(&source, tokens)?);
        }
        if let Some(token) = eos_token {
            tokenizer = tokenizer.with_eos_token(&token)?;
        }
        Ok(tokenizer.with_chat_defaults(self.defaults.clone()).with_memory(self.memory))
    }

    /// The files of a saved model's folder that say what was changed, with their contents: none if nothing was.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn files(&self, folder: &Path) -> Result<Vec<(&'static str, String)>, TextError> {
        let Resolved { template, eos_token } = self.resolve(None)?;
        let mut files = Vec::new();
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let Some(mut config) = read_json(&folder.join(name))? else { continue };
            let before = config.clone();
            if template.is_some() {
                // Where both are, programs differ in which of them they read.
                config.as_object_mut().map(|config| config.shift_remove("chat_template"));
            }
            if let Some(token) =
                eos_token.as_ref().filter(|_| name == "tokenizer_config.json" || !config["eos_token"].is_null())
            {
                set_token(&mut config["eos_token"], token);
            }
            if config != before {
                files.push((name, format!("{config:#}\n")));
            }
        }
        files.extend(template.map(|source| ("chat_template.jinja", source)));
        Ok(files)
    }

    fn resolve(&self, tokenizer: Option<&TextTokenizer>) -> Result<Resolved, TextError> {
        let mut resolved = Resolved { template: self.chat_template.clone(), eos_token: None };
        if let Some(path) = &self.chat_template_path {
            resolved = if path.is_dir() { of_folder(path, tokenizer)? } else { of_file(path)? };
        }
        resolved.eos_token = self.eos_token.clone().or(resolved.eos_token);
        Ok(resolved)
    }
}

fn of_file(path: &Path) -> Result<Resolved, TextError> {
    let missing = || TextError::File { path: path.to_owned(), problem: "no such file".to_owned() };
    Ok(Resolved { template: Some(read_text(path)?.ok_or_else(missing)?), eos_token: None })
}

/// Template and end of sequence of a folder; the model's `tokenizer` must know all tokens that the folder's adds.
fn of_folder(folder: &Path, tokenizer: Option<&TextTokenizer>) -> Result<Resolved, TextError> {
    let problem = |problem: String| TextError::File { path: folder.to_owned(), problem };
    let template = read_chat_template(folder)?.ok_or_else(|| problem("it has no chat template".to_owned()))?;
    let mut eos_token = None;
    if folder.join("tokenizer.json").is_file() {
        let source = TextTokenizer::from_model_dir(folder)?;
        let unknown = |token: &String| tokenizer.is_some_and(|own| own.token_id(token).is_none());
        let unknown: Vec<String> = source.added_texts().into_iter().filter(unknown).take(5).collect();
        if !unknown.is_empty() {
            return Err(problem(format!(
                "its tokenizer has tokens that the model lacks ({}), and embeddings are not added; name a Jinja file to \
                 take the template alone",
                unknown.join(", ")
            )));
        }
        eos_token = source.token_text(source.eos_id());
    }
    Ok(Resolved { template: Some(template.source().to_owned()), eos_token })
}

/// Sets a token's text, whether the file has it as text or as an object.
fn set_token(value: &mut Value, text: &str) {
    match value {
        Value::Object(token) => _ = token.insert("content".to_owned(), text.into()),
        other => *other = text.into(),
    }
}
