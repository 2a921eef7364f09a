//! A decoded image.

/// An image of three bytes a pixel: red, green, blue.
///
/// # Shapes
/// `bytes` is [height, width, 3].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Rows.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// The pixels, row by row.
    pub bytes: Vec<u8>,
}

impl RgbImage {
    /// The first three of `channels` bytes of each pixel; of one or two, the first thrice.
    ///
    /// Alpha is left out, not blended with a background.
    pub(crate) fn from_channels(width: usize, height: usize, channels: usize, pixels: Vec<u8>) -> Self {
        let bytes = match channels {
            3 => pixels,
            1 | 2 => pixels.chunks_exact(channels).flat_map(|pixel| [pixel[0]; 3]).collect(),
            _ => pixels.chunks_exact(channels).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        };
        Self { height, width, bytes }
    }

    /// The image turned and mirrored as its EXIF orientation says (1 to 8); any other number changes nothing.
    pub(crate) fn oriented(self, orientation: u16) -> Self {
        if !(2..=8).contains(&orientation) {
            return self;
        }
        let Self { height, width, bytes } = self;
        let is_transposed = orientation >= 5;
        let (rows, columns) = if is_transposed { (width, height) } else { (height, width) };
        let mut turned = Vec::with_capacity(bytes.len());
        for y in 0..rows {
            for x in 0..columns {
                let (mirrored_x, mirrored_y) = (columns - 1 - x, rows - 1 - y);
                // Where the pixel at (x, y) of the turned image was.
                let (from_x, from_y) = match orientation {
                    2 => (mirrored_x, y),
                    3 => (mirrored_x, mirrored_y),
                    4 => (x, mirrored_y),
                    5 => (y, x),
                    6 => (y, mirrored_x),
                    7 => (mirrored_y, mirrored_x),
                    _ => (mirrored_y, x),
                };
                let at = (from_y * width + from_x) * 3;
                turned.extend_from_slice(&bytes[at..at + 3]);
            }
        }
        Self { height: rows, width: columns, bytes: turned }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Two rows of three pixels, 1 to 6.
    fn image() -> RgbImage {
        RgbImage::from_channels(3, 2, 1, (1..=6).collect())
    }

    // EXIF 2.3, table 6: where the 0th row and column of the stored pixels are seen.
    #[rstest]
    #[case::top_left(1, 2, [1, 2, 3, 4, 5, 6])]
    #[case::top_right(2, 2, [3, 2, 1, 6, 5, 4])]
    #[case::bottom_right(3, 2, [6, 5, 4, 3, 2, 1])]
    #[case::bottom_left(4, 2, [4, 5, 6, 1, 2, 3])]
    #[case::left_top(5, 3, [1, 4, 2, 5, 3, 6])]
    #[case::right_top(6, 3, [4, 1, 5, 2, 6, 3])]
    #[case::right_bottom(7, 3, [6, 3, 5, 2, 4, 1])]
    #[case::left_bottom(8, 3, [3, 6, 2, 5, 1, 4])]
    #[case::unknown(9, 2, [1, 2, 3, 4, 5, 6])]
    fn an_image_is_turned_as_its_orientation_says(
        #[case] orientation: u16,
        #[case] rows: usize,
        #[case] expected: [u8; 6],
    ) {
        let turned = image().oriented(orientation);
        assert_eq!((turned.height, turned.width), (rows, 6 / rows));
        assert_eq!(turned.bytes.chunks(3).map(|pixel| pixel[0]).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn alpha_is_left_out_and_gray_is_thrice_itself() {
        assert_eq!(RgbImage::from_channels(1, 1, 4, vec![1, 2, 3, 0]).bytes, [1, 2, 3]);
        assert_eq!(RgbImage::from_channels(1, 1, 2, vec![9, 0]).bytes, [9, 9, 9]);
    }
}
