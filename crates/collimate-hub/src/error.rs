//! Why something of the hub cannot be had, and what to do.

use std::path::PathBuf;

use thiserror::Error;

use crate::HubName;

/// Why a model or data set of the hub cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HubError {
    /// The text is no name of the hub.
    #[error("\"{text}\" is no name of the hub: {problem}")]
    Name {
        /// The text.
        text: String,
        /// What is wrong with it.
        problem: String,
    },

    /// There is no such repository, revision or file.
    #[error("{name}: not found on {endpoint} ({what}); is it spelled right, and does the revision exist?")]
    NotFound {
        /// What was asked for.
        name: Box<HubName>,
        /// The hub's address.
        endpoint: String,
        /// The part that was asked for.
        what: String,
    },

    /// The hub does not let this user have it.
    #[error(
        "{name}: {endpoint} refuses access (status {status}): it is private or gated, or does not exist; accept its \
         conditions at {endpoint}/{} and give a token of an account that may read it, as HF_TOKEN or by `hf auth \
         login`{}",
        name.page(), tokens(*has_token)
    )]
    Access {
        /// What was asked for.
        name: Box<HubName>,
        /// The hub's address.
        endpoint: String,
        /// The status of its answer.
        status: u16,
        /// Whether a token was sent.
        has_token: bool,
    },

    /// The hub could not be reached.
    #[error(
        "{name}: {endpoint} cannot be reached: {problem}; with --offline (or HF_HUB_OFFLINE=1, or `offline: true`) what \
         the cache has is used"
    )]
    Network {
        /// What was asked for.
        name: Box<HubName>,
        /// The hub's address.
        endpoint: String,
        /// What went wrong.
        problem: String,
    },

    /// Something is not in the cache, and the network is not to be used.
    #[error(
        "{name}: {what} is not in {}, and offline nothing is fetched; run once without --offline (and without \
         HF_HUB_OFFLINE), or name a local file or folder",
        cache.display()
    )]
    Missing {
        /// What was asked for.
        name: Box<HubName>,
        /// The file, or what else is missing.
        what: String,
        /// Folder of the cache.
        cache: PathBuf,
    },

    /// The repository does not have what is needed.
    #[error("{name}: {problem}")]
    Unfit {
        /// What was asked for.
        name: Box<HubName>,
        /// What is missing and what to do.
        problem: String,
    },

    /// A file could not be stored, or what arrived is not the file.
    #[error("{name}: {file}: {problem}")]
    File {
        /// What was asked for.
        name: Box<HubName>,
        /// The file.
        file: String,
        /// What went wrong.
        problem: String,
    },
}

fn tokens(has_token: bool) -> &'static str {
    if has_token { " (a token was sent)" } else { " (none was sent)" }
}
