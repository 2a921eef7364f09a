//! How to reach the hub: address, cache, token, network.

use std::env;
use std::fmt;
use std::path::PathBuf;

/// How to reach the hub.
#[derive(Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// Base URL.
    pub endpoint: String,
    /// Folder of the cache, the one that contains `models--…` and `datasets--…`.
    pub cache: PathBuf,
    /// The user's access token, if any.
    pub token: Option<String>,
    /// Use the cache only, never the network.
    pub offline: bool,
    /// Show download progress if standard error is a terminal.
    pub progress: bool,
}

impl HubOptions {
    /// Reads the environment as `huggingface_hub` does: `HF_ENDPOINT`; `HF_HUB_CACHE`, else `HF_HOME/hub`, else
    /// `~/.cache/huggingface/hub`; `HF_TOKEN`, else the file `HF_TOKEN_PATH`, else `token` next to the cache;
    /// `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        Self::from_variables(&|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// [`Self::from_env`] with the variables passed in, for tests.
    pub(crate) fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let home = variable("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
            let caches = variable("XDG_CACHE_HOME").map(PathBuf::from);
            let caches = caches
                .or_else(|| Some(PathBuf::from(variable("HOME").or_else(|| variable("USERPROFILE"))?).join(".cache")));
            caches.unwrap_or_default().join("huggingface")
        });
        let cache = variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")).map(PathBuf::from);
        let token_file = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let stored = || std::fs::read_to_string(token_file).ok();
        let token = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN")).or_else(stored);
        let is_set = |name| variable(name).is_some_and(|value| is_yes(&value));
        Self {
            endpoint: variable("HF_ENDPOINT").map_or_else(
                || "https://huggingface.co".to_owned(),
                |endpoint| endpoint.trim_end_matches('/').to_owned(),
            ),
            cache: cache.unwrap_or_else(|| home.join("hub")),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            offline: is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE"),
            progress: !is_set("HF_HUB_DISABLE_PROGRESS_BARS"),
        }
    }
}

fn is_yes(value: &str) -> bool {
    matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

/// Omits the token, which must not end up in logs.
impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("has_token", &self.token.is_some())
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rstest::rstest;

    use super::*;

    fn from_pairs(variables: &[(&str, &str)]) -> HubOptions {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        HubOptions::from_variables(&|name| variables.get(name).map(|value| (*value).to_owned()))
    }

    #[rstest]
    #[case(&[("HOME", "/h")], "/h/.cache/huggingface/hub")]
    #[case(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub")]
    #[case(&[("HOME", "/h"), ("HF_HOME", "/hf")], "/hf/hub")]
    #[case(&[("HOME", "/h"), ("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")], "/c")]
    fn the_cache_is_where_python_keeps_it(#[case] variables: &[(&str, &str)], #[case] cache: &str) {
        assert_eq!(from_pairs(variables).cache, PathBuf::from(cache));
    }

    #[test]
    fn a_token_comes_from_a_variable_or_a_file_and_is_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        let home = folder.path().to_str().unwrap();
        assert_eq!(from_pairs(&[("HF_HOME", home)]).token.as_deref(), Some("hf_file"));
        let options = from_pairs(&[("HF_HOME", home), ("HF_TOKEN", " hf_secret ")]);
        assert_eq!(options.token.as_deref(), Some("hf_secret"));
        assert!(!format!("{options:?}").contains("hf_"), "{options:?}");
    }

    #[rstest]
    #[case("1", true)]
    #[case("true", true)]
    #[case("0", false)]
    #[case("no", false)]
    fn a_variable_turns_the_network_off(#[case] value: &str, #[case] expected: bool) {
        assert_eq!(from_pairs(&[("HOME", "/h"), ("HF_HUB_OFFLINE", value)]).offline, expected);
    }

    #[test]
    fn an_endpoint_loses_its_trailing_slash() {
        assert_eq!(from_pairs(&[("HF_ENDPOINT", "http://127.0.0.1:9/")]).endpoint, "http://127.0.0.1:9");
        assert_eq!(from_pairs(&[]).endpoint, "https://huggingface.co");
    }
}
