//! Log-probs of a reference model, kept on disk by what they depend on.
//!
//! A [`Scorer`] says how log-probs are computed: model, adapter, dtype, backend. Each scorer has a file, a [`LogpStore`]; in it a
//! response to a prompt is found by a key of their token ids. An [`Identity`] is what a model or an adapter is, wherever its
//! folder lies. The crate must not know how a log-prob is computed.
//!
//! ```
//! use collimate_cache::{KERNEL_VERSION, LogpStore, Scorer, response_keys};
//!
//! let folder = tempfile::tempdir()?;
//! let (dtype, backend) = ("float32", "flex");
//! let model = blake3::hash(b"weights and configuration");
//! let (adapter, quantization, share_prompt) = (None, Some("nf4"), true);
//! let scorer = Scorer { model, adapter, dtype, matmul_precision: "highest", quantization, backend, share_prompt, kernel_version: KERNEL_VERSION };
//! let scorer = scorer.id();
//! let (mut store, _) = LogpStore::open(folder.path(), scorer);
//! let keys = response_keys(&scorer, &[1, 2, 3], [[4, 5].as_slice()].into_iter());
//! store.insert([(keys[0], -1.5)].into_iter())?;
//! let (mut store, _) = LogpStore::open(folder.path(), scorer);
//! store.load(keys.iter().copied())?;
//! assert_eq!(store.get(keys[0]), Some(-1.5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod identity;
mod key;
mod store;
#[cfg(test)]
mod tests;

pub use identity::Identity;
pub use key::{KERNEL_VERSION, ResponseKey, Scorer, response_keys};
pub use store::LogpStore;
