//! WebP.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::Limits;
use crate::error::ImageError;
use crate::exif::orientation;
use crate::pixels::RgbImage;

fn broken(error: impl std::fmt::Display) -> ImageError {
    ImageError::Broken { format: "WebP", problem: error.to_string() }
}

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage, ImageError> {
    let mut decoder = open(bytes, limits)?;
    let (width, height) = decoder.dimensions();
    let size = decoder.output_buffer_size().ok_or_else(|| broken("its pixels do not fit into memory"))?;
    let mut pixels = vec![0; size];
    decoder.read_image(&mut pixels).map_err(broken)?;
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    let turn = turn(&mut decoder)?;
    Ok(RgbImage::from_channels(width as usize, height as usize, channels, pixels).oriented(turn))
}

pub(super) fn dimensions(bytes: &[u8], limits: &Limits) -> Result<(usize, usize, u16), ImageError> {
    let mut decoder = open(bytes, limits)?;
    let (width, height) = decoder.dimensions();
    Ok((width as usize, height as usize, turn(&mut decoder)?))
}

fn turn(decoder: &mut WebPDecoder<Cursor<&[u8]>>) -> Result<u16, ImageError> {
    Ok(decoder.exif_metadata().map_err(broken)?.as_deref().map_or(1, orientation))
}

fn open<'a>(bytes: &'a [u8], limits: &Limits) -> Result<WebPDecoder<Cursor<&'a [u8]>>, ImageError> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(broken)?;
    decoder.set_memory_limit(limits.memory());
    let (width, height) = decoder.dimensions();
    limits.check(width.into(), height.into())?;
    if decoder.is_animated() {
        return Err(ImageError::Animated { frames: decoder.num_frames() });
    }
    Ok(decoder)
}
