//! Images of prompts: from the bytes of a file to what a vision tower reads.
//!
//! ```text
//! bytes → decode → RgbImage → smart_resize, resize → ResizedImage → patches → pixel values
//! ```
//!
//! The crate must not know tensors, models, or how data is laid out. Everything that it reads was downloaded: sizes are read
//! before pixels are allocated, and nothing is fetched.
//!
//! Start with [`decode`] and [`ImageSettings`]; [`ResizedImage`] is what is held of an image, three bytes a pixel, and
//! [`ResizedImage::patches`] makes its numbers, eight times as many bytes, when they are needed.

mod decode;
mod encode;
mod error;
mod exif;
mod grid;
mod patches;
mod pixels;
mod prompt;
mod resize;
mod settings;
mod smart_resize;

pub use decode::{Limits, decode, dimensions, is_image};
pub use error::ImageError;
pub use grid::Grid;
pub use patches::ResizedImage;
pub use pixels::RgbImage;
pub use prompt::{AHEAD_BYTES, ImageSource, PromptImage};
pub use resize::resize;
pub use settings::ImageSettings;
pub use smart_resize::{PixelRange, smart_resize};
