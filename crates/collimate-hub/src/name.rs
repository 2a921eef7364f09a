//! Names on the hub: `org/name`, `org/name@revision`, `hf://datasets/org/name@revision/path`.

use std::fmt;
use std::path::Path;

use thiserror::Error;

/// The kind of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepoKind {
    /// A model or an adapter.
    Model,
    /// A data set.
    Dataset,
}

/// A repository on the hub at a revision, optionally with a path to some of its files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HubName {
    /// Model or data set.
    pub kind: RepoKind,
    /// `org/name`.
    pub id: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// A pattern of files within a data set; `None` for the whole repository.
    pub path: Option<String>,
}

/// Text that is not a valid hub name.
#[derive(Debug, Error)]
#[error("\"{text}\" is not a name on the hub: {problem}")]
pub struct NameError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Marks a name as one on the hub.
const SCHEME: &str = "hf://";

impl HubName {
    /// Parses `hf://…` as Python's `HfFileSystem` does (data sets begin with `datasets/`), or a bare `org/name`, optionally
    /// with `@revision`. Returns `None` for text that can only be a path.
    ///
    /// # Errors
    /// The text begins with `hf://` but is not a valid name.
    pub fn parse(text: &str, kind: RepoKind) -> Option<Result<Self, NameError>> {
        match text.strip_prefix(SCHEME) {
            Some(rest) => Some(
                Self::with_scheme(rest, kind)
                    .map_err(|problem| NameError { text: text.to_owned(), problem: problem.to_owned() }),
            ),
            None => Self::bare(text, kind).map(Ok),
        }
    }

    /// Interprets a path from a recipe or the command line: `hf://…`, or an `org/name` that does not exist locally, whose
    /// `org` is not a local folder either, and that does not look like a file name. `beside` is a further folder to look
    /// in, that of the recipe.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_path(path: &Path, kind: RepoKind, beside: Option<&Path>) -> Option<Result<Self, NameError>> {
        let text = path.to_str()?;
        if text.starts_with(SCHEME) {
            return Self::parse(text, kind);
        }
        let first = Path::new(text.split('/').next()?);
        // A misspelled local folder must not become a hub request, so `first` counts as well.
        let is_local = path.exists()
            || first.is_dir()
            || beside.is_some_and(|folder| folder.join(path).exists() || folder.join(first).is_dir());
        let is_file = [".jsonl", ".json", ".parquet", ".gz", ".zst", ".yaml", ".safetensors", ".bin"]
            .iter()
            .any(|ending| text.ends_with(ending));
        if is_local || is_file { None } else { Self::parse(text, kind) }
    }

    fn with_scheme(rest: &str, expected: RepoKind) -> Result<Self, &'static str> {
        let (kind, rest) = match (rest.strip_prefix("datasets/"), rest.strip_prefix("models/")) {
            (Some(rest), _) => (RepoKind::Dataset, rest),
            (None, Some(rest)) => (RepoKind::Model, rest),
            (None, None) if rest.starts_with("spaces/") => return Err("spaces hold neither models nor data"),
            (None, None) => (RepoKind::Model, rest),
        };
        match (kind, expected) {
            (RepoKind::Model, RepoKind::Dataset) => return Err("data sets are hf://datasets/org/name"),
            (RepoKind::Dataset, RepoKind::Model) => return Err("this is a data set; models are hf://org/name"),
            _ => {}
        }
        let mut parts = rest.splitn(2, '/');
        let (Some(org), Some(rest)) = (parts.next(), parts.next()) else {
            return Err("expected hf://org/name, or hf://datasets/org/name");
        };
        let (name, rest) = rest.split_at(rest.find(['@', '/']).unwrap_or(rest.len()));
        let (revision, path) = match rest.strip_prefix('@') {
            Some(rest) => revision(rest),
            None => ("main".to_owned(), rest.strip_prefix('/').unwrap_or_default()),
        };
        if !is_word(org) || !is_word(name) || !is_revision(&revision) {
            return Err("expected hf://org/name@revision, made of letters, digits, \"-\", \"_\" and \".\"");
        }
        let path = Some(path.trim_end_matches('/')).filter(|path| !path.is_empty()).map(str::to_owned);
        if kind == RepoKind::Model && path.is_some() {
            return Err("a model is a whole repository: hf://org/name");
        }
        Ok(Self { kind, id: format!("{org}/{name}"), revision, path })
    }

    fn bare(text: &str, kind: RepoKind) -> Option<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (org, name) = id.split_once('/')?;
        let fits = is_word(org) && is_word(name) && is_revision(revision);
        fits.then(|| Self { kind, id: id.to_owned(), revision: revision.to_owned(), path: None })
    }

    /// Path of its page on the hub.
    pub(crate) fn page(&self) -> String {
        match self.kind {
            RepoKind::Model => self.id.clone(),
            RepoKind::Dataset => format!("datasets/{}", self.id),
        }
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        if self.revision != "main" {
            write!(f, "@{}", self.revision)?;
        }
        self.path.as_ref().map_or(Ok(()), |path| write!(f, "/{path}"))
    }
}

/// Recovers `org/name@commit` from a path inside a hub cache; `None` for other paths.
pub fn name_of_snapshot(path: &Path) -> Option<String> {
    let mut parts = path.components().map(|part| part.as_os_str().to_str());
    let repository = parts.find_map(|part| {
        let part = part?;
        part.strip_prefix("models--").or_else(|| part.strip_prefix("datasets--"))
    })?;
    match (parts.next()?, parts.next()?) {
        (Some("snapshots"), Some(commit)) => Some(format!("{}@{commit}", repository.replacen("--", "/", 1))),
        _ => None,
    }
}

/// Splits a leading revision from the path after it. The hub's own branches contain slashes.
fn revision(text: &str) -> (String, &str) {
    let prefix = ["refs/convert/", "refs/pr/"].into_iter().find(|prefix| text.starts_with(prefix)).map_or(0, str::len);
    let end = text[prefix..].find('/').map_or(text.len(), |end| prefix + end);
    (text[..end].replace("%2F", "/"), text[end..].strip_prefix('/').unwrap_or_default())
}

/// Whether the text is safe as a component of a name: not a path, not an option, nothing a URL would interpret.
fn is_word(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty()
        && text.len() <= 96
        && text.chars().all(plain)
        && !text.starts_with(['.', '-'])
        && !text.contains("..")
}

/// Branches may contain slashes, but never `..`.
fn is_revision(text: &str) -> bool {
    text.split('/').all(is_word)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn name(kind: RepoKind, id: &str, revision: &str, path: Option<&str>) -> HubName {
        HubName { kind, id: id.to_owned(), revision: revision.to_owned(), path: path.map(str::to_owned) }
    }

    #[rstest]
    #[case("org/name", RepoKind::Model, "org/name", "main", None)]
    #[case("org/na.me-1_x@v1.0", RepoKind::Model, "org/na.me-1_x", "v1.0", None)]
    #[case("hf://org/name", RepoKind::Model, "org/name", "main", None)]
    #[case("hf://models/org/name@dev", RepoKind::Model, "org/name", "dev", None)]
    #[case("hf://datasets/org/name", RepoKind::Dataset, "org/name", "main", None)]
    #[case("hf://datasets/org/name/data/*.parquet", RepoKind::Dataset, "org/name", "main", Some("data/*.parquet"))]
    #[case("hf://datasets/org/name@v1/a.jsonl", RepoKind::Dataset, "org/name", "v1", Some("a.jsonl"))]
    #[case(
        "hf://datasets/org/name@refs/convert/parquet/default/train/0.parquet",
        RepoKind::Dataset,
        "org/name",
        "refs/convert/parquet",
        Some("default/train/0.parquet")
    )]
    #[case("hf://datasets/org/name@refs%2Fpr%2F3/x", RepoKind::Dataset, "org/name", "refs/pr/3", Some("x"))]
    fn names_are_parsed(
        #[case] text: &str,
        #[case] kind: RepoKind,
        #[case] id: &str,
        #[case] revision: &str,
        #[case] path: Option<&str>,
    ) {
        let found = HubName::parse(text, kind).expect("a name").expect("a sound name");
        assert_eq!(found, name(kind, id, revision, path));
    }

    #[rstest]
    #[case("models/base/deep")]
    #[case("./org/name")]
    #[case("../org")]
    #[case("/org/name")]
    #[case("name")]
    #[case("org/")]
    #[case("org/name with space")]
    #[case("org/..")]
    #[case("~/name")]
    #[case("org/name@../x")]
    fn paths_are_not_names(#[case] text: &str) {
        assert!(HubName::parse(text, RepoKind::Model).is_none(), "{text}");
    }

    #[test]
    fn a_path_is_a_name_only_if_nothing_local_matches() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("models/base")).unwrap();
        let is_name = |text: &str| HubName::from_path(Path::new(text), RepoKind::Model, Some(folder.path())).is_some();
        assert!(is_name("org/name") && is_name("hf://models/bas"));
        assert!(!is_name("models/base") && !is_name("models/bas") && !is_name("org/rows.jsonl"));
        assert!(!is_name(&format!("{}/x", folder.path().display())));
    }

    #[rstest]
    #[case("hf://", "expected hf://org/name")]
    #[case("hf://name", "expected hf://org/name")]
    #[case("hf://../etc/passwd", "made of letters, digits")]
    #[case("hf://org/name@", "made of letters, digits")]
    #[case("hf://spaces/org/name", "spaces hold neither")]
    #[case("hf://datasets/org/name", "this is a data set")]
    #[case("hf://org/name/config.json", "a model is a whole repository")]
    fn invalid_names_are_errors(#[case] text: &str, #[case] expected: &str) {
        let error = HubName::parse(text, RepoKind::Model).expect("a scheme").expect_err("no name").to_string();
        assert!(error.contains(expected) && error.contains(text), "{error}");
    }

    #[rstest]
    #[case("/c/hub/models--org--name/snapshots/abc", Some("org/name@abc"))]
    #[case("/c/datasets--org--a--b/snapshots/abc/data/x.parquet", Some("org/a--b@abc"))]
    #[case("/c/models--org--name/blobs/abc", None)]
    #[case("models/base", None)]
    fn a_cache_path_gives_the_name_of_its_repository(#[case] path: &str, #[case] expected: Option<&str>) {
        assert_eq!(name_of_snapshot(Path::new(path)).as_deref(), expected);
    }
}
