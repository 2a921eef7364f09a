//! Writes the file with one tensor in memory at a time, then reads both ends back.

use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use collimate_files::{AtomicFile, WriteError, open_plain, remove_leftovers_beside};
use collimate_hf::{HfError, UnsavedError};

use crate::format::{ALIGNMENT, Entry, MAGIC, header, offsets};
use crate::source::{Source, TensorSource};
use crate::weights::Weights;

/// Refuses to replace anything but a GGUF file: it might be the model's own weights.
pub(crate) fn refuse_taken(output: &Path) -> Result<(), HfError> {
    let reason = match std::fs::symlink_metadata(output) {
        Err(_) => return Ok(()),
        Ok(metadata) if metadata.is_dir() => "it is a folder, and the output is a file",
        // What was written is read back.
        Ok(metadata) if !metadata.is_file() => "it is a link, a pipe or a device, and the output is a plain file",
        Ok(_) if is_gguf(output) => return Ok(()),
        Ok(_) => "there is a file of this name which is no GGUF file",
    };
    Err(HfError::OutputTaken { path: output.to_owned(), reason: reason.to_owned() })
}

/// Whether there is a plain file that begins as every GGUF file does.
pub fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; MAGIC.len()];
    open_plain(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *MAGIC
}

/// Writes the file and returns its size in bytes.
pub(crate) fn write(
    output: &Path,
    entries: &[Entry],
    tensors: &[TensorSource],
    weights: &Weights,
) -> Result<u64, HfError> {
    let failed = || WriteError::at(output);
    if let Some(folder) = output.parent() {
        std::fs::create_dir_all(folder).map_err(WriteError::at(folder))?;
    }
    remove_leftovers_beside(output);
    let header = header(entries, tensors);
    let mut file = BufWriter::new(AtomicFile::create(output)?);
    file.write_all(&header).map_err(failed())?;
    for tensor in tensors {
        each_piece(output, tensor, weights, &mut |bytes| Ok(file.write_all(bytes).map_err(failed())?))?;
        let num_bytes = tensor.num_bytes();
        let padding = num_bytes.next_multiple_of(ALIGNMENT) - num_bytes;
        file.write_all(&[0; ALIGNMENT][..padding]).map_err(failed())?;
    }
    let file = file.into_inner().map_err(|error| failed()(error.into_error()))?;
    // A file that is not what it should be never appears.
    let num_bytes = read_back(&Written { output, file: file.written_at() }, &header, tensors, weights)?;
    file.commit()?;
    Ok(num_bytes)
}

/// A file that is complete but not yet at its place.
struct Written<'a> {
    /// Its place, for errors.
    output: &'a Path,
    file: &'a Path,
}

/// Calls back with the encoded bytes of a tensor, in order; for stacked experts, one expert at a time.
fn each_piece(
    output: &Path,
    tensor: &TensorSource,
    weights: &Weights,
    take: &mut dyn FnMut(&[u8]) -> Result<(), HfError>,
) -> Result<(), HfError> {
    let mut piece = |values: &[f32]| {
        UnsavedError::check_finite(output, &tensor.name, values)?;
        // In chunks, so that a large embedding is never encoded at once.
        for values in values.chunks(1 << 20) {
            let bytes = tensor.stored.encode(values).map_err(|value| UnsavedError::TooLarge {
                path: output.to_owned(),
                tensor: tensor.name.clone(),
                value,
                dtype: tensor.stored.name().to_owned(),
            })?;
            take(&bytes)?;
        }
        Ok(())
    };
    match &tensor.source {
        Source::Values(values) => piece(values),
        Source::Weight(name) => piece(&weights.read(name)?.data),
        Source::OnePlus(name) => piece(&weights.read(name)?.data.iter().map(|value| value + 1.0).collect::<Vec<_>>()),
        Source::Interleaved { name, heads } => {
            let weight = weights.read(name)?;
            piece(&interleaved(&weight.data, *heads, weight.shape[0]))
        }
        Source::Stacked(names) => names.iter().try_for_each(|name| piece(&weights.read(name)?.data)),
    }
}

/// Reorders the rows of queries or keys. Hugging Face rotates row i of a head with row i + head_dim / 2, llama.cpp's Llama
/// rotates adjacent rows, so these two become adjacent.
fn interleaved(values: &[f32], heads: usize, num_rows: usize) -> Vec<f32> {
    let (width, half) = (values.len() / num_rows, num_rows / heads / 2);
    let rows =
        (0..heads).flat_map(|head| (0..half).flat_map(move |row| [2 * head * half + row, (2 * head + 1) * half + row]));
    rows.flat_map(|row| &values[row * width..(row + 1) * width]).copied().collect()
}

/// Compares the header and the first and last tensor with the file; returns its size.
fn read_back(
    written: &Written<'_>,
    header: &[u8],
    tensors: &[TensorSource],
    weights: &Weights,
) -> Result<u64, HfError> {
    let Written { output, file } = *written;
    let io = || HfError::io(output);
    let mut file = open_plain(file).map_err(io())?;
    let mut written = vec![0; header.len()];
    file.read_exact(&mut written).map_err(io())?;
    let differs = |tensor: &str| HfError::ReadBack { path: output.to_owned(), tensor: tensor.to_owned() };
    if written != header {
        return Err(differs("header"));
    }
    let ends = tensors.iter().zip(offsets(tensors)).collect::<Vec<_>>();
    for (tensor, offset) in ends.first().into_iter().chain(ends.last()) {
        file.seek(SeekFrom::Start((header.len() + offset) as u64)).map_err(io())?;
        each_piece(output, tensor, weights, &mut |expected| {
            let mut written = vec![0; expected.len()];
            file.read_exact(&mut written).map_err(io())?;
            if written == expected { Ok(()) } else { Err(differs(&tensor.name)) }
        })?;
    }
    file.metadata().map(|metadata| metadata.len()).map_err(io())
}

#[cfg(test)]
mod tests {
    use super::interleaved;

    #[test]
    fn halves_of_a_head_become_neighbors() {
        // Two heads of four rows, one column.
        let values: Vec<f32> = (0..8).map(|row| row as f32).collect();
        assert_eq!(interleaved(&values, 2, 8), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        // Both columns of a row stay together.
        let values: Vec<f32> = (0..8).map(|value| value as f32).collect();
        assert_eq!(interleaved(&values, 1, 4), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
    }
}
