//! Files that are refused, and what is said of them.

use collimate_images::{ImageError, Limits, decode, dimensions};
use png::{BitDepth, ColorType, Encoder};
use rstest::rstest;

fn png_file(width: u32, height: u32, color: ColorType, depth: BitDepth, frames: u32, pixels: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if frames > 1 {
        encoder.set_animated(frames, 0).expect("an animation");
    }
    let mut writer = encoder.write_header().expect("a header");
    for _ in 0..frames {
        writer.write_image_data(pixels).expect("pixels");
    }
    writer.finish().expect("an end");
    file
}

#[rstest]
#[case::nothing(b"", "an empty file")]
#[case::gif(b"GIF89a", "a GIF")]
#[case::page(b"<html>", "text that begins with \"<\"")]
#[case::other(b"\x00\x01\x02\x03\x04", "a file that begins with [00, 01, 02, 03]")]
fn other_formats_are_named(#[case] bytes: &[u8], #[case] found: &str) {
    let expected = ImageError::Format { found: found.to_owned() };
    assert_eq!(decode(bytes, &Limits::default()), Err(expected.clone()));
    assert_eq!(dimensions(bytes, &Limits::default()), Err(expected));
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    // A header that promises 2³² pixels, and nothing else.
    let mut file = png_file(1, 1, ColorType::Rgb, BitDepth::Eight, 1, &[1, 2, 3]);
    file[16..20].copy_from_slice(&65536_u32.to_be_bytes());
    file[20..24].copy_from_slice(&65536_u32.to_be_bytes());
    let crc = crc32(&file[12..29]);
    file[29..33].copy_from_slice(&crc.to_be_bytes());
    let found = decode(&file, &Limits::default());
    assert_eq!(found, Err(ImageError::TooLarge { width: 65536, height: 65536, most: Limits::default().pixels }));
    let small = png_file(3, 2, ColorType::Rgb, BitDepth::Eight, 1, &[0; 18]);
    let limits = Limits { pixels: 5, ..Limits::default() };
    assert_eq!(decode(&small, &limits), Err(ImageError::TooLarge { width: 3, height: 2, most: 5 }));
    let limits = Limits { file_bytes: 10, ..Limits::default() };
    assert_eq!(decode(&small, &limits), Err(ImageError::FileSize { bytes: small.len() as u64, most: 10 }));
}

/// The checksum of a PNG's chunk, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(!0_u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[test]
fn a_webp_is_decoded_and_its_alpha_left_out() {
    let file = |pixels: &[u8], color| {
        let mut file = Vec::new();
        image_webp::WebPEncoder::new(&mut file).encode(pixels, 2, 1, color).expect("a file");
        file
    };
    let plain = decode(&file(&[1, 2, 3, 200, 100, 50], image_webp::ColorType::Rgb8), &Limits::default());
    assert_eq!(plain.map(|image| image.bytes), Ok(vec![1, 2, 3, 200, 100, 50]));
    let alpha = file(&[1, 2, 3, 7, 200, 100, 50, 255], image_webp::ColorType::Rgba8);
    let decoded = decode(&alpha, &Limits::default()).expect("an image");
    assert_eq!((decoded.height, decoded.width, decoded.bytes), (1, 2, vec![1, 2, 3, 200, 100, 50]));
    assert_eq!(dimensions(&alpha, &Limits::default()), Ok([1, 2]));
}

#[test]
fn an_animation_is_refused() {
    let file = png_file(1, 1, ColorType::Rgb, BitDepth::Eight, 2, &[1, 2, 3]);
    assert_eq!(decode(&file, &Limits::default()), Err(ImageError::Animated { frames: 2 }));
}

#[test]
fn bits_and_colors_become_bytes() {
    let decoded = |color, depth, pixels: &[u8]| {
        let file = png_file(1, 1, color, depth, 1, pixels);
        decode(&file, &Limits::default()).map(|image| image.bytes)
    };
    assert_eq!(decoded(ColorType::Grayscale, BitDepth::Four, &[0x50]), Ok(vec![0x55; 3]));
    assert_eq!(decoded(ColorType::GrayscaleAlpha, BitDepth::Eight, &[7, 0]), Ok(vec![7; 3]));
    assert_eq!(decoded(ColorType::Rgba, BitDepth::Eight, &[1, 2, 3, 0]), Ok(vec![1, 2, 3]));
    assert_eq!(decoded(ColorType::Rgb, BitDepth::Sixteen, &[1, 255, 2, 255, 3, 255]), Ok(vec![1, 2, 3]));
    let refused = decoded(ColorType::Grayscale, BitDepth::Sixteen, &[1, 2]);
    assert!(matches!(refused, Err(ImageError::Pixels { .. })), "{refused:?}");
}

#[test]
fn a_file_cut_anywhere_is_broken_and_no_panic() {
    let file = png_file(4, 4, ColorType::Rgb, BitDepth::Eight, 1, &[9; 48]);
    for end in 8..file.len() - 12 {
        let found = decode(&file[..end], &Limits::default());
        assert!(matches!(found, Err(ImageError::Broken { format: "PNG", .. })), "{end}: {found:?}");
    }
}
