//! A memory-mapped safetensors file.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use collimate_files::open_regular;
use collimate_hf::HfError;
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::{Advice, UncheckedAdvice};
use safetensors::tensor::TensorInfo;

use super::header::{self, Header};

/// A file, and where in it the data begins.
#[derive(Debug)]
pub(super) struct MappedFile {
    pub(super) path: PathBuf,
    pub(super) bytes: Arc<Mmap>,
    /// The same bytes, for packed weights that stay in the file.
    pub(super) shared: Bytes,
    pub(super) data_start: usize,
    pub(super) header: Header,
}

/// A mapping that others own too.
struct Shared(Arc<Mmap>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl MappedFile {
    pub(super) fn open(path: &Path) -> Result<Self, HfError> {
        let file = open_regular(path).map_err(HfError::io(path))?;
        // SAFETY: the mapping is read-only. Its bytes change only if another process writes to the file in place;
        // Collimate itself writes new files and renames them, which leaves mapped ones unchanged.
        #[allow(unsafe_code)]
        let bytes = unsafe { Mmap::map(&file) }.map_err(HfError::io(path))?;
        let bad = |message: String| HfError::BadWeightFile { path: path.to_owned(), message };
        if bytes.starts_with(b"version https://git-lfs") {
            return Err(bad(
                "it is a Git LFS pointer, the weights themselves were not downloaded (git lfs pull)".into()
            ));
        }
        let (data_start, header) = header::parse(&bytes).map_err(bad)?;
        let bytes = Arc::new(bytes);
        let shared = Bytes::from_owner(Shared(Arc::clone(&bytes)));
        Ok(Self { path: path.to_owned(), bytes, shared, data_start, header })
    }

    /// Where a tensor's bytes are in the file.
    pub(super) fn range(&self, info: &TensorInfo) -> Range<usize> {
        let (start, end) = info.data_offsets;
        self.data_start + start..self.data_start + end
    }

    /// Has the system read a part of the data ahead of its use.
    pub(super) fn prefetch(&self, start: usize, end: usize) {
        // Advice that is not taken changes nothing but the time.
        #[cfg(unix)]
        let _ = self.bytes.advise_range(Advice::WillNeed, self.data_start + start, end - start);
        #[cfg(not(unix))]
        let _ = (start, end);
    }

    /// Drops mapped pages of the data; later reads fault them back in from the file.
    pub(super) fn release(&self, start: usize, end: usize) {
        // SAFETY: the mapping is read-only and backed by a file, so dropped pages come back with the file's bytes.
        #[cfg(unix)]
        #[allow(unsafe_code)]
        let _ = unsafe {
            self.bytes.unchecked_advise_range(UncheckedAdvice::DontNeed, self.data_start + start, end - start)
        };
        #[cfg(not(unix))]
        let _ = (start, end);
    }
}

/// Rejects NaN and infinite weights, which would spread to everything computed from them; `data` begins at number `first` of the
/// tensor.
pub(super) fn finite(path: &Path, tensor: &str, first: usize, data: &[f32]) -> Result<(), HfError> {
    match data.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(HfError::WeightNotFinite {
            path: path.to_owned(),
            tensor: tensor.to_owned(),
            index: first + index,
            value: data[index],
        }),
    }
}
