//! The size that an image is resized to: multiples of a factor, within limits on the number of pixels.

use crate::error::ImageError;

/// The most that one side may be longer than the other.
const MAX_ASPECT: usize = 200;

/// Least and most pixels of a resized image: areas, not edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelRange {
    /// Least.
    pub min: u64,
    /// Most.
    pub max: u64,
}

/// Height and width of the resized image: each side the nearest multiple of `factor` (half goes to the even one), both smaller or
/// larger in proportion where the area would be outside `pixels`. As `smart_resize` of transformers' Qwen2-VL.
///
/// # Errors
/// [`ImageError::Aspect`] if one side is more than 200 times the other.
pub fn smart_resize(height: usize, width: usize, factor: usize, pixels: PixelRange) -> Result<[usize; 2], ImageError> {
    let (long, short) = (height.max(width), height.min(width));
    if short == 0 || long as f64 / short as f64 > MAX_ASPECT as f64 {
        return Err(ImageError::Aspect { width, height, most: MAX_ASPECT });
    }
    let size = factor as f64;
    let sides = [height as f64, width as f64];
    let nearest = sides.map(|side| (side / size).round_ties_even() * size);
    let area = nearest[0] * nearest[1];
    let (min, max) = (pixels.min as f64, pixels.max as f64);
    let resized = if area > max {
        let ratio = (sides[0] * sides[1] / max).sqrt();
        sides.map(|side| size.max((side / ratio / size).floor() * size))
    } else if area < min {
        let ratio = (min / (sides[0] * sides[1])).sqrt();
        sides.map(|side| (side * ratio / size).ceil() * size)
    } else {
        nearest
    };
    Ok(resized.map(|side| side as usize))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::half_goes_to_even([42, 70], [56, 56])]
    #[case::enlarged([14, 14], [56, 56])]
    #[case::exact([56, 84], [56, 84])]
    fn sides_become_multiples(#[case] sides: [usize; 2], #[case] expected: [usize; 2]) {
        let pixels = PixelRange { min: 3136, max: 12544 };
        assert_eq!(smart_resize(sides[0], sides[1], 28, pixels), Ok(expected));
    }

    #[test]
    fn an_image_200_times_as_long_as_wide_is_the_last() {
        let pixels = PixelRange { min: 3136, max: 12544 };
        assert!(smart_resize(1, 200, 28, pixels).is_ok());
        let refused = ImageError::Aspect { width: 201, height: 1, most: 200 };
        assert_eq!(smart_resize(1, 201, 28, pixels), Err(refused));
    }
}
