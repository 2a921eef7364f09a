//! Grids of pictures as PNG files (ISO/IEC 15948): gray, eight bits, no filter.

use std::io::Write;

use flate2::{Compression, Crc, write::ZlibEncoder};

use crate::shapes::{Picture, SIDE};

/// Pixels between two pictures.
const GAP: usize = 2;
/// Pixels between two groups of columns.
const WIDE_GAP: usize = 12;
/// Pixels of the file for a pixel of a picture.
const ZOOM: usize = 2;
/// Gray around pictures.
const GRAY: u8 = 96;

/// A file with rows of pictures: `blocks` stand side by side, each of them rows of pictures.
pub fn grid(blocks: &[Vec<Vec<Picture>>]) -> Vec<u8> {
    let step = SIDE + GAP;
    let columns = |block: &Vec<Vec<Picture>>| block.iter().map(Vec::len).max().unwrap_or(0);
    let rows = blocks.iter().map(Vec::len).max().unwrap_or(0);
    let width = blocks.iter().map(|block| columns(block) * step + WIDE_GAP).sum::<usize>().saturating_sub(WIDE_GAP);
    let height = rows * step;
    let mut canvas = vec![GRAY; width * height];
    let mut left = 0;
    for block in blocks {
        for (row, pictures) in block.iter().enumerate() {
            for (column, picture) in pictures.iter().enumerate() {
                for (index, pixel) in picture.iter().enumerate() {
                    let (x, y) = (left + column * step + index % SIDE, row * step + index / SIDE);
                    canvas[y * width + x] = (pixel.clamp(0.0, 1.0) * 255.0).round() as u8;
                }
            }
        }
        left += columns(block) * step + WIDE_GAP;
    }
    file(&canvas, width)
}

/// The file of a gray picture.
fn file(pixels: &[u8], width: usize) -> Vec<u8> {
    let height = pixels.len() / width.max(1);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::new();
    header.extend(((width * ZOOM) as u32).to_be_bytes());
    header.extend(((height * ZOOM) as u32).to_be_bytes());
    // Eight bits, gray, deflate, no filter but by line, not interlaced.
    header.extend([8, 0, 0, 0, 0]);
    chunk(&mut png, b"IHDR", &header);
    let mut lines = Vec::new();
    for line in pixels.chunks(width.max(1)) {
        let wide: Vec<u8> = line.iter().flat_map(|pixel| [*pixel; ZOOM]).collect();
        for _ in 0..ZOOM {
            lines.push(0);
            lines.extend(&wide);
        }
    }
    chunk(&mut png, b"IDAT", &deflated(&lines));
    chunk(&mut png, b"IEND", &[]);
    png
}

fn chunk(png: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    png.extend((data.len() as u32).to_be_bytes());
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(data);
    png.extend(kind);
    png.extend(data);
    png.extend(crc.sum().to_be_bytes());
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_grid_is_a_png_with_its_pixels() {
        let (white, black) = (vec![1.0; SIDE * SIDE], vec![0.0; SIDE * SIDE]);
        let png = grid(&[vec![vec![white.clone(), black]], vec![vec![white]]]);
        let number = |at: usize| u32::from_be_bytes(*png[at..].first_chunk().expect("four bytes")) as usize;
        let (width, height) = (number(16), number(20));
        assert_eq!((width, height), (ZOOM * (3 * (SIDE + GAP) + WIDE_GAP), ZOOM * (SIDE + GAP)));
        let size = number(33);
        let mut lines = Vec::new();
        flate2::read::ZlibDecoder::new(&png[41..41 + size]).read_to_end(&mut lines).expect("a stream");
        assert_eq!(lines.len(), (width + 1) * height);
        // The first line: its filter, white, then the gap, then black.
        assert_eq!((lines[0], lines[1], lines[ZOOM * SIDE + 1], lines[ZOOM * (SIDE + GAP) + 1]), (0, 255, GRAY, 0));
    }
}
