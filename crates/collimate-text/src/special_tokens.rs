//! A model's special tokens: BOS, EOS, padding and the like, by name, and the tokens that its files add.

mod declared;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::{Map, Value as Json};
use tokenizers::{AddedToken, Tokenizer};

use crate::TextError;
use crate::model_files::read_json;
use declared::{Declared, Fields};

/// The names that every tokenizer may have, in the order in which their tokens are added.
const NAMES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The tokens that a model's folder declares beside `tokenizer.json`, with the precedence of transformers 5:
///
/// - `added_tokens_decoder` of `tokenizer_config.json`, if it is there, replaces `special_tokens_map.json` and
///   `added_tokens.json`;
/// - else a name in `special_tokens_map.json` replaces the same name in `tokenizer_config.json`.
#[derive(Debug, Default)]
pub(crate) struct SpecialTokens {
    /// Text by name: `bos_token` → `<s>`; also a model's own names, as `image_token`.
    pub(crate) texts: BTreeMap<String, String>,
    /// Whether the texts of special tokens are encoded as ordinary text.
    pub(crate) splits_special: bool,
    /// Tokens by name, in the order in which they are added.
    named: Vec<(String, Declared)>,
    /// `extra_special_tokens`, once `additional_special_tokens`.
    extra: Vec<Declared>,
    /// `added_tokens_decoder`, by id.
    decoder: Option<BTreeMap<u32, Declared>>,
    /// `added_tokens.json`, by id.
    added: BTreeMap<u32, Declared>,
    /// EOS of a `special_tokens_map.json` that is otherwise replaced.
    replaced_eos: Option<String>,
}

impl SpecialTokens {
    /// Reads `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`.
    pub(crate) fn from_model_dir(dir: &Path) -> Result<Self, TextError> {
        let path = dir.join("tokenizer_config.json");
        let mut fields = Fields::of_config(object(&path)?);
        let decoder = match fields.0.get("added_tokens_decoder") {
            None | Some(Json::Null) => None,
            Some(Json::Object(tokens)) => Some(by_id(tokens, &path)?),
            Some(_) => return Err(wrong(&path, "added_tokens_decoder", "expected an object of ids with their tokens")),
        };
        let map_path = dir.join("special_tokens_map.json");
        let map = object(&map_path)?;
        let (mut replaced_eos, mut added) = (None, Map::new());
        if decoder.is_some() {
            replaced_eos = map.get("eos_token").and_then(|eos| Declared::read(eos).ok()).map(|eos| eos.content);
        } else {
            check(&map, &map_path)?;
            fields.merge(map);
            added = object(&dir.join("added_tokens.json"))?;
        }
        let mut special = Self { decoder, replaced_eos, ..Self::default() };
        special.read_names(&fields.0, &path)?;
        special.splits_special = fields.0.get("split_special_tokens") == Some(&Json::Bool(true));
        special.read_added(&added, &dir.join("added_tokens.json"))?;
        Ok(special)
    }

    /// The tokens to add to a tokenizer that has those of `present`, in their order.
    pub(crate) fn to_add(&self, present: impl IntoIterator<Item = (u32, AddedToken)>) -> Vec<AddedToken> {
        let mut by_id = match &self.decoder {
            Some(decoder) => decoder.clone(),
            None => self.added.clone(),
        };
        let present: BTreeMap<u32, AddedToken> = present.into_iter().collect();
        if self.decoder.is_none() {
            by_id.extend(present.iter().map(|(id, token)| (*id, Declared::of_tokenizer(token))));
        }
        let mut tokens: Vec<Declared> = by_id.into_values().collect();
        let there = present.into_values().map(|token| token.content);
        let mut there: HashSet<String> = there.chain(tokens.iter().map(|token| token.content.clone())).collect();
        let names: HashSet<&str> = self.named.iter().map(|(_, token)| token.content.as_str()).collect();
        for token in self.named.iter().map(|(_, token)| token).chain(&self.extra) {
            if there.insert(token.content.clone()) {
                tokens.push(token.clone());
            }
        }
        for token in &mut tokens {
            token.special |= names.contains(token.content.as_str());
        }
        tokens.iter().map(Declared::to_added_token).collect()
    }

    /// Describes tokens that have other ids than the files give them, if there are any.
    pub(crate) fn misplaced(&self, tokenizer: &Tokenizer) -> Option<String> {
        let declared = self.decoder.iter().flatten().chain(&self.added);
        let mut others = declared.filter_map(|(id, token)| {
            let found = tokenizer.token_to_id(&token.content).filter(|found| found != id)?;
            Some(format!("{:?} should have the id {id}, and has {found}, as in transformers", token.content))
        });
        let first = others.next()?;
        let more = others.count();
        Some(if more == 0 { first } else { format!("{first}; and {more} other added tokens") })
    }

    /// Whether a file gives the token with this text an id.
    pub(crate) fn gives_an_id(&self, text: &str) -> bool {
        self.decoder.iter().flat_map(BTreeMap::values).chain(self.added.values()).any(|token| token.content == text)
    }

    /// The text of a named token.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        let fallback = self.replaced_eos.as_ref().filter(|_| field == "eos_token");
        self.texts.get(field).or(fallback).map(String::as_str)
    }

    /// The id that `generation_config.json` or `config.json` gives a token.
    pub(crate) fn numbered(tokenizer: &Tokenizer, field: &str, dir: &Path) -> Result<Option<u32>, TextError> {
        let field = format!("{field}_id");
        for file in ["generation_config.json", "config.json"] {
            let path = dir.join(file);
            let Some(config) = read_json(&path)? else { continue };
            let value = match &config[&field] {
                Json::Null => continue,
                Json::Array(ids) => ids.first().unwrap_or(&Json::Null),
                value => value,
            };
            let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
            match id.filter(|id| tokenizer.id_to_token(*id).is_some()) {
                Some(id) => return Ok(Some(id)),
                // Many folders have a padding id of -1 or beyond the vocabulary; only EOS must be valid.
                None if field != "eos_token_id" => continue,
                None => {
                    let problem = format!("field \"{field}\": expected a token id of tokenizer.json, found {value}");
                    return Err(TextError::File { path, problem });
                }
            }
        }
        Ok(None)
    }

    /// Reads `added_tokens.json`: ids by text.
    fn read_added(&mut self, added: &Map<String, Json>, path: &Path) -> Result<(), TextError> {
        let named = self.named.iter().map(|(_, token)| token).chain(&self.extra);
        let named: HashSet<&str> = named.map(|token| token.content.as_str()).collect();
        let read = |(content, id): (&String, &Json)| {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| wrong(path, content, "expected a token id"))?;
            Ok((id, Declared::of_added_tokens(content, named.contains(content.as_str()))))
        };
        self.added = added.iter().map(read).collect::<Result<_, TextError>>()?;
        Ok(())
    }

    /// Reads tokens by name, those that every tokenizer may have first, then a model's own, and the nameless ones.
    fn read_names(&mut self, fields: &Map<String, Json>, path: &Path) -> Result<(), TextError> {
        let own = |(field, value): &(&String, &Json)| {
            let is_token = value.is_string() || value.get("content").is_some();
            field.ends_with("_token") && !NAMES.contains(&field.as_str()) && is_token
        };
        let standard = NAMES.iter().filter_map(|name| fields.get_key_value(*name));
        let named = standard.chain(fields.iter().filter(own));
        let (listed, by_name) = match fields.get("extra_special_tokens") {
            None | Some(Json::Null) => (&[][..], None),
            Some(Json::Array(tokens)) => (tokens.as_slice(), None),
            Some(Json::Object(tokens)) => (&[][..], Some(tokens)),
            Some(_) => return Err(wrong(path, "extra_special_tokens", "expected a list or an object of tokens")),
        };
        let specific = match fields.get("model_specific_special_tokens") {
            None | Some(Json::Null) => None,
            Some(Json::Object(tokens)) => Some(tokens),
            Some(_) => return Err(wrong(path, "model_specific_special_tokens", "expected an object of tokens")),
        };
        let named = named.chain(by_name.into_iter().flatten()).chain(specific.into_iter().flatten());
        for (name, value) in named.filter(|(_, value)| !value.is_null()) {
            let token = Declared::read(value).map_err(|problem| wrong(path, name, &problem))?;
            self.texts.insert(name.clone(), token.content.clone());
            self.named.push((name.clone(), token));
        }
        let read = |token| Declared::read(token).map_err(|problem| wrong(path, "extra_special_tokens", &problem));
        self.extra = listed.iter().map(read).collect::<Result<_, _>>()?;
        Ok(())
    }
}

/// The fields of a JSON file; none if it does not exist.
fn object(path: &Path) -> Result<Map<String, Json>, TextError> {
    match read_json(path)? {
        Some(Json::Object(fields)) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

/// Rejects a named token that is neither a text nor an object.
fn check(map: &Map<String, Json>, path: &Path) -> Result<(), TextError> {
    let named = map.iter().filter(|(field, value)| NAMES.contains(&field.as_str()) && !value.is_null());
    for (field, value) in named {
        Declared::read(value).map_err(|problem| wrong(path, field, &problem))?;
    }
    Ok(())
}

fn by_id(tokens: &Map<String, Json>, path: &Path) -> Result<BTreeMap<u32, Declared>, TextError> {
    let read = |(id, token): (&String, &Json)| {
        let field = format!("added_tokens_decoder.{id}");
        let number = id.parse().map_err(|_| wrong(path, &field, "expected a token id as name"))?;
        if !token.is_object() {
            return Err(wrong(path, &field, "expected an object with \"content\""));
        }
        Ok((number, Declared::read(token).map_err(|problem| wrong(path, &field, &problem))?))
    };
    tokens.iter().map(read).collect()
}

fn wrong(path: &Path, field: &str, problem: &str) -> TextError {
    TextError::File { path: path.to_owned(), problem: format!("field \"{field}\": {problem}") }
}
