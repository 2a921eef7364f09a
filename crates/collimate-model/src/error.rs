//! Everything that can go wrong between a model folder and its numbers.

use std::io;
use std::path::PathBuf;

use collimate_files::WriteError;
use thiserror::Error;

/// Why a model or an adapter could not be read, checked, written or merged. Each names the file, and the field or
/// tensor where it knows them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A token id is not in the model's vocabulary.
    #[error("token {token} is outside the model's vocabulary of {vocab_size}: the tokenizer is of another model")]
    TokenOutOfRange {
        /// The token id.
        token: u32,
        /// Number of tokens that the model has.
        vocab_size: usize,
    },

    /// A sequence is so long that the model's rotary scaling would depend on its length: a prompt's numbers would depend
    /// on the response after it.
    #[error(
        "a sequence of {length} tokens is longer than the {limit} up to which the model's rotary scaling (dynamic or \
         longrope) is the same for every sequence: set max_length"
    )]
    SequenceTooLong {
        /// Tokens of prompt and response.
        length: usize,
        /// The longest that can be scored.
        limit: usize,
    },

    /// A file could not be written; what was there before stays.
    #[error(transparent)]
    Write(#[from] WriteError),

    /// A file could not be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A weight is not a number, or infinite.
    #[error("{}: tensor \"{tensor}\": value {place} is {value}: the file is damaged, or its training diverged", path.display())]
    WeightNotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Which of its values, counted from 0.
        place: usize,
        /// The value.
        value: f32,
    },

    /// A model's tokenizer cannot be used.
    #[error("{message}")]
    Tokenizer {
        /// What is wrong with it; names the file.
        message: String,
    },

    /// A file that must be there is not.
    #[error("{}: no such file: {remedy}", path.display())]
    MissingFile {
        /// The file looked for.
        path: PathBuf,
        /// What it is for and what to do about it.
        remedy: String,
    },

    /// What should be a file is a folder, a device or a pipe.
    #[error("{}: it is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },

    /// A file is larger than any of its kind.
    #[error("{}: it has more than {limit} bytes, which no such file needs", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read, in bytes.
        limit: u64,
    },

    /// A file is not JSON.
    #[error("{}: not valid JSON: {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        message: String,
    },

    /// A field of a configuration has a value that it cannot have.
    #[error("{}: field \"{field}\": expected {expected}, found {found}", path.display())]
    Field {
        /// The configuration file.
        path: PathBuf,
        /// The field, dotted where nested: `rope_scaling.factor`.
        field: String,
        /// What it may be.
        expected: String,
        /// What it is, as JSON.
        found: String,
    },

    /// The configuration asks for something that exists elsewhere but not here.
    #[error("{}: field \"{field}\": {found} is not supported; {remedy}", path.display())]
    Unsupported {
        /// The configuration file.
        path: PathBuf,
        /// The field, dotted where nested.
        field: String,
        /// What it is, as JSON.
        found: String,
        /// What is supported, or what to do.
        remedy: String,
    },

    /// The model's architecture is none of those known here.
    #[error("{}: architecture \"{found}\" is not supported; supported: {}{hint}", path.display(), supported.join(", "))]
    UnsupportedArchitecture {
        /// The configuration file.
        path: PathBuf,
        /// `model_type` as the file has it.
        found: String,
        /// Every `model_type` that is known.
        supported: Vec<&'static str>,
        /// What is said of code in the folder, where the configuration names any.
        hint: &'static str,
    },

    /// The sizes of a configuration make a model that no memory can address.
    #[error("{}: the sizes give a model of more parameters than can be addressed: {sizes}", path.display())]
    TooLarge {
        /// The configuration file.
        path: PathBuf,
        /// The sizes, by name.
        sizes: String,
    },

    /// A folder has no weights at all.
    #[error("{}: no weights: expected model.safetensors or model.safetensors.index.json{hint}", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
        /// What was found instead, if anything.
        hint: String,
    },

    /// A folder has weights only as Python pickles, which can run code when loaded.
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

    /// A folder has both one file of weights and an index of shards.
    #[error(
        "{}: has both model.safetensors and model.safetensors.index.json, which may disagree: remove one",
        path.display()
    )]
    AmbiguousWeights {
        /// The folder.
        path: PathBuf,
    },

    /// A file of weights is cut short, or its header is not true.
    #[error("{}: not a sound safetensors file: {message}", path.display())]
    BadWeightFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },

    /// An index lists a shard by a name that is not a plain file name.
    #[error("{}: shard \"{shard}\" is not a plain file name ending in .safetensors", index.display())]
    BadShardName {
        /// The index file.
        index: PathBuf,
        /// The name as listed.
        shard: String,
    },

    /// An index lists a shard that is not in the folder.
    #[error("{}: shard \"{shard}\" is missing (it should hold \"{tensor}\"): the download is incomplete", index.display())]
    MissingShard {
        /// The index file.
        index: PathBuf,
        /// The shard's name.
        shard: String,
        /// A tensor that it should hold.
        tensor: String,
    },

    /// An index says that a shard holds a tensor, and it does not.
    #[error("{}: tensor \"{tensor}\" is not in \"{shard}\" where the index puts it", index.display())]
    NotInShard {
        /// The index file.
        index: PathBuf,
        /// The shard's name.
        shard: String,
        /// The tensor.
        tensor: String,
    },

    /// A shard holds a tensor that the index does not give to it: unlisted, or a second copy.
    #[error("{}: shard \"{shard}\" holds tensor \"{tensor}\", which the index {says}", index.display())]
    NotInIndex {
        /// The index file.
        index: PathBuf,
        /// The shard's name.
        shard: String,
        /// The tensor.
        tensor: String,
        /// What the index says of it.
        says: String,
    },

    /// A tensor of the architecture is not in the weights.
    #[error("{}: missing tensor \"{tensor}\"{}", path.display(), others(*num_missing, "missing"))]
    MissingTensor {
        /// The folder or file.
        path: PathBuf,
        /// The first missing tensor.
        tensor: String,
        /// How many are missing in all.
        num_missing: usize,
    },

    /// The weights hold a tensor that the architecture does not have.
    #[error("{}: unexpected tensor \"{tensor}\"{}", path.display(), others(*num_unexpected, "unexpected"))]
    UnexpectedTensor {
        /// The folder or file.
        path: PathBuf,
        /// The first unexpected tensor.
        tensor: String,
        /// How many are unexpected in all.
        num_unexpected: usize,
    },

    /// A tensor has another shape than the configuration says.
    #[error("{}: tensor \"{tensor}\": expected shape {expected:?}, found {found:?}", path.display())]
    TensorShape {
        /// The folder or file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape that the configuration gives.
        expected: Vec<usize>,
        /// The shape that it has.
        found: Vec<usize>,
    },

    /// A tensor is stored in a type that is not read.
    #[error("{}: tensor \"{tensor}\": dtype {found} is not supported; supported: F32, BF16, F16", path.display())]
    UnsupportedDtype {
        /// The folder or file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its dtype, as safetensors calls it.
        found: String,
    },

    /// A value is finite in float32 and infinite in the type that it should be stored in.
    #[error("{}: tensor \"{tensor}\": {value} does not fit {dtype}: store it as F32 or BF16", path.display())]
    ValueTooLarge {
        /// The file being written.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The value.
        value: f32,
        /// The storage type.
        dtype: String,
    },

    /// The same tensor was given twice to be written.
    #[error("{}: tensor \"{tensor}\" was given twice", path.display())]
    DuplicateTensor {
        /// The folder or file being written.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },

    /// A file of a folder is a link to elsewhere, and would be copied.
    #[error("{}: a link out of the folder, which is not copied: put the file itself there, or remove the link", path.display())]
    LinkOutside {
        /// The link.
        path: PathBuf,
    },

    /// The folder to write to holds weights already or is being read, or the file to write is there.
    #[error("{}: will not write here: {reason}", path.display())]
    OutputTaken {
        /// The folder or file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },

    /// A tensor of an adapter belongs to no linear module of the model.
    #[error("{}: \"{key}\" matches no linear module of the model{hint}", path.display())]
    AdapterKey {
        /// The adapter's file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The nearest module, or what kind of tensor it is.
        hint: String,
    },

    /// A module has one of its two adapter matrices only.
    #[error("{}: module \"{module}\" has no {missing}", path.display())]
    AdapterHalf {
        /// The adapter's file.
        path: PathBuf,
        /// The module.
        module: String,
        /// `lora_A` or `lora_B`.
        missing: &'static str,
    },

    /// A module that the adapter's targets name has no matrices in its file.
    #[error("{}: module \"{module}\" is among the targets and has no tensors{}", path.display(), others(*num_missing, "missing"))]
    AdapterModuleMissing {
        /// The adapter's file.
        path: PathBuf,
        /// The first such module.
        module: String,
        /// How many there are.
        num_missing: usize,
    },

    /// A target of an adapter names no linear module of the model.
    #[error("LoRA target \"{target}\" matches no linear module of the model; there are: {}", known.join(", "))]
    UnknownTarget {
        /// The target.
        target: String,
        /// The last parts of the names of all linear modules.
        known: Vec<String>,
    },

    /// What was written and read back is not what was to be written.
    #[error("{}: tensor \"{tensor}\" read back differs from what was written", path.display())]
    ReadBack {
        /// The folder.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
}

impl ModelError {
    /// An input or output error of `path`, for `map_err`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// ` (and 3 others missing)`, or nothing where there is but one.
fn others(count: usize, what: &str) -> String {
    match count {
        0 | 1 => String::new(),
        2 => format!(" (and 1 other {what})"),
        n => format!(" (and {} others {what})", n - 1),
    }
}
