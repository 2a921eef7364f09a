//! Everything that can go wrong with the files of a model or an adapter.

mod adapter;
mod shards;
mod unsaved;

use std::io;
use std::path::{Path, PathBuf};

use collimate_files::WriteError;
use collimate_quantized::QuantizedError;
use thiserror::Error;

pub use self::adapter::AdapterError;
pub use self::shards::ShardError;
pub use self::unsaved::UnsavedError;

/// Why a model or an adapter could not be read, checked, written or merged. Every variant names the file, and the field
/// or tensor, if there is one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HfError {
    /// A file could not be written; what was there before stays.
    #[error(transparent)]
    Write(#[from] WriteError),

    /// A file could not be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// A weight is NaN or infinite.
    #[error("{}: tensor \"{tensor}\": value {index} is {value}: the file is damaged, or its training diverged", path.display())]
    WeightNotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The value's index in the tensor, from 0.
        index: usize,
        /// The value.
        value: f32,
    },

    /// A required file is missing.
    #[error("{}: no such file: {remedy}", path.display())]
    MissingFile {
        /// The file looked for.
        path: PathBuf,
        /// What the file is for, or what to do about it.
        remedy: String,
    },

    /// A folder, a device or a pipe where a file was expected.
    #[error("{}: it is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },

    /// A file is not JSON.
    #[error("{}:{line}:{column}: not valid JSON: {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where parsing stopped.
        line: usize,
        /// Where in the line.
        column: usize,
        /// The parser's message, with line and column.
        message: String,
    },

    /// A field of a configuration has an invalid value.
    #[error("{}: field \"{field}\": expected {expected}, found {found}", path.display())]
    Field {
        /// The configuration file.
        path: PathBuf,
        /// The field, dotted where nested: `rope_scaling.factor`.
        field: String,
        /// What would be valid.
        expected: String,
        /// The value, as JSON.
        found: String,
    },

    /// The configuration asks for something that Collimate does not support.
    #[error("{}: field \"{field}\": {found} is not supported; {remedy}", path.display())]
    Unsupported {
        /// The configuration file.
        path: PathBuf,
        /// The field, dotted where nested.
        field: String,
        /// The value, as JSON.
        found: String,
        /// What is supported, or what to do instead.
        remedy: String,
    },

    /// The model belongs to no known family.
    #[error("{}: architecture \"{found}\" is not supported{nearest}; supported: {}{hint}", path.display(), supported.join(", "))]
    UnsupportedArchitecture {
        /// The configuration file.
        path: PathBuf,
        /// The file's `model_type`.
        found: String,
        /// Every known `model_type`.
        supported: Vec<&'static str>,
        /// A note on the known family that is nearest, and what of the file it does not know.
        nearest: String,
        /// A note about code in the folder, if the configuration names any.
        hint: &'static str,
    },

    /// The sizes of a configuration describe a model beyond any address space.
    #[error("{}: the sizes give a model of more parameters than can be addressed: {sizes}", path.display())]
    TooLarge {
        /// The configuration file.
        path: PathBuf,
        /// The sizes, by name.
        sizes: String,
    },

    /// A folder has no weights.
    #[error("{}: no weights: expected model.safetensors or model.safetensors.index.json{hint}", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
        /// What was found instead, if anything.
        hint: String,
    },

    /// A folder has only pickled weights, and loading those can run code.
    #[error(
        "{}: pickled weights are not read, since loading them can run code: convert them to safetensors, \
         e.g. load them with transformers (an adapter with peft) where you trust them, and call \
         save_pretrained(folder)",
        path.display()
    )]
    PickledWeights {
        /// The pickled file.
        path: PathBuf,
    },

    /// A weights file is truncated, or its header does not describe it.
    #[error("{}: not a sound safetensors file: {message}", path.display())]
    BadWeightFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },

    /// Index and shards of a model are inconsistent.
    #[error(transparent)]
    Shards(#[from] ShardError),

    /// The weights lack a tensor that the model needs.
    #[error("{}: missing tensor \"{tensor}\"{}", path.display(), others(*num_missing, "missing"))]
    MissingTensor {
        /// The folder or file.
        path: PathBuf,
        /// The first missing tensor.
        tensor: String,
        /// How many are missing in all.
        num_missing: usize,
    },

    /// The weights hold a tensor that the model does not have.
    #[error("{}: unexpected tensor \"{tensor}\"{}", path.display(), others(*num_unexpected, "unexpected"))]
    UnexpectedTensor {
        /// The folder or file.
        path: PathBuf,
        /// The first unexpected tensor.
        tensor: String,
        /// How many are unexpected in all.
        num_unexpected: usize,
    },

    /// A tensor's shape contradicts the configuration.
    #[error("{}: tensor \"{tensor}\": expected shape {expected:?}, found {found:?}", path.display())]
    TensorShape {
        /// The folder or file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape that follows from the configuration.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },

    /// A tensor is stored in an unsupported type.
    #[error("{}: tensor \"{tensor}\": dtype {found} is not supported; supported: F32, BF16, F16", path.display())]
    UnsupportedDtype {
        /// The folder or file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its dtype, as safetensors calls it.
        found: String,
    },

    /// A packed weight cannot be read, or a weight cannot be packed.
    #[error("{}: {source}", path.display())]
    Quantized {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong.
        source: QuantizedError,
    },

    /// Weights that no file can hold.
    #[error(transparent)]
    Unsaved(#[from] UnsavedError),

    /// A tensor was handed to the writer twice.
    #[error("{}: tensor \"{tensor}\" was given twice", path.display())]
    DuplicateTensor {
        /// The folder or file being written.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },

    /// A file to copy is a link that leads out of its folder.
    #[error(
        "{}: a link out of the folder to a file of another name and place than the model's, which is not copied: put the \
         file itself there, or remove the link",
        path.display()
    )]
    LinkOutside {
        /// The link.
        path: PathBuf,
    },

    /// The output folder already holds weights or is one of the inputs, or the output file exists.
    #[error("{}: will not write here: {reason}", path.display())]
    OutputTaken {
        /// The folder or file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },

    /// An adapter does not fit its model.
    #[error(transparent)]
    Adapter(#[from] AdapterError),

    /// A tensor read back differs from what was written.
    #[error("{}: tensor \"{tensor}\" read back differs from what was written", path.display())]
    ReadBack {
        /// The folder.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
}

impl HfError {
    /// For `map_err`: attaches a path to an I/O error.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// What the parser found wrong with a file of JSON.
    pub fn json(path: &Path, error: &serde_json::Error) -> Self {
        Self::Json { path: path.to_owned(), line: error.line(), column: error.column(), message: error.to_string() }
    }
}

/// ` (and 3 others missing)`, or nothing if there is only one.
fn others(count: usize, what: &str) -> String {
    match count {
        0 | 1 => String::new(),
        2 => format!(" (and 1 other {what})"),
        n => format!(" (and {} others {what})", n - 1),
    }
}
