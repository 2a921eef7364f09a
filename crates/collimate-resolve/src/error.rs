//! Errors of finding what a recipe names.

use collimate_hf::HfError;
use collimate_hub::HubError;
use collimate_recipe::{Origin, RecipeError};
use thiserror::Error;

/// Something that a recipe names was not found or cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// A path does not exist, or a key's value does not fit what was found.
    #[error(transparent)]
    Recipe(#[from] RecipeError),

    /// A model or data set on the hub is not available.
    #[error("{origin}: key \"{key}\": {problem}")]
    Hub {
        /// The line that set the key.
        origin: Origin,
        /// The key.
        key: String,
        /// What is missing on the hub or in its cache, and what to do.
        problem: Box<HubError>,
    },

    /// The settings of the adapter to start from cannot be read.
    #[error(transparent)]
    Adapter(#[from] HfError),
}
