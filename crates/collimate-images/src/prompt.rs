//! An image of a prompt: where it is, what it was when it was checked, and its pixels when they are needed.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::decode::{Limits, decode};
use crate::error::ImageError;
use crate::grid::Grid;
use crate::patches::ResizedImage;
use crate::settings::ImageSettings;

/// Where the bytes of an image are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum ImageSource {
    /// In a file.
    File(PathBuf),
    /// In the data.
    Bytes(Arc<[u8]>),
}

impl ImageSource {
    /// The bytes of the image's file.
    ///
    /// # Errors
    /// It cannot be read, is no regular file, or is larger than `limits` allow.
    pub fn read(&self, limits: &Limits) -> Result<Arc<[u8]>, ImageError> {
        match self {
            Self::Bytes(bytes) => Ok(Arc::clone(bytes)),
            Self::File(path) => read_file(path, limits),
        }
    }
}

fn read_file(path: &Path, limits: &Limits) -> Result<Arc<[u8]>, ImageError> {
    let failed = |error: std::io::Error| ImageError::Read { path: path.to_owned(), problem: error.to_string() };
    // Opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(ImageError::Read { path: path.to_owned(), problem: "it is not a regular file".to_owned() });
    }
    let mut bytes = Vec::new();
    let most = limits.file_bytes;
    File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(failed)?;
    match bytes.len() as u64 {
        size if size > most => Err(ImageError::FileSize { bytes: metadata.len().max(size), most }),
        _ => Ok(bytes.into()),
    }
}

impl fmt::Debug for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
        }
    }
}

/// The most bytes of pixels that are loaded ahead of their use ([`PromptImage::prefetch`]).
pub const AHEAD_BYTES: u64 = 8 << 20;

/// An image of a prompt that was decoded once, to know that it can be, and is decoded again when its pixels are needed.
///
/// Clones share what is loaded.
#[derive(Clone)]
pub struct PromptImage(Arc<Inner>);

struct Inner {
    source: ImageSource,
    hash: [u8; 32],
    grid: Grid,
    size: [usize; 2],
    /// Its pixels, between [`PromptImage::prefetch`] and [`PromptImage::load`].
    loaded: Mutex<Option<ResizedImage>>,
}

impl PromptImage {
    /// Decodes an image and works out its patches.
    ///
    /// # Errors
    /// It cannot be read or decoded, or no size fits.
    pub fn check(source: ImageSource, settings: &ImageSettings) -> Result<Self, ImageError> {
        let limits = Limits::default();
        let bytes = source.read(&limits)?;
        let image = decode(&bytes, &limits)?;
        let [height, width] = settings.resized(image.height, image.width)?;
        let hash = *blake3::hash(&bytes).as_bytes();
        Ok(Self::known(source, hash, settings.grid(height, width), [image.height, image.width]))
    }

    /// An image that was checked before: its content's hash, its patches, and its height and width.
    pub fn known(source: ImageSource, hash: [u8; 32], grid: Grid, size: [usize; 2]) -> Self {
        Self(Arc::new(Inner { source, hash, grid, size, loaded: Mutex::new(None) }))
    }

    /// Where it is.
    pub fn source(&self) -> &ImageSource {
        &self.0.source
    }

    /// The hash of its file's content.
    pub fn hash(&self) -> &[u8; 32] {
        &self.0.hash
    }

    /// Its patches.
    pub fn grid(&self) -> Grid {
        self.0.grid
    }

    /// Height and width of its file's picture.
    pub fn size(&self) -> [usize; 2] {
        self.0.size
    }

    /// Whether both are clones of one, which share what is loaded.
    pub fn is_same_object(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether its file still has the content that was checked.
    pub fn is_unchanged(&self) -> bool {
        self.0.source.read(&Limits::default()).is_ok_and(|bytes| blake3::hash(&bytes).as_bytes() == &self.0.hash)
    }

    /// Loads its pixels ahead of [`PromptImage::load`], which reports what is wrong.
    pub fn prefetch(&self, settings: &ImageSettings) {
        let mut loaded = self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.is_none() {
            *loaded = self.resized(settings).ok();
        }
    }

    /// Its pixels at the size of its patches.
    ///
    /// # Errors
    /// It cannot be read or decoded any more, or is another image than the one that was checked.
    pub fn load(&self, settings: &ImageSettings) -> Result<ResizedImage, ImageError> {
        let loaded = self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner).take();
        loaded.map_or_else(|| self.resized(settings), Ok)
    }

    /// Its picture as a PNG file with sides of at most `longest` pixels, for people to look at.
    ///
    /// # Errors
    /// As [`PromptImage::load`], except that another image than the one that was checked is shown.
    pub fn thumbnail(&self, longest: usize) -> Result<Vec<u8>, ImageError> {
        let limits = Limits::default();
        decode(&self.0.source.read(&limits)?, &limits)?.thumbnail(longest).to_png()
    }

    fn resized(&self, settings: &ImageSettings) -> Result<ResizedImage, ImageError> {
        let limits = Limits::default();
        let bytes = self.0.source.read(&limits)?;
        let changed = || ImageError::Changed { source_name: format!("{:?}", self.0.source) };
        if blake3::hash(&bytes).as_bytes() != &self.0.hash {
            return Err(changed());
        }
        let resized = ResizedImage::new(&decode(&bytes, &limits)?, settings)?;
        if resized.grid == self.0.grid { Ok(resized) } else { Err(changed()) }
    }
}

impl PartialEq for PromptImage {
    fn eq(&self, other: &Self) -> bool {
        (&self.0.source, self.0.hash, self.0.grid) == (&other.0.source, other.0.hash, other.0.grid)
    }
}

impl Eq for PromptImage {}

impl fmt::Debug for PromptImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PromptImage").field("source", &self.0.source).field("grid", &self.0.grid).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(level: u8) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 60, 30);
        encoder.set_color(png::ColorType::Grayscale);
        let mut writer = encoder.write_header().expect("a header");
        writer.write_image_data(&[level; 1800]).expect("pixels");
        writer.finish().expect("an end");
        file
    }

    #[test]
    fn an_image_that_changed_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.png");
        std::fs::write(&path, png(1)).expect("a file");
        let settings = ImageSettings::default();
        let image = PromptImage::check(ImageSource::File(path.clone()), &settings).expect("an image");
        assert_eq!((image.size(), image.grid()), ([30, 60], Grid { rows: 4, columns: 6 }));
        image.prefetch(&settings);
        std::fs::write(&path, png(2)).expect("a file");
        assert!(image.load(&settings).is_ok(), "it was loaded before");
        assert!(matches!(image.load(&settings), Err(ImageError::Changed { .. })));
        std::fs::remove_file(&path).expect("a file");
        assert!(matches!(image.load(&settings), Err(ImageError::Read { .. })));
    }

    #[test]
    fn a_folder_is_no_image() {
        let dir = tempfile::tempdir().expect("a folder");
        let source = ImageSource::File(dir.path().to_owned());
        let error = PromptImage::check(source, &ImageSettings::default()).expect_err("a folder");
        assert!(error.to_string().ends_with("it is not a regular file"), "{error}");
    }
}
