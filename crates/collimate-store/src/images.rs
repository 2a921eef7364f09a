//! How the images of a prompt are laid out behind its tokens: where each is, what it was, and where its tokens are.

use std::path::{Path, PathBuf};

use collimate_images::{Grid, ImageSource, PromptImage};
use collimate_text::PlacedImage;

/// An image in a file, by its path in UTF-8.
const FILE: u32 = 0;
/// An image in the data, by its bytes.
const BYTES: u32 = 1;

/// Appends images: for each the kind and length of its source, its first token, its grids and its size as numbers of four bytes, then
/// its hash and its source.
pub(crate) fn push_images(bytes: &mut Vec<u8>, images: &[PlacedImage]) {
    for placed in images {
        let (kind, source) = match placed.image.source() {
            ImageSource::File(path) => (FILE, path.to_string_lossy().into_owned().into_bytes()),
            ImageSource::Bytes(own) => (BYTES, own.to_vec()),
        };
        let (grid, [height, width]) = (placed.image.grid(), placed.image.size());
        let numbers = [grid.rows, grid.columns, placed.grid.rows, placed.grid.columns, height, width];
        let numbers = [source.len(), placed.tokens.start].into_iter().chain(numbers).map(|number| number as u32);
        [kind].into_iter().chain(numbers).for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes.extend_from_slice(placed.image.hash());
        bytes.extend_from_slice(&source);
    }
}

/// The images in these bytes; `None` if they are not what [`push_images`] writes.
pub(crate) fn images(mut bytes: &[u8]) -> Option<Vec<PlacedImage>> {
    let mut images = Vec::new();
    while !bytes.is_empty() {
        let mut numbers = [0; 9];
        for number in &mut numbers {
            let (four, rest) = bytes.split_first_chunk()?;
            (*number, bytes) = (u32::from_le_bytes(*four), rest);
        }
        let [kind, len, start, rows, columns, merged_rows, merged_columns, height, width] =
            numbers.map(|number| number as usize);
        let (hash, rest) = bytes.split_first_chunk()?;
        let (source, rest) = rest.split_at_checked(len)?;
        bytes = rest;
        let source = match kind as u32 {
            FILE => ImageSource::File(PathBuf::from(Path::new(std::str::from_utf8(source).ok()?))),
            BYTES => ImageSource::Bytes(source.into()),
            _ => return None,
        };
        let grid = Grid { rows: merged_rows, columns: merged_columns };
        let image = PromptImage::known(source, *hash, Grid { rows, columns }, [height, width]);
        images.push(PlacedImage { image, tokens: start..start + grid.num_patches(), grid });
    }
    Some(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let image = |source, start: usize| {
            let (grid, merged) = (Grid { rows: 4, columns: 6 }, Grid { rows: 2, columns: 3 });
            let image = PromptImage::known(source, [7; 32], grid, [50, 90]);
            PlacedImage { image, tokens: start..start + 6, grid: merged }
        };
        let written = [
            image(ImageSource::File(PathBuf::from("data/é.png")), 3),
            image(ImageSource::Bytes(vec![1, 2, 3].into()), 20),
        ];
        let mut bytes = Vec::new();
        push_images(&mut bytes, &written);
        assert_eq!(images(&bytes).expect("images"), written);
        assert_eq!(images(&bytes).expect("images")[1].image.size(), [50, 90]);
        for end in 1..bytes.len() {
            // Cut anywhere it is broken, but for where the second image begins.
            let is_first = images(&bytes[..end]).is_some_and(|read| read == written[..1]);
            assert!(is_first || images(&bytes[..end]).is_none(), "{end}");
        }
        assert_eq!(images(&[]), Some(Vec::new()));
    }
}
