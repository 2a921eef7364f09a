//! Why something from the hub is not available, and what to do about it.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::{HubName, NameError};

/// A model or data set is not available.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HubError {
    /// The text is not a valid hub name.
    #[error(transparent)]
    Name(#[from] NameError),

    /// The repository, revision or file does not exist.
    #[error("{name}: not found on {endpoint} ({what}); is it spelled correctly, and does the revision exist?")]
    NotFound {
        /// The requested name.
        name: Box<HubName>,
        /// Address of the hub.
        endpoint: String,
        /// The file or other part that was not found.
        what: String,
    },

    /// The hub denies access.
    #[error(
        "{name}: {endpoint} refuses access (status {status}): it is private or gated, or does not exist; accept its \
         conditions at {endpoint}/{} and give a token of an account with access, in HF_TOKEN or by `hf auth login`{}",
        name.page(), tokens(*has_token)
    )]
    Access {
        /// The requested name.
        name: Box<HubName>,
        /// Address of the hub.
        endpoint: String,
        /// HTTP status of the response.
        status: u16,
        /// Whether a token was sent.
        has_token: bool,
    },

    /// The hub could not be reached.
    #[error(
        "{name}: {endpoint} cannot be reached: {problem}; to use only what is cached, add --offline (or \
         HF_HUB_OFFLINE=1, or `offline: true`)"
    )]
    Network {
        /// The requested name.
        name: Box<HubName>,
        /// Address of the hub.
        endpoint: String,
        /// What went wrong.
        problem: String,
    },

    /// A download stopped and did not go on.
    #[error(
        "{name}: {url}: the download stopped at {done} of {size} bytes: {problem}; what is there is kept, and the same \
         command goes on from it; a slow network may need a longer HF_HUB_DOWNLOAD_TIMEOUT (seconds)"
    )]
    Stopped {
        /// The requested name.
        name: Box<HubName>,
        /// Address of the file.
        url: String,
        /// Bytes that are there.
        done: u64,
        /// Bytes of the whole file.
        size: u64,
        /// What went wrong.
        problem: String,
    },

    /// A variable of the environment has no valid value.
    #[error("{problem}")]
    Setting {
        /// Which variable, and what it may be.
        problem: String,
    },

    /// Offline, and the cache does not have it.
    #[error(
        "{name}: {what} is not in {}, and offline nothing is downloaded; run once without --offline (and without \
         HF_HUB_OFFLINE), or name a local file or folder",
        cache.display()
    )]
    Missing {
        /// The requested name.
        name: Box<HubName>,
        /// The missing file or other part.
        what: String,
        /// Folder of the cache.
        cache: PathBuf,
    },

    /// The repository lacks what is needed.
    #[error("{name}: {problem}")]
    Unfit {
        /// The requested name.
        name: Box<HubName>,
        /// What is missing, and what to do about it.
        problem: String,
    },

    /// A file could not be stored, or arrived damaged.
    #[error("{name}: {file}: {problem}")]
    File {
        /// The requested name.
        name: Box<HubName>,
        /// The file.
        file: String,
        /// What went wrong.
        problem: String,
    },
}

impl HubError {
    pub(crate) fn missing(name: &HubName, what: &str, cache: &Path) -> Self {
        Self::Missing { name: Box::new(name.clone()), what: what.to_owned(), cache: cache.to_owned() }
    }

    pub(crate) fn file(name: &HubName, file: &str, problem: String) -> Self {
        Self::File { name: Box::new(name.clone()), file: file.to_owned(), problem }
    }

    pub(crate) fn unfit(name: &HubName, problem: impl Into<String>) -> Self {
        Self::Unfit { name: Box::new(name.clone()), problem: problem.into() }
    }
}

fn tokens(has_token: bool) -> &'static str {
    if has_token { " (a token was sent)" } else { " (none was sent)" }
}
