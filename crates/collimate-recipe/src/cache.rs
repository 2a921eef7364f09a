//! Where what runs compute is kept for later ones.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use crate::values::KeyType;

/// The folder in which something is kept for later runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheFolder {
    /// A folder below `collimate` in the user's cache folder.
    Auto,
    /// No cache: nothing is kept or looked up.
    Off,
    /// A folder of the user's choice.
    Folder(PathBuf),
}

impl CacheFolder {
    /// The folder, called `name` where the recipe names none; `None` if the cache is off or the user has no cache folder.
    ///
    /// The user's cache folder is `XDG_CACHE_HOME`, else `.cache` in `HOME`, else (on Windows) `LOCALAPPDATA`.
    pub fn folder(&self, name: &str) -> Option<PathBuf> {
        match self {
            Self::Auto => user_folder(name, |variable| std::env::var_os(variable)),
            Self::Off => None,
            Self::Folder(folder) => Some(folder.clone()),
        }
    }
}

fn user_folder(name: &str, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // A relative path would mean a different folder in each working directory.
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").map(|home| home.join(".cache"));
    let cache = absolute("XDG_CACHE_HOME").or_else(home).or_else(|| absolute("LOCALAPPDATA"))?;
    Some(cache.join("collimate").join(name))
}

impl Serialize for CacheFolder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Off => serializer.serialize_bool(false),
            Self::Folder(folder) => folder.serialize(serializer),
        }
    }
}

impl KeyType for CacheFolder {
    const EXPECTED: &'static str = "auto, false or a folder";
    fn from_yaml(value: &Value) -> Option<Self> {
        // YAML 1.1 readers parse a bare `off` as false and `on` as true.
        match (value.as_str(), value.as_bool()) {
            (Some("auto" | "on"), _) | (_, Some(true)) => Some(Self::Auto),
            (Some("off"), _) | (_, Some(false)) => Some(Self::Off),
            _ => PathBuf::from_yaml(value).map(Self::Folder),
        }
    }

    fn schema() -> Json {
        json!({"anyOf": [{"type": "boolean"}, {"type": "string", "minLength": 1}]})
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("auto", CacheFolder::Auto)]
    #[case("true", CacheFolder::Auto)]
    #[case("false", CacheFolder::Off)]
    #[case("off", CacheFolder::Off)]
    #[case("some/folder", CacheFolder::Folder("some/folder".into()))]
    #[case("./off", CacheFolder::Folder("./off".into()))]
    fn the_key_is_a_word_or_a_folder_and_reads_back(#[case] yaml: &str, #[case] expected: CacheFolder) {
        let read = |text: &str| CacheFolder::from_yaml(&serde_yaml_ng::from_str(text).expect("YAML"));
        assert_eq!(read(yaml), Some(expected.clone()));
        assert_eq!(read(&serde_yaml_ng::to_string(&expected).expect("YAML")), Some(expected));
        assert_eq!(read("[1]"), None);
    }

    #[cfg(unix)]
    #[rstest]
    #[case(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], Some("/x/collimate/reference"))]
    #[case(&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")], Some("/h/.cache/collimate/reference"))]
    #[case(&[("HOME", "/h")], Some("/h/.cache/collimate/reference"))]
    #[case(&[], None)]
    fn the_cache_folder_of_the_user_is_found(#[case] variables: &[(&str, &str)], #[case] expected: Option<&str>) {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        assert_eq!(user_folder("reference", variable), expected.map(PathBuf::from));
    }
}
