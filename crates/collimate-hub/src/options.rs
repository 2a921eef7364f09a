//! How to reach the hub: address, cache, token, network.

use std::env;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use collimate_files::read_text;

/// Size limit of the file of a token.
const MAX_TOKEN_BYTES: u64 = 10_000;

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
    /// Show the progress of downloads.
    pub progress: bool,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// What is wrong with a variable of the environment; reported when the network is first used.
    pub problem: Option<String>,
}

/// How long to wait for the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the answer to a question: which files a repository has, how long one of them is.
    pub question: Duration,
    /// For a connection to download from, and for each byte; not for a whole file.
    pub download: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { question: Duration::from_secs(10), download: Duration::from_secs(10) }
    }
}

impl HubOptions {
    /// Reads the environment as `huggingface_hub` does: `HF_ENDPOINT`; `HF_HUB_CACHE`, else `HF_HOME/hub`, else
    /// `~/.cache/huggingface/hub`; `HF_TOKEN`, else the file `HF_TOKEN_PATH`, else `token` next to the cache;
    /// `HF_HUB_OFFLINE`; `HF_HUB_ETAG_TIMEOUT` and `HF_HUB_DOWNLOAD_TIMEOUT` in seconds; `HF_HUB_DISABLE_PROGRESS_BARS`.
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
        let stored = || read_text(&token_file, MAX_TOKEN_BYTES).ok();
        let token = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN")).or_else(stored);
        let mut problem = None;
        let mut timeout = |name: &str, default: Duration| match variable(name).map(|text| parse_seconds(name, &text)) {
            None => default,
            Some(Ok(timeout)) => timeout,
            Some(Err(wrong)) => {
                problem = Some(wrong);
                default
            }
        };
        let defaults = Timeouts::default();
        let timeouts = Timeouts {
            question: timeout("HF_HUB_ETAG_TIMEOUT", defaults.question),
            download: timeout("HF_HUB_DOWNLOAD_TIMEOUT", defaults.download),
        };
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
            timeouts,
            problem,
        }
    }
}

/// Seconds above 0, and at most a day.
fn parse_seconds(name: &str, text: &str) -> Result<Duration, String> {
    let seconds = text.trim().parse().ok().filter(|seconds: &f64| (0.001..=86_400.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("{name}: expected seconds, from 0.001 to 86400, found \"{text}\""))
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

    #[rstest]
    #[case(&[], 10.0, None)]
    #[case(&[("HF_HUB_ETAG_TIMEOUT", "0.5")], 0.5, None)]
    #[case(&[("HF_HUB_ETAG_TIMEOUT", "ten")], 10.0, Some("HF_HUB_ETAG_TIMEOUT: expected seconds"))]
    #[case(&[("HF_HUB_ETAG_TIMEOUT", "0")], 10.0, Some("found \"0\""))]
    #[case(&[("HF_HUB_DOWNLOAD_TIMEOUT", "-1")], 10.0, Some("HF_HUB_DOWNLOAD_TIMEOUT"))]
    fn timeouts_are_variables(
        #[case] variables: &[(&str, &str)],
        #[case] question: f64,
        #[case] problem: Option<&str>,
    ) {
        let options = from_pairs(variables);
        assert_eq!(options.timeouts.question, Duration::from_secs_f64(question));
        assert_eq!(options.problem.is_some(), problem.is_some());
        assert!(options.problem.unwrap_or_default().contains(problem.unwrap_or_default()));
    }

    #[test]
    fn an_endpoint_loses_its_trailing_slash() {
        assert_eq!(from_pairs(&[("HF_ENDPOINT", "http://127.0.0.1:9/")]).endpoint, "http://127.0.0.1:9");
        assert_eq!(from_pairs(&[]).endpoint, "https://huggingface.co");
    }
}
