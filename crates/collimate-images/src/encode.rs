//! Images as PNG files, and small forms of them for people to look at.

use crate::error::ImageError;
use crate::pixels::RgbImage;
use crate::resize::resize;

impl RgbImage {
    /// The image as a PNG file of eight bits a channel.
    ///
    /// # Errors
    /// [`ImageError::Broken`]: a side is 0 or does not fit into 32 bits, or `bytes` are not [height, width, 3].
    pub fn to_png(&self) -> Result<Vec<u8>, ImageError> {
        let broken = |problem: String| ImageError::Broken { format: "PNG", problem };
        let side = |pixels: usize| u32::try_from(pixels).map_err(|error| broken(error.to_string()));
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, side(self.width)?, side(self.height)?);
        encoder.set_color(png::ColorType::Rgb);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.bytes)?;
            writer.finish()
        });
        written.map_err(|error| broken(error.to_string()))?;
        Ok(file)
    }

    /// The image, shrunk if a side is longer than `longest` pixels.
    pub fn thumbnail(&self, longest: usize) -> Self {
        let side = self.height.max(self.width);
        if side <= longest {
            return self.clone();
        }
        // The long side first, so that 1 : 200 leaves a side of one pixel.
        let scaled = |pixels: usize| ((pixels as u64 * longest as u64 / side as u64) as usize).max(1);
        resize(self, scaled(self.height), scaled(self.width))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{Limits, decode};

    #[test]
    fn an_image_comes_back_from_its_file() {
        let image = RgbImage { height: 2, width: 3, bytes: (0..18).collect() };
        let png = image.to_png().expect("a file");
        assert_eq!(decode(&png, &Limits::default()), Ok(image));
    }

    #[rstest]
    #[case(0, 3, 0)]
    #[case(2, 3, 17)]
    fn pixels_that_are_missing_are_refused(#[case] height: usize, #[case] width: usize, #[case] len: usize) {
        let image = RgbImage { height, width, bytes: vec![0; len] };
        assert!(matches!(image.to_png(), Err(ImageError::Broken { format: "PNG", .. })));
    }

    #[rstest]
    #[case(100, 50, [100, 50])]
    #[case(400, 200, [128, 64])]
    #[case(3, 600, [1, 128])]
    fn only_large_images_shrink(#[case] height: usize, #[case] width: usize, #[case] expected: [usize; 2]) {
        let image = RgbImage { height, width, bytes: vec![7; height * width * 3] };
        let small = image.thumbnail(128);
        assert_eq!([small.height, small.width], expected);
        assert_eq!(small.bytes.len(), 3 * expected[0] * expected[1]);
    }
}
