//! JPEG.

use jpeg_decoder::{Decoder, ImageInfo, PixelFormat};

use super::Limits;
use crate::error::ImageError;
use crate::exif::{orientation, xmp_orientation};
use crate::pixels::RgbImage;

/// Most passes over the picture of a progressive file, each of which takes time for all pixels however few its bytes.
const MAX_SCANS: usize = 256;

/// Blocks of 64 pixels, or of four times as many where colors are stored at half the size, take a bit at least.
const MAX_PIXELS_PER_BYTE: u64 = 4 * 64 * 8;

fn broken(error: impl std::fmt::Display) -> ImageError {
    ImageError::Broken { format: "JPEG", problem: error.to_string() }
}

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage, ImageError> {
    let (mut decoder, info) = open(bytes, limits)?;
    let channels = match info.pixel_format {
        PixelFormat::L8 => 1,
        PixelFormat::RGB24 => 3,
        PixelFormat::L16 => return Err(ImageError::Pixels { what: "gray of more than 8 bits" }),
        PixelFormat::CMYK32 => return Err(ImageError::Pixels { what: "colors of four inks (CMYK)" }),
    };
    let pixels = decoder.decode().map_err(broken)?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    if pixels.len() != width * height * channels {
        return Err(broken("its pixels are not as many as it says"));
    }
    Ok(RgbImage::from_channels(width, height, channels, pixels).oriented(turn(&decoder)))
}

pub(super) fn dimensions(bytes: &[u8], limits: &Limits) -> Result<(usize, usize, u16), ImageError> {
    let (decoder, info) = open(bytes, limits)?;
    Ok((info.width.into(), info.height.into(), turn(&decoder)))
}

fn turn(decoder: &Decoder<&[u8]>) -> u16 {
    match decoder.exif_data().map(orientation) {
        Some(turn) if turn != 1 => turn,
        found => decoder.xmp_data().and_then(xmp_orientation).or(found).unwrap_or(1),
    }
}

fn open<'a>(bytes: &'a [u8], limits: &Limits) -> Result<(Decoder<&'a [u8]>, ImageInfo), ImageError> {
    // Coded data has no such bytes, so only thumbnails are counted too.
    let num_scans = bytes.windows(2).filter(|pair| *pair == [0xff, 0xda]).count();
    if num_scans > MAX_SCANS {
        return Err(broken(format!("it has {num_scans} scans, and at most {MAX_SCANS} are read")));
    }
    let mut decoder = Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(limits.memory());
    decoder.read_info().map_err(broken)?;
    let info = decoder.info().ok_or_else(|| broken("it has no frame"))?;
    let (width, height) = (u64::from(info.width), u64::from(info.height));
    limits.check(width, height)?;
    if width * height > MAX_PIXELS_PER_BYTE * bytes.len() as u64 {
        return Err(broken(format!("{} bytes cannot hold {width} x {height} pixels", bytes.len())));
    }
    Ok((decoder, info))
}
