//! Errors of shards that do not fit their index.

use std::path::PathBuf;

use thiserror::Error;

/// Why the weights of a folder cannot be found by its index.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShardError {
    /// An index lists a shard under something other than a plain file name.
    #[error("{}: shard \"{shard}\" is not a plain file name ending in .safetensors", index.display())]
    BadShardName {
        /// The index file.
        index: PathBuf,
        /// The listed name.
        shard: String,
    },

    /// An index lists a shard that is not in the folder.
    #[error("{}: shard \"{shard}\" is missing (it should hold \"{tensor}\"): the download is incomplete", index.display())]
    MissingShard {
        /// The index file.
        index: PathBuf,
        /// The shard's name.
        shard: String,
        /// A tensor that the shard should hold.
        tensor: String,
    },

    /// A shard lacks a tensor that the index puts there.
    #[error("{}: tensor \"{tensor}\" is not in \"{shard}\" where the index puts it", index.display())]
    NotInShard {
        /// The index file.
        index: PathBuf,
        /// The shard's name.
        shard: String,
        /// The tensor.
        tensor: String,
    },

    /// A shard holds a tensor that the index does not put there: unlisted, or a second copy.
    #[error("{}: shard \"{shard}\" holds tensor \"{tensor}\", which the index {says}", index.display())]
    NotInIndex {
        /// The index file.
        index: PathBuf,
        /// The shard's name.
        shard: String,
        /// The tensor.
        tensor: String,
        /// What the index does with it instead, as a verb phrase.
        says: String,
    },
}
