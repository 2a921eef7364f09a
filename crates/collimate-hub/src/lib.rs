//! Models and data sets by their names on the Hugging Face Hub.
//!
//! ```text
//! "org/name@revision" → HubName → Listing (commit, files) → files in the cache
//! ```
//!
//! The only crate that reaches the network, and only for what a user names there. Files lie in the cache that Python's
//! `huggingface_hub` uses, so nothing is fetched twice.
//!
//! Does not know what is in a file, but for the index that names the shards of a model. Never fetches pickled weights or
//! code.

mod error;
mod fetch;
mod name;
mod options;
mod wanted;

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use error::HubError;
pub use name::{HubName, RepoKind, name_of_snapshot};
pub use options::HubOptions;
use wanted::Wanted;

/// The files of a repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Hash of the commit.
    pub commit: String,
    /// Paths of the files in the repository, in the order of their names.
    pub files: Vec<String>,
}

/// A model or adapter in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder of its files.
    pub folder: PathBuf,
    /// Hash of the commit.
    pub commit: String,
}

/// The hub as these options reach it.
#[derive(Debug, Clone)]
pub struct Hub {
    options: HubOptions,
}

impl Hub {
    /// The hub, or with [`HubOptions::offline`] its cache alone.
    pub fn new(options: HubOptions) -> Self {
        Self { options }
    }

    /// How it is reached.
    pub fn options(&self) -> &HubOptions {
        &self.options
    }

    /// The files of a repository: of the hub, or offline those that the cache has.
    ///
    /// # Errors
    /// [`HubError`]: no such repository or revision, no access, no network, or nothing in the cache.
    pub fn list(&self, name: &HubName) -> Result<Listing, HubError> {
        match self.options.offline {
            true => fetch::list_cache(&self.options, name),
            false => fetch::list(&self.options, name),
        }
    }

    /// A file of a listing, in the cache.
    ///
    /// # Errors
    /// As [`Hub::list`], and a file that cannot be written or arrives incomplete.
    pub fn file(&self, name: &HubName, listing: &Listing, file: &str) -> Result<PathBuf, HubError> {
        let listed = listing.files.iter().any(|listed| listed == file);
        let found = fetch::cached(&self.options, name, &listing.commit, file);
        match (found, self.options.offline || !listed) {
            (Some(path), _) => Ok(path),
            (None, false) => fetch::download(&self.options, name, &listing.commit, file),
            (None, true) => Err(self.missing(name, file)),
        }
    }

    /// A model: its configuration, weights in safetensors, tokenizer and chat template.
    ///
    /// # Errors
    /// As [`Hub::file`]; a repository without a configuration or without safetensors.
    pub fn model(&self, name: &HubName) -> Result<Snapshot, HubError> {
        self.snapshot(name, Wanted::Model)
    }

    /// An adapter in the form of PEFT.
    ///
    /// # Errors
    /// As [`Hub::model`].
    pub fn adapter(&self, name: &HubName) -> Result<Snapshot, HubError> {
        self.snapshot(name, Wanted::Adapter)
    }

    /// Which files of a data set a name means: those that its path matches (`*`, `?`, `**`, or a folder), else all files
    /// of rows. `is_rows` tells those by their names.
    ///
    /// # Errors
    /// There is none.
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
                let unfit = |error: glob::PatternError| HubError::Unfit {
                    name: Box::new(name.clone()),
                    problem: error.to_string(),
                };
                let pattern = glob::Pattern::new(path).map_err(unfit)?;
                let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
                let folder = format!("{path}/");
                rows.filter(|file| pattern.matches_with(file, options) || file.starts_with(&folder)).cloned().collect()
            }
        };
        match files.is_empty() {
            false => Ok(files),
            true => Err(HubError::Unfit {
                name: Box::new(name.clone()),
                problem: "it has no Parquet or JSON Lines files of this name; what the hub converted is \
                          hf://datasets/ORG/NAME@refs/convert/parquet"
                    .to_owned(),
            }),
        }
    }

    fn snapshot(&self, name: &HubName, wanted: Wanted) -> Result<Snapshot, HubError> {
        let listing = self.list(name)?;
        let fetch = |file: &str| self.file(name, &listing, file);
        let incomplete = |problem: String| match self.options.offline {
            true => {
                HubError::Missing { name: Box::new(name.clone()), what: problem, cache: self.options.cache.clone() }
            }
            false => HubError::Unfit { name: Box::new(name.clone()), problem },
        };
        let mut folder = None;
        for file in wanted.files(&listing.files).map_err(incomplete)? {
            let path = fetch(file)?;
            if file == wanted::INDEX {
                for shard in wanted::shards(&path)
                    .map_err(|problem| HubError::Unfit { name: Box::new(name.clone()), problem })?
                {
                    fetch(&shard)?;
                }
            }
            folder = folder.or_else(|| path.parent().filter(|_| !file.contains('/')).map(Path::to_owned));
        }
        let nothing =
            || HubError::Unfit { name: Box::new(name.clone()), problem: "it has no files that are read".to_owned() };
        Ok(Snapshot { folder: folder.ok_or_else(nothing)?, commit: listing.commit.clone() })
    }

    fn missing(&self, name: &HubName, what: &str) -> HubError {
        match self.options.offline {
            true => HubError::Missing {
                name: Box::new(name.clone()),
                what: what.to_owned(),
                cache: self.options.cache.clone(),
            },
            false => HubError::Unfit { name: Box::new(name.clone()), problem: format!("it has no file {what}") },
        }
    }
}
