//! A file of tensors.

use std::path::{Path, PathBuf};

use collimate_hf::{HfError, HostTensor};
use collimate_weights::WeightFiles;
use thiserror::Error;

use crate::map::{Convolution, GROUPS, Norm};

/// Why tokens have no picture.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VqError {
    /// A file or one of its tensors cannot be read.
    #[error(transparent)]
    File(#[from] HfError),

    /// A tensor cannot be a part of a decoder.
    #[error("{}: tensor \"{tensor}\": {problem}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong, with what was expected and found.
        problem: String,
    },

    /// A list of tokens is not one of the decoder's pictures.
    #[error("expected {expected} tokens from 0 to {last}, found {found}")]
    Tokens {
        /// Tokens of a picture.
        expected: usize,
        /// The largest token.
        last: usize,
        /// The number of tokens, or the token that is too large.
        found: String,
    },

    /// The model is none of pictures.
    #[error("{}: its tokens are not those of pictures", path.display())]
    NoPictures {
        /// The model's folder.
        path: PathBuf,
    },
}

/// A file of tensors.
pub(crate) struct TensorFile {
    files: WeightFiles,
    path: PathBuf,
}

impl TensorFile {
    /// Opens a file; `remedy` says what it is for, if it is missing.
    pub(crate) fn open(path: &Path, remedy: &str) -> Result<Self, VqError> {
        if !path.is_file() {
            return Err(HfError::MissingFile { path: path.to_owned(), remedy: remedy.to_owned() }.into());
        }
        Ok(Self { files: WeightFiles::open_file(path)?, path: path.to_owned() })
    }

    /// Whether a layer is there.
    pub(crate) fn has(&self, layer: &str) -> bool {
        self.files.shape(&format!("{layer}.weight")).is_some()
    }

    /// Whether any tensor's name begins with this.
    pub(crate) fn has_any(&self, prefix: &str) -> bool {
        self.files.names().any(|name| name.starts_with(prefix))
    }

    /// Reads a tensor.
    pub(crate) fn read(&self, tensor: &str) -> Result<HostTensor, VqError> {
        Ok(self.files.read(tensor)?)
    }

    /// Reads a square convolution of `inputs` channels; the number of its outputs is the file's.
    pub(crate) fn convolution(&self, layer: &str, inputs: usize) -> Result<Convolution, VqError> {
        let name = format!("{layer}.weight");
        let HostTensor { shape, data } = self.read(&name)?;
        match shape.as_slice() {
            &[outputs, channels, side, across]
                if channels == inputs && side == across && matches!(side, 1 | 3) && outputs > 0 =>
            {
                let bias = self.vector(&format!("{layer}.bias"), outputs)?;
                Ok(Convolution::new(&data, bias, inputs, side))
            }
            _ => {
                let problem = format!("expected the shape [outputs, {inputs}, n, n] with n 1 or 3, found {shape:?}");
                Err(self.wrong(&name, problem))
            }
        }
    }

    /// Reads a group norm of `channels`.
    pub(crate) fn norm(&self, layer: &str, channels: usize) -> Result<Norm, VqError> {
        let name = format!("{layer}.weight");
        if !channels.is_multiple_of(GROUPS) {
            return Err(self.wrong(&name, format!("{channels} channels are not divided into {GROUPS} groups")));
        }
        Ok(Norm { weight: self.vector(&name, channels)?, bias: self.vector(&format!("{layer}.bias"), channels)? })
    }

    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, VqError> {
        let HostTensor { shape, data } = self.read(name)?;
        match shape == [length] {
            true => Ok(data),
            false => Err(self.wrong(name, format!("expected the shape [{length}], found {shape:?}"))),
        }
    }

    /// A tensor that cannot be used.
    pub(crate) fn wrong(&self, tensor: &str, problem: String) -> VqError {
        VqError::Tensor { path: self.path.clone(), tensor: tensor.to_owned(), problem }
    }
}
