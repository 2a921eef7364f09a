//! Models and data sets from the Hugging Face Hub, through its local cache.
//!
//! ```text
//! "org/name@revision" → HubName → Listing (commit, files) → paths in the cache
//! ```
//!
//! The only crate that uses the network, and only for repositories the user names. It shares the cache of Python's
//! `huggingface_hub`, so nothing is downloaded twice. It must not know what the files contain, except for the index that
//! lists a model's shards, and it never fetches pickled weights or code.
//!
//! ```text
//! address   where a redirect leads, and whether that is the hub
//! client    requests: timeouts, redirects, who gets the token
//! patience  how often one is tried again
//! fetch     what a repository has, and each of its files
//! transfer  the bytes of a file, in as many attempts as it takes
//! verify    their hash
//! cache     where they are kept
//! watch     what the user hears meanwhile
//! ```
//!
//! Read [`Hub`] and [`HubName`] first.
//!
//! ```
//! use collimate_hub::{HubName, RepoKind};
//!
//! let name = HubName::parse("hf://datasets/org/name@v1/data/*.parquet", RepoKind::Dataset).expect("a hub name")?;
//! assert_eq!((name.id.as_str(), name.revision.as_str()), ("org/name", "v1"));
//! assert_eq!(name.path.as_deref(), Some("data/*.parquet"));
//! // What can only be a path is left to the file system.
//! assert!(HubName::parse("./models/base", RepoKind::Model).is_none());
//! # Ok::<(), collimate_hub::HubError>(())
//! ```
//!
//! Downloading a model:
//!
//! ```no_run
//! # use collimate_hub::{Hub, HubError, HubName, HubOptions, RepoKind};
//! # fn main() -> Result<(), HubError> {
//! let name = HubName::parse("org/name", RepoKind::Model).expect("a hub name")?;
//! let snapshot = Hub::new(HubOptions::from_env()).model(&name)?;
//! println!("{} at commit {}", snapshot.folder.display(), snapshot.commit);
//! # Ok(())
//! # }
//! ```

mod address;
mod cache;
mod client;
mod error;
mod fetch;
mod name;
mod options;
mod patience;
mod transfer;
mod verify;
mod wanted;
mod watch;

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::Client;
pub use error::HubError;
pub use name::{HubName, NameError, RepoKind, name_of_snapshot};
pub use options::{HubOptions, Timeouts};
use wanted::Wanted;
pub use watch::Watch;

/// The files of a repository at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Hash of the commit.
    pub commit: String,
    /// Paths within the repository, sorted.
    pub files: Vec<String>,
}

/// A model or adapter in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder that holds its files.
    pub folder: PathBuf,
    /// Hash of the commit.
    pub commit: String,
}

/// Access to the hub, or offline to its cache alone.
#[derive(Debug, Clone)]
pub struct Hub {
    options: HubOptions,
    watch: Arc<dyn Watch>,
    agent: ureq::Agent,
}

impl Hub {
    /// Uses the network unless [`HubOptions::offline`] is set.
    pub fn new(options: HubOptions) -> Self {
        Self { options, watch: Arc::new(watch::Nobody), agent: client::agent() }
    }

    /// The same, and tells how downloads go.
    pub fn with_watch(self, watch: Arc<dyn Watch>) -> Self {
        Self { watch, ..self }
    }

    /// The options it was made with.
    pub fn options(&self) -> &HubOptions {
        &self.options
    }

    /// Lists a repository's files; offline, those already in the cache.
    ///
    /// # Errors
    /// The repository or revision does not exist, access is denied, the network fails, or the cache has nothing.
    pub fn list(&self, name: &HubName) -> Result<Listing, HubError> {
        match self.options.offline {
            true => fetch::list_cache(&self.options, name),
            false => fetch::list(&self.client(name)),
        }
    }

    /// Returns the cached path of a listed file, downloading it if necessary.
    ///
    /// # Errors
    /// As [`Hub::list`]; also if the file cannot be written, or its download stops or arrives damaged.
    pub fn file(&self, name: &HubName, listing: &Listing, file: &str) -> Result<PathBuf, HubError> {
        let listed = listing.files.iter().any(|listed| listed == file);
        let found = fetch::cached(&self.options, name, &listing.commit, file);
        match (found, self.options.offline || !listed) {
            (Some(path), _) => Ok(path),
            (None, false) => fetch::download(&self.client(name), &listing.commit, file),
            (None, true) if self.options.offline => Err(HubError::missing(name, file, &self.options.cache)),
            (None, true) => Err(HubError::unfit(name, format!("it has no file {file}"))),
        }
    }

    /// Fetches a model: configuration, safetensors, tokenizer and chat templates.
    ///
    /// # Errors
    /// As [`Hub::file`]; also if the repository has no configuration or no safetensors.
    pub fn model(&self, name: &HubName) -> Result<Snapshot, HubError> {
        self.snapshot(name, Wanted::Model)
    }

    /// Fetches a PEFT adapter.
    ///
    /// # Errors
    /// As [`Hub::model`].
    pub fn adapter(&self, name: &HubName) -> Result<Snapshot, HubError> {
        self.snapshot(name, Wanted::Adapter)
    }

    /// The data files a name refers to: those its path matches (`*`, `?`, `**`, or a folder), or all of them if it has
    /// no path. `is_rows` decides by name what counts as a data file.
    ///
    /// # Errors
    /// The path is not a valid pattern, or no file matches.
    pub fn data_files(
        &self,
        name: &HubName,
        listing: &Listing,
        is_rows: &dyn Fn(&Path) -> bool,
    ) -> Result<Vec<String>, HubError> {
        let rows = listing.files.iter().filter(|file| is_rows(Path::new(file)));
        let files: Vec<String> = match &name.path {
            None => rows.cloned().collect(),
            Some(path) => {
                let pattern = glob::Pattern::new(path).map_err(|error| HubError::unfit(name, error.to_string()))?;
                let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
                let folder = format!("{path}/");
                rows.filter(|file| pattern.matches_with(file, options) || file.starts_with(&folder)).cloned().collect()
            }
        };
        match files.is_empty() {
            false => Ok(files),
            true => Err(HubError::unfit(
                name,
                "it has no Parquet or JSON Lines files of this name; the hub's own conversion is at \
                 hf://datasets/ORG/NAME@refs/convert/parquet",
            )),
        }
    }

    fn client<'a>(&'a self, name: &'a HubName) -> Client<'a> {
        Client { options: &self.options, name, watch: &*self.watch, agent: &self.agent }
    }

    fn snapshot(&self, name: &HubName, wanted: Wanted) -> Result<Snapshot, HubError> {
        let listing = self.list(name)?;
        let fetch = |file: &str| self.file(name, &listing, file);
        // Offline, a file that the listing lacks may exist on the hub.
        let incomplete = |problem: String| match self.options.offline {
            true => HubError::missing(name, &problem, &self.options.cache),
            false => HubError::unfit(name, problem),
        };
        let mut folder = None;
        for file in wanted.files(&listing.files).map_err(incomplete)? {
            let path = fetch(file)?;
            if file == wanted::INDEX {
                for shard in wanted::shards(&path).map_err(|problem| HubError::unfit(name, problem))? {
                    fetch(&shard)?;
                }
            }
            folder = folder.or_else(|| path.parent().filter(|_| !file.contains('/')).map(Path::to_owned));
        }
        let nothing = || HubError::unfit(name, "it has no files we read");
        Ok(Snapshot { folder: folder.ok_or_else(nothing)?, commit: listing.commit.clone() })
    }
}
