//! Pictures of token maps: the codebooks and decoders of the quantizers that LlamaGen and VAR were published with, read by the
//! published names of their tensors, and PNG files.
//!
//! ```text
//! codebook   the codebook beside a VAR, from which its inputs are made
//! file       a file of tensors: what is missing or has another shape is named with file and tensor
//! map        what a decoder computes with: convolutions, group norms, attention over places
//! decoder    the decoder from a map of vectors to colors, in the two published layouts
//! pictures   tokens to a picture
//! image      pictures of bytes: grids and PNG files
//! ```
//!
//! Everything is computed in float32 on the processor, whatever the backend of the model that drew the tokens: a picture takes
//! one pass, and nothing is trained. There is no encoder. It must not know models, sessions and objectives.
//!
//! Letters: V entries of a codebook, C channels, h and w lines and columns of a map.

mod codebook;
mod decoder;
mod file;
mod image;
mod map;
mod pictures;

pub use codebook::read_codebook;
pub use file::VqError;
pub use image::Image;
pub use pictures::{PATCHES_FILE, PictureDecoder};
