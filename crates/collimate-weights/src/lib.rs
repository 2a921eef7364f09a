//! The files of Hugging Face folders: weights, mapped and written as safetensors, and what stands beside them.
//!
//! The crate knows how tensors are divided among files, and how files name, stack and pack them; which tensors a model has is
//! for `collimate-hf` to say. It must not know burn, devices or how a model is computed. Everything downloaded is untrusted: files
//! are bounded in size, names are checked, and nothing in a folder is ever executed.
//!
//! Start with [`ModelFolder`], a folder that is read, and its [`WeightFiles`]; [`write_model`] writes one.

mod model_file;
mod model_folder;
mod shards;
mod side_files;
mod stacked;
mod storage_dtype;
mod weights;
mod write_weights;

pub use model_file::is_model_file;
pub use model_folder::{ModelFolder, read_config};
pub use shards::{has_weights, pickle_in};
pub use side_files::{SIDE_FILES, copy_files, copy_side_files, side_files};
pub use storage_dtype::StorageDtype;
pub use weights::{KeptTensor, Storage, WeightCheck, WeightFiles};
pub use write_weights::{check_output, write_model, write_model_like, write_safetensors, write_safetensors_of};
