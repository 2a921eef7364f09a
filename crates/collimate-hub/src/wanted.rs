//! Selects the files of a repository to fetch.

use std::path::Path;

use collimate_files::read_text;
use collimate_weights::SIDE_FILES;
use serde_json::Value;

/// Index of sharded weights.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
const WEIGHTS: &str = "model.safetensors";
/// Size limit of an index, in bytes.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// The model's configuration, without which it is none.
const CONFIG: &str = "config.json";

/// What to fetch from a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Model,
    Adapter,
}

impl Wanted {
    /// The files to fetch, small ones first. Shards are not among them: they are read from the index.
    ///
    /// # Errors
    /// A message saying what the repository lacks.
    pub(crate) fn files(self, listed: &[String]) -> Result<Vec<&str>, String> {
        let has = |file: &str| listed.iter().any(|listed| listed == file);
        if self == Self::Adapter {
            return match (has("adapter_config.json"), has("adapter_model.safetensors")) {
                (true, true) => Ok(vec!["adapter_config.json", "adapter_model.safetensors"]),
                (false, _) => Err("it is not an adapter: there is no adapter_config.json".to_owned()),
                (true, false) => Err(no_safetensors("adapter_model.safetensors", listed)),
            };
        }
        if !has(CONFIG) {
            return Err(match has("adapter_config.json") {
                true => "it is an adapter: name its base as the model, and this as the adapter".to_owned(),
                false => "it is not a model: there is no config.json".to_owned(),
            });
        }
        let templates = listed.iter().map(String::as_str).filter(|file| is_template(file));
        let beside = [CONFIG].into_iter().chain(SIDE_FILES);
        let mut files: Vec<&str> = beside.filter(|file| has(file)).chain(templates).collect();
        match (has(INDEX), has(WEIGHTS)) {
            (_, true) => files.push(WEIGHTS),
            (true, false) => files.push(INDEX),
            (false, false) => return Err(no_safetensors(WEIGHTS, listed)),
        }
        Ok(files)
    }
}

/// Whether the file is one of a model's additional chat templates.
fn is_template(file: &str) -> bool {
    let name = file.strip_prefix("additional_chat_templates/").and_then(|name| name.strip_suffix(".jinja"));
    name.is_some_and(|name| !name.contains('/'))
}

fn no_safetensors(file: &str, listed: &[String]) -> String {
    let endings = [".bin", ".pt", ".pth", ".ckpt"];
    let pickled = listed.iter().find(|file| endings.iter().any(|ending| file.ends_with(ending)));
    match pickled {
        Some(pickled) => format!(
            "its weights are pickled ({pickled}), which we do not read, since unpickling runs code; convert them to \
             safetensors (save_pretrained of transformers)"
        ),
        None => format!("there is no {file}"),
    }
}

/// The shards an index lists.
///
/// # Errors
/// A message: the index is malformed, or lists files outside its folder.
pub(crate) fn shards(index: &Path) -> Result<Vec<String>, String> {
    let text = read_text(index, MAX_INDEX_BYTES).map_err(|error| format!("{INDEX}: {error}"))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| format!("{INDEX}: {error}"))?;
    let map =
        value["weight_map"].as_object().ok_or_else(|| format!("{INDEX}: field \"weight_map\": expected an object"))?;
    let mut shards = Vec::new();
    for shard in map.values() {
        match shard.as_str() {
            Some(name) if is_plain(name) && name.ends_with(".safetensors") => shards.push(name.to_owned()),
            _ => return Err(format!("{INDEX}: {shard} is not a safetensors file beside it")),
        }
    }
    shards.sort();
    shards.dedup();
    Ok(shards)
}

fn is_plain(name: &str) -> bool {
    !name.contains(['/', '\\', ':']) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::one_file(
        "config.json model.safetensors pytorch_model.bin tokenizer.json README.md modeling_x.py onnx/config.json",
        "config.json tokenizer.json model.safetensors"
    )]
    #[case::shards(
        "config.json model-1.safetensors model.safetensors.index.json additional_chat_templates/tool_use.jinja",
        "config.json additional_chat_templates/tool_use.jinja model.safetensors.index.json"
    )]
    fn a_model_is_its_description_files_and_weights(#[case] listed: &str, #[case] expected: &str) {
        let listed: Vec<String> = listed.split(' ').map(str::to_owned).collect();
        assert_eq!(Wanted::Model.files(&listed).unwrap().join(" "), expected);
    }

    #[rstest]
    #[case(Wanted::Model, "config.json pytorch_model.bin", "its weights are pickled (pytorch_model.bin)")]
    #[case(Wanted::Model, "config.json", "there is no model.safetensors")]
    #[case(Wanted::Model, "adapter_config.json", "it is an adapter")]
    #[case(Wanted::Model, "README.md", "it is not a model")]
    #[case(Wanted::Adapter, "config.json", "it is not an adapter")]
    #[case(Wanted::Adapter, "adapter_config.json adapter_model.bin", "its weights are pickled (adapter_model.bin)")]
    fn the_message_says_what_the_repository_lacks(
        #[case] wanted: Wanted,
        #[case] listed: &str,
        #[case] expected: &str,
    ) {
        let listed: Vec<String> = listed.split(' ').map(str::to_owned).collect();
        let problem = wanted.files(&listed).unwrap_err();
        assert!(problem.starts_with(expected), "{problem}");
    }

    #[rstest]
    #[case(
        r#"{"weight_map": {"a": "x-2.safetensors", "b": "x-1.safetensors", "c": "x-2.safetensors"}}"#,
        Ok("x-1.safetensors x-2.safetensors")
    )]
    #[case(r#"{"weight_map": {"a": "../x.safetensors"}}"#, Err("is not a safetensors file beside it"))]
    #[case(r#"{"weight_map": {"a": "x.bin"}}"#, Err("is not a safetensors file beside it"))]
    #[case("{}", Err("\"weight_map\""))]
    fn an_index_names_files_beside_it(#[case] text: &str, #[case] expected: Result<&str, &str>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(INDEX);
        fs::write(&path, text).unwrap();
        match (shards(&path), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.join(" "), expected),
            (Err(problem), Err(expected)) => assert!(problem.contains(expected), "{problem}"),
            (found, _) => panic!("{found:?}"),
        }
    }
}
