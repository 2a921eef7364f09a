//! Pictures as tokens: a vector quantizer of 4 × 4 pixels, whose entries are pixels themselves.

use std::path::Path;

use collimate_files::WriteError;
use collimate_hf::{HfError, HostTensor};
use collimate_weights::{StorageDtype, WeightFiles, write_safetensors};

use crate::shapes::{CLASSES, Picture, SIDE, Shape};

/// Side of a patch in pixels.
const PATCH: usize = 4;
/// Tokens in a row of a picture.
pub const TOKENS: usize = SIDE / PATCH;
/// Number of entries, V.
pub const ENTRIES: usize = 64;
/// Pixels of an entry.
const PIXELS: usize = PATCH * PATCH;
/// The file beside the generator.
pub const FILE: &str = "vq.safetensors";
/// The tensor in it, [V, 16].
const TENSOR: &str = "quantize.embedding.weight";
/// Rounds of k-means.
const ROUNDS: usize = 25;

/// The entries of a codebook.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchCodebook {
    entries: Vec<[f32; PIXELS]>,
}

impl PatchCodebook {
    /// Learns one from random shapes by k-means; the same for the same seed.
    pub fn learn(seed: u64, pictures_per_class: u64) -> Self {
        let shapes = (0..CLASSES)
            .flat_map(|class| (0..pictures_per_class).map(move |number| Shape::random(class, seed, number)));
        let mut patches: Vec<[f32; PIXELS]> =
            shapes.flat_map(|shape| patches(&shape.draw()).collect::<Vec<_>>()).collect();
        patches.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        // Begins with patches that differ, spread over all that occur.
        let mut distinct = patches.clone();
        distinct.dedup();
        let start = |entry: usize| distinct[entry * distinct.len() / ENTRIES];
        let mut codebook = Self { entries: (0..ENTRIES).map(start).collect() };
        for _ in 0..ROUNDS {
            let (mut sums, mut counts) = (vec![[0.0_f32; PIXELS]; ENTRIES], vec![0_u32; ENTRIES]);
            for patch in &patches {
                let entry = codebook.nearest(patch);
                counts[entry] += 1;
                sums[entry].iter_mut().zip(patch).for_each(|(sum, pixel)| *sum += pixel);
            }
            for (entry, (sum, count)) in codebook.entries.iter_mut().zip(sums.iter().zip(&counts)) {
                if *count > 0 {
                    *entry = sum.map(|sum| sum / *count as f32);
                }
            }
        }
        codebook
    }

    /// Reads the file beside a generator.
    ///
    /// # Errors
    /// It is missing, or is no codebook of this size.
    pub fn read(folder: &Path) -> Result<Self, HfError> {
        let path = folder.join(FILE);
        let HostTensor { shape, data } = WeightFiles::open_file(&path)?.read(TENSOR)?;
        if shape != [ENTRIES, PIXELS] {
            let expected = vec![ENTRIES, PIXELS];
            return Err(HfError::TensorShape { path, tensor: TENSOR.to_owned(), expected, found: shape });
        }
        Ok(Self { entries: data.as_chunks().0.to_vec() })
    }

    /// Writes the file beside a generator.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), HfError> {
        std::fs::create_dir_all(folder).map_err(WriteError::at(folder))?;
        let tensor = HostTensor::new([ENTRIES, PIXELS], self.entries.concat());
        write_safetensors(&folder.join(FILE), [(TENSOR.to_owned(), tensor)], StorageDtype::F32)
    }

    /// The tokens of a picture, in reading order.
    pub fn encode(&self, picture: &[f32]) -> Vec<u32> {
        patches(picture).map(|patch| self.nearest(&patch) as u32).collect()
    }

    /// The picture of some tokens; one that is no entry is black.
    pub fn decode(&self, tokens: &[u32]) -> Picture {
        let mut picture = vec![0.0; SIDE * SIDE];
        for (place, token) in tokens.iter().take(TOKENS * TOKENS).enumerate() {
            let entry = self.entries.get(*token as usize).copied().unwrap_or_default();
            for (line, pixels) in entry.chunks(PATCH).enumerate() {
                let start = (place / TOKENS * PATCH + line) * SIDE + place % TOKENS * PATCH;
                picture[start..start + PATCH].copy_from_slice(pixels);
            }
        }
        picture
    }

    fn nearest(&self, patch: &[f32; PIXELS]) -> usize {
        let distance = |entry: &[f32; PIXELS]| entry.iter().zip(patch).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let mut best = (0, f32::INFINITY);
        for (index, entry) in self.entries.iter().enumerate() {
            let found = distance(entry);
            if found < best.1 {
                best = (index, found);
            }
        }
        best.0
    }
}

/// The patches of a picture, in reading order.
fn patches(picture: &[f32]) -> impl Iterator<Item = [f32; PIXELS]> {
    (0..TOKENS * TOKENS).map(move |place| {
        std::array::from_fn(|pixel| {
            let (y, x) = (place / TOKENS * PATCH + pixel / PATCH, place % TOKENS * PATCH + pixel % PATCH);
            picture.get(y * SIDE + x).copied().unwrap_or_default()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::Classifier;

    #[test]
    fn a_codebook_keeps_what_a_picture_shows_and_survives_its_file() {
        let codebook = PatchCodebook::learn(1, 6);
        let (folder, classifier) = (tempfile::tempdir().expect("a folder"), Classifier::new());
        codebook.write(folder.path()).expect("written");
        assert_eq!(PatchCodebook::read(folder.path()).expect("read"), codebook);
        let shown = (0..CLASSES).filter(|class| {
            let tokens = codebook.encode(&Shape::random(*class, 99, 5).draw());
            assert_eq!(tokens.len(), TOKENS * TOKENS);
            classifier.classify(&codebook.decode(&tokens)).class == *class
        });
        assert!(shown.count() >= 9);
    }
}
