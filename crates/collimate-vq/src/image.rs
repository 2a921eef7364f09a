//! Pictures of bytes: grids and PNG files.

/// Pixels between two pictures of a grid.
const GAP: usize = 2;
/// Pixels between two blocks of a grid.
const WIDE_GAP: usize = 12;
/// Brightness around pictures.
const GRAY: u8 = 96;

/// A picture, gray or in color.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    /// [height, width, channels], in reading order.
    pixels: Vec<u8>,
    /// 1 for gray, 3 for red, green and blue.
    channels: usize,
}

impl Image {
    /// A square picture from numbers in [low, high], [side, side, channels]; what is beyond is cut off. `channels` is 1 or 3.
    pub(crate) fn of_numbers(numbers: &[f32], channels: usize, [low, high]: [f32; 2]) -> Self {
        let side = (numbers.len() / channels).isqrt();
        let byte = |number: &f32| (((number - low) / (high - low)).clamp(0.0, 1.0) * 255.0).round() as u8;
        Self { width: side, height: side, pixels: numbers.iter().map(byte).collect(), channels }
    }

    /// A square gray picture from brightness, 0 to 1, in reading order.
    pub fn gray(brightness: &[f32]) -> Self {
        Self::of_numbers(brightness, 1, [0.0, 1.0])
    }

    /// Pixels in a line.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Lines.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes of a pixel: one if it is gray, or red, green and blue.
    pub fn pixel(&self, x: usize, y: usize) -> &[u8] {
        let start = (y * self.width + x) * self.channels;
        &self.pixels[start..start + self.channels]
    }

    /// Blocks of rows of pictures, side by side on gray; all pictures have one size. In color if any of them is.
    pub fn grid(blocks: &[Vec<Vec<Self>>]) -> Self {
        let all = || blocks.iter().flatten().flatten();
        let channels = all().map(|image| image.channels).max().unwrap_or(1);
        let across = all().map(|image| image.width).max().unwrap_or(0) + GAP;
        let down = all().map(|image| image.height).max().unwrap_or(0) + GAP;
        let columns = |block: &Vec<Vec<Self>>| block.iter().map(Vec::len).max().unwrap_or(0);
        let rows = blocks.iter().map(Vec::len).max().unwrap_or(0);
        let width: usize = blocks.iter().map(|block| columns(block) * across + WIDE_GAP).sum();
        let (width, height) = (width.saturating_sub(WIDE_GAP + GAP), (rows * down).saturating_sub(GAP));
        let mut canvas = Self { width, height, pixels: vec![GRAY; width * height * channels], channels };
        let mut left = 0;
        for block in blocks {
            for (row, pictures) in block.iter().enumerate() {
                for (column, picture) in pictures.iter().enumerate() {
                    canvas.paste(picture, left + column * across, row * down);
                }
            }
            left += columns(block) * across + WIDE_GAP;
        }
        canvas
    }

    /// The same with each pixel as a square of so many.
    pub fn zoomed(&self, zoom: usize) -> Self {
        let (width, height) = (self.width * zoom, self.height * zoom);
        let pixel = |place: usize| self.pixel(place % width / zoom, place / width / zoom).iter().copied();
        Self { width, height, pixels: (0..width * height).flat_map(pixel).collect(), channels: self.channels }
    }

    fn paste(&mut self, picture: &Self, left: usize, top: usize) {
        for (place, pixel) in picture.pixels.chunks_exact(picture.channels).enumerate() {
            let (x, y) = (left + place % picture.width, top + place / picture.width);
            let start = (y * self.width + x) * self.channels;
            for (channel, byte) in self.pixels[start..start + self.channels].iter_mut().enumerate() {
                *byte = pixel[channel.min(pixel.len() - 1)];
            }
        }
    }

    /// The bytes of a PNG file.
    pub fn png(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let [width, height] = [self.width, self.height].map(|side| side as u32);
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(if self.channels == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
        encoder.set_depth(png::BitDepth::Eight);
        // Writing to memory does not fail, and pixels are as many as the header says.
        let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&self.pixels));
        debug_assert!(written.is_ok());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_a_png_with_its_pixels() {
        let (white, black) = (Image::gray(&[1.0; 16]), Image::gray(&[-3.0; 16]));
        let red = Image::of_numbers(&[1.0, -1.0, -0.5].repeat(16), 3, [-1.0, 1.0]);
        let grid = Image::grid(&[vec![vec![white.clone(), black]], vec![vec![red], vec![white]]]).zoomed(2);
        let decoder = png::Decoder::new(std::io::Cursor::new(grid.png()));
        let mut reader = decoder.read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut pixels).expect("an image");
        let side = 4 + GAP;
        let (width, height) = (2 * (3 * side - GAP + WIDE_GAP), 2 * (2 * side - GAP));
        assert_eq!((info.width as usize, info.height as usize), (width, height));
        assert_eq!(info.color_type, png::ColorType::Rgb);
        let at = |x: usize, y: usize| &pixels[(y * width + x) * 3..(y * width + x) * 3 + 3];
        assert_eq!((at(0, 0), at(2 * 4, 0), at(2 * side, 0)), (&[255; 3][..], &[GRAY; 3][..], &[0; 3][..]));
        // 0.25 · 255 = 63.75.
        let second = 2 * (2 * side + WIDE_GAP);
        assert_eq!((at(second, 0), at(second, 2 * side)), (&[255, 0, 64][..], &[255; 3][..]));
        assert_eq!(at(0, 2 * side), [GRAY; 3]);
    }
}
