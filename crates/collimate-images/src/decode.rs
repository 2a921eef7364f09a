//! Decodes the bytes of a file, within limits.
//!
//! A picture means what `PIL.Image.open`, `exif_transpose` and `convert("RGB")` make of it: turned as EXIF says, palettes looked up,
//! alpha left out.

mod jpeg;
mod png;
mod webp;

use crate::error::ImageError;
use crate::pixels::RgbImage;

/// What an image may take, whatever its bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of its file.
    pub file_bytes: u64,
    /// Most pixels.
    pub pixels: u64,
}

impl Default for Limits {
    /// A quarter of a gigabyte of three bytes a pixel, which is where Pillow begins to warn.
    fn default() -> Self {
        Self { file_bytes: 256 << 20, pixels: (1 << 30) / 4 / 3 }
    }
}

impl Limits {
    /// Refuses a size before anything is allocated for it.
    fn check(&self, width: u64, height: u64) -> Result<(), ImageError> {
        match width.checked_mul(height) {
            Some(1..) if width * height <= self.pixels => Ok(()),
            _ => Err(ImageError::TooLarge { width, height, most: self.pixels }),
        }
    }

    /// Bytes that a decoder may hold: its output, and as much again for each of four channels.
    fn memory(&self) -> usize {
        usize::try_from(self.pixels.saturating_mul(8)).unwrap_or(usize::MAX)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Png,
    Jpeg,
    WebP,
}

impl Format {
    /// By the first bytes: a file's name is not asked.
    fn of(bytes: &[u8]) -> Result<Self, ImageError> {
        let found = match bytes {
            [0x89, b'P', b'N', b'G', ..] => return Ok(Self::Png),
            [0xff, 0xd8, 0xff, ..] => return Ok(Self::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => return Ok(Self::WebP),
            [] => "an empty file".to_owned(),
            [b'G', b'I', b'F', b'8', ..] => "a GIF".to_owned(),
            [b'B', b'M', ..] => "a BMP".to_owned(),
            [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => "a TIFF".to_owned(),
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => "an AVIF, HEIC or video".to_owned(),
            [b'<', ..] => "text that begins with \"<\"".to_owned(),
            _ => format!("a file that begins with {:02x?}", &bytes[..bytes.len().min(4)]),
        };
        Err(ImageError::Format { found })
    }
}

/// Whether bytes begin as a PNG, JPEG or WebP file does.
pub fn is_image(bytes: &[u8]) -> bool {
    Format::of(bytes).is_ok()
}

/// Decodes the bytes of a PNG, JPEG or WebP file.
///
/// # Errors
/// Another format, an animation, a broken file, or more than `limits` allow.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage, ImageError> {
    match checked_format(bytes, limits)? {
        Format::Png => png::decode(bytes, limits),
        Format::Jpeg => jpeg::decode(bytes, limits),
        Format::WebP => webp::decode(bytes, limits),
    }
}

/// Height and width of an image as it will be decoded, turned as EXIF says, without decoding its pixels.
///
/// # Errors
/// As [`decode`], but for what is broken in the pixels.
pub fn dimensions(bytes: &[u8], limits: &Limits) -> Result<[usize; 2], ImageError> {
    let (width, height, orientation) = match checked_format(bytes, limits)? {
        Format::Png => png::dimensions(bytes, limits)?,
        Format::Jpeg => jpeg::dimensions(bytes, limits)?,
        Format::WebP => webp::dimensions(bytes, limits)?,
    };
    Ok(if (5..=8).contains(&orientation) { [width, height] } else { [height, width] })
}

fn checked_format(bytes: &[u8], limits: &Limits) -> Result<Format, ImageError> {
    match bytes.len() as u64 {
        size if size > limits.file_bytes => Err(ImageError::FileSize { bytes: size, most: limits.file_bytes }),
        _ => Format::of(bytes),
    }
}
