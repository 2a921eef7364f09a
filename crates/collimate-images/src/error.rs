//! What can be wrong with an image.

use std::path::PathBuf;

use thiserror::Error;

/// What is wrong with an image or its settings. Whoever knows the file, line and field puts them before it.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ImageError {
    /// The file cannot be read.
    #[error("{}: {problem}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// Another image than the one that was checked.
    #[error("the image {source_name} is not what it was when the data was read")]
    Changed {
        /// Where it is.
        source_name: String,
    },
    /// The bytes are of no format that is read.
    #[error("expected a PNG, JPEG or WebP image, found {found}")]
    Format {
        /// What they are instead.
        found: String,
    },
    /// The file is larger than is read.
    #[error("the image's file has {bytes} bytes, and at most {most} are read")]
    FileSize {
        /// Its bytes.
        bytes: u64,
        /// The most.
        most: u64,
    },
    /// More pixels than are decoded.
    #[error("the image has {width} x {height} pixels, and at most {most} are decoded")]
    TooLarge {
        /// Pixels of a row.
        width: u64,
        /// Rows.
        height: u64,
        /// Most pixels.
        most: u64,
    },
    /// Several pictures, one after the other.
    #[error("the image is animated ({frames} frames); expected a single picture")]
    Animated {
        /// How many.
        frames: u32,
    },
    /// The decoder refuses the bytes.
    #[error("a broken {format} image: {problem}")]
    Broken {
        /// PNG, JPEG or WebP.
        format: &'static str,
        /// What the decoder says.
        problem: String,
    },
    /// A kind of pixel that has no agreed meaning here.
    #[error("{what}; convert the image to 8-bit RGB")]
    Pixels {
        /// What they are.
        what: &'static str,
    },
    /// No size fits.
    #[error("an image of {width} x {height} pixels: one side must not be more than {most} times the other")]
    Aspect {
        /// Pixels of a row.
        width: usize,
        /// Rows.
        height: usize,
        /// The largest ratio.
        most: usize,
    },
    /// A field of an image processor's settings.
    #[error("field \"{field}\": expected {expected}, found {found}")]
    Setting {
        /// The field.
        field: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
}
