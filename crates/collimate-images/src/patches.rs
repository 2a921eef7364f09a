//! A resized image, and its patches as a vision tower reads them.

use crate::error::ImageError;
use crate::grid::Grid;
use crate::pixels::RgbImage;
use crate::resize::resize;
use crate::settings::ImageSettings;

/// An image at the size at which a tower reads it, three bytes a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizedImage {
    /// Its pixels.
    pub image: RgbImage,
    /// Its patches.
    pub grid: Grid,
}

impl ResizedImage {
    /// Resizes an image.
    ///
    /// # Errors
    /// [`ImageError::Aspect`].
    pub fn new(image: &RgbImage, settings: &ImageSettings) -> Result<Self, ImageError> {
        let [height, width] = settings.resized(image.height, image.width)?;
        Ok(Self { image: resize(image, height, width), grid: settings.grid(height, width) })
    }

    /// Appends the normalized patches, one a row of [`ImageSettings::patch_numbers`]: squares of merged patches one after the
    /// other, in each the patches row by row; a patch is (channel, frame, y, x), with the one picture as every frame.
    ///
    /// Computed in float32 as `(x − 255 · mean) / (255 · std)`.
    pub fn patches(&self, settings: &ImageSettings, numbers: &mut Vec<f32>) {
        let (patch, merge, width) = (settings.patch_size, settings.merge_size, self.image.width);
        let tables = settings.tables();
        numbers.reserve(self.grid.num_patches() * settings.patch_numbers());
        for (block_y, block_x) in places(self.grid.rows / merge, self.grid.columns / merge) {
            for (inner_y, inner_x) in places(merge, merge) {
                let (top, left) = ((block_y * merge + inner_y) * patch, (block_x * merge + inner_x) * patch);
                for (channel, table) in tables.iter().enumerate() {
                    let start = numbers.len();
                    for y in top..top + patch {
                        let row = &self.image.bytes[(y * width + left) * 3..(y * width + left + patch) * 3];
                        numbers.extend(row.iter().skip(channel).step_by(3).map(|byte| table[usize::from(*byte)]));
                    }
                    for _ in 1..settings.temporal_patch_size {
                        numbers.extend_from_within(start..start + patch * patch);
                    }
                }
            }
        }
    }
}

/// Row and column of every place of a grid, row by row.
fn places(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |y| (0..columns).map(move |x| (y, x)))
}
