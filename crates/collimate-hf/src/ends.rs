//! Names the tokens that end an answer where other programs look for them: in `eos_token_id` of `generation_config.json`,
//! which transformers and vLLM stop at, and of `config.json`.

use std::path::{Path, PathBuf};

use collimate_files::write_atomically;
use serde_json::{Map, Value, json};

use crate::error::HfError;
use crate::fields::Fields;
use crate::plain_file::read_json;
use crate::wrapped::TEXT;

const GENERATION: &str = "generation_config.json";
const MODEL: &str = "config.json";
const EOS: &str = "eos_token_id";

/// Names `ends`, the end of a turn first, in a folder with a model, or with an adapter for the model in `base`.
///
/// A program stops at the tokens in `generation_config.json`, or else in `config.json`. If an end is missing there, the
/// folder gets a `generation_config.json`, that of the base with all ends; a `config.json` gets them if it lacks the first.
/// Files that name the ends stay as they are, and so do all other fields.
///
/// # Errors
/// [`HfError`] naming file and field: a file cannot be read or written, or has something else in place of token ids.
pub fn name_ends(dir: &Path, base: &Path, ends: &[u32]) -> Result<(), HfError> {
    let Some(first) = ends.first() else { return Ok(()) };
    let own = ConfigFile::read(dir.join(GENERATION))?;
    let mut config = ConfigFile::read(dir.join(MODEL))?;
    let (of_base, base_config) = (ConfigFile::read(base.join(GENERATION))?, ConfigFile::read(base.join(MODEL))?);
    let decisive = own.as_ref().or(config.as_ref()).or(of_base.as_ref()).or(base_config.as_ref());
    let named = decisive.map_or(Ok(Vec::new()), ConfigFile::ends)?;
    if let Some(config) = &mut config
        && !config.ends()?.contains(first)
    {
        config.add(ends)?;
        config.write(&dir.join(MODEL))?;
    }
    if ends.iter().all(|end| named.contains(end)) {
        return Ok(());
    }
    let mut generation = own.or(of_base).unwrap_or_else(|| ConfigFile::fresh(config.or(base_config).as_ref()));
    generation.add(ends)?;
    generation.write(&dir.join(GENERATION))
}

/// `eos_token_id` of a folder's `generation_config.json`; empty if it has none.
pub fn named_ends(dir: &Path) -> Result<Vec<u32>, HfError> {
    ConfigFile::read(dir.join(GENERATION))?.map_or(Ok(Vec::new()), |file| file.ends())
}

/// A JSON file, and the path it was read from.
struct ConfigFile {
    path: PathBuf,
    json: Value,
}

impl ConfigFile {
    fn read(path: PathBuf) -> Result<Option<Self>, HfError> {
        if !path.exists() {
            return Ok(None);
        }
        let json = read_json(&path)?;
        Ok(Some(Self { path, json }))
    }

    /// A `generation_config.json` with what transformers takes from a `config.json` for one.
    fn fresh(config: Option<&Self>) -> Self {
        let tokens = ["bos_token_id", EOS, "pad_token_id"].into_iter();
        let known = tokens.filter_map(|name| Some((name.to_owned(), config?.json.get(name)?.clone())));
        Self { path: PathBuf::from(GENERATION), json: Value::Object(known.collect::<Map<_, _>>()) }
    }

    fn ends(&self) -> Result<Vec<u32>, HfError> {
        let top = Fields::top(&self.path, &self.json)?;
        match top.nested(TEXT)?.filter(|_| self.is_nested()) {
            Some(text) => text.token_ids(EOS),
            None => top.token_ids(EOS),
        }
    }

    /// Whether the ends are in the configuration of a text model inside an image-and-text one.
    fn is_nested(&self) -> bool {
        let is_set = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
        !is_set(self.json.get(EOS)) && is_set(self.json.get(TEXT).and_then(|text| text.get(EOS)))
    }

    /// Puts ends before those that the file names already.
    fn add(&mut self, ends: &[u32]) -> Result<(), HfError> {
        let mut all = ends.to_vec();
        all.extend(self.ends()?.into_iter().filter(|id| !ends.contains(id)));
        let object = if self.is_nested() { &mut self.json[TEXT] } else { &mut self.json };
        object[EOS] = if let [only] = all.as_slice() { json!(only) } else { json!(all) };
        Ok(())
    }

    fn write(&self, path: &Path) -> Result<(), HfError> {
        let text = serde_json::to_string_pretty(&self.json).unwrap_or_default() + "\n";
        Ok(write_atomically(path, text.as_bytes())?)
    }
}
