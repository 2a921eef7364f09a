//! PNG.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, Reader, Transformations};

use super::Limits;
use crate::error::ImageError;
use crate::exif::orientation;
use crate::pixels::RgbImage;

/// The most bytes that a byte of deflated data becomes.
const MAX_RATIO: u64 = 1032;

fn broken(error: impl std::fmt::Display) -> ImageError {
    ImageError::Broken { format: "PNG", problem: error.to_string() }
}

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage, ImageError> {
    let mut reader = open(bytes, limits)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    let size = reader.output_buffer_size().ok_or_else(|| broken("its pixels do not fit into memory"))?;
    let mut pixels = vec![0; size];
    reader.next_frame(&mut pixels).map_err(broken)?;
    let channels = reader.output_color_type().0.samples();
    // EXIF data may stand after the pixels.
    reader.finish().map_err(broken)?;
    Ok(RgbImage::from_channels(width, height, channels, pixels).oriented(turn(&reader)))
}

pub(super) fn dimensions(bytes: &[u8], limits: &Limits) -> Result<(usize, usize, u16), ImageError> {
    let reader = open(bytes, limits)?;
    Ok((reader.info().width as usize, reader.info().height as usize, turn(&reader)))
}

fn turn(reader: &Reader<Cursor<&[u8]>>) -> u16 {
    reader.info().exif_metadata.as_deref().map_or(1, orientation)
}

fn open<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Reader<Cursor<&'a [u8]>>, ImageError> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: limits.memory() });
    // Palettes, key colors and fewer than eight bits become bytes; of sixteen bits the upper eight stay.
    decoder.set_transformations(Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(broken)?;
    let (width, height) = (u64::from(header.width), u64::from(header.height));
    limits.check(width, height)?;
    let row_bytes = (width * header.bits_per_pixel() as u64).div_ceil(8);
    if height * row_bytes > MAX_RATIO * bytes.len() as u64 {
        return Err(broken(format!("{} bytes cannot hold {width} x {height} pixels", bytes.len())));
    }
    let reader = decoder.read_info().map_err(broken)?;
    let info = reader.info();
    if let Some(animation) = info.animation_control.filter(|animation| animation.num_frames > 1) {
        return Err(ImageError::Animated { frames: animation.num_frames });
    }
    if (info.color_type, info.bit_depth) == (ColorType::Grayscale, BitDepth::Sixteen) {
        return Err(ImageError::Pixels { what: "gray of 16 bits, which PIL cuts off at 255" });
    }
    Ok(reader)
}
