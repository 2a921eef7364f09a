//! A model on a device, without tensors or a backend in its type: what the training loop and the command line work with.
//!
//! [`check_session`] reads everything about a model but its weights: configuration, adapter, headers; [`CheckedSession::open`]
//! reads those too. A [`Session`] scores, computes forward and backward, updates, generates, and writes and reads its
//! checkpoints. A pass never returns a tensor: [`Session::forward`] returns log-probs, and [`Session::backward`] takes the
//! derivative of the loss by each of them.
//!
//! ```no_run
//! use collimate_session::{Session as _, SessionOptions, open_session};
//!
//! let session = open_session(&SessionOptions::inference("models/base", None))?;
//! println!("{} parameters", session.summary().num_parameters);
//! # Ok::<(), collimate_session::SessionError>(())
//! ```

mod allowance;
mod answers;
mod computing;
mod error;
mod files;
mod gradient;
mod held;
mod input_folders;
mod open;
mod optimizer;
mod options;
mod outline;
mod recipe_lora;
mod session;
mod sharded;
mod shards;
mod share_of_machine;
mod strength;
mod unpacked;
mod weights;

pub use allowance::{Allowance, OVERHEAD, least_held};
pub use answers::{AnswerCost, AnswerSizes};
pub use computing::{backend_name, compute_dtype, computed_in, matmul_precision, quantization};
pub use error::SessionError;
pub use gradient::HostGradient;
pub use input_folders::InputFolders;
pub use open::{CheckedSession, SessionDraft, check_session, open_session};
pub use optimizer::{AdamW, UpdateOptions, UpdateStats};
pub use options::{SessionOptions, Training};
pub use outline::{ModelSummary, Outline};
pub use recipe_lora::lora_config;
pub use session::Session;
pub use share_of_machine::share_of_machine;
