//! Antialiased bicubic resizing of bytes, as torchvision does it on uint8.
//!
//! Width first, rounded to bytes, then height. The cubic has a = −0.5 and a support of twice the scale where an image shrinks.
//! Weights are integers of the most bits for which the largest stays below 2¹⁵; sums are rounded half up and cut off at 0 and
//! 255. Pillow rounds with other bits and in another order, and differs by a few levels.

use crate::pixels::RgbImage;

/// Bytes of a pixel.
const CHANNELS: usize = 3;
/// Most bits of a weight after the point.
const MAX_BITS: u32 = 22;

/// The image at another size, [height, width, 3]; a pass that would change nothing is left out.
pub fn resize(image: &RgbImage, height: usize, width: usize) -> RgbImage {
    let mut bytes = match image.width == width {
        true => image.bytes.clone(),
        false => resize_rows(&image.bytes, &Taps::new(image.width, width)),
    };
    if image.height != height {
        bytes = resize_columns(&bytes, width, &Taps::new(image.height, height));
    }
    RgbImage { height, width, bytes }
}

/// What each output of a pass is the sum of.
struct Taps {
    num_inputs: usize,
    bits: u32,
    outputs: Vec<Tap>,
}

struct Tap {
    first: usize,
    weights: Vec<i32>,
}

impl Taps {
    fn new(num_inputs: usize, num_outputs: usize) -> Self {
        let scale = num_inputs as f64 / num_outputs as f64;
        let stretch = scale.max(1.0);
        let exact: Vec<(usize, Vec<f64>)> = (0..num_outputs)
            .map(|output| {
                let center = (output as f64 + 0.5) * scale;
                let first = (center - 2.0 * stretch + 0.5).max(0.0) as usize;
                let end = ((center + 2.0 * stretch + 0.5) as usize).min(num_inputs);
                let weight = |input: usize| cubic((input as f64 - center + 0.5) / stretch);
                let weights: Vec<f64> = (first..end).map(weight).collect();
                let sum: f64 = weights.iter().sum();
                (first, weights.into_iter().map(|weight| weight / sum).collect())
            })
            .collect();
        let largest = exact.iter().flat_map(|(_, weights)| weights).copied().fold(0.0, f64::max);
        let mut bits = 0;
        while bits < MAX_BITS && (0.5 + largest * f64::from(1_u32 << (bits + 1))) < f64::from(1 << 15) {
            bits += 1;
        }
        let one = f64::from(1_u32 << bits);
        // Rounded half away from zero.
        let whole = |weight: f64| (weight * one + 0.5_f64.copysign(weight)) as i32;
        let outputs =
            exact.into_iter().map(|(first, weights)| Tap { first, weights: weights.into_iter().map(whole).collect() });
        Self { num_inputs, bits, outputs: outputs.collect() }
    }

    /// A sum of weighted bytes as a byte.
    fn byte(&self, sum: i32) -> u8 {
        let half = if self.bits == 0 { 0 } else { 1 << (self.bits - 1) };
        ((sum + half) >> self.bits).clamp(0, 255) as u8
    }
}

/// The cubic convolution kernel with a = −0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn resize_rows(bytes: &[u8], taps: &Taps) -> Vec<u8> {
    let mut resized = Vec::with_capacity(bytes.len() / taps.num_inputs.max(1) * taps.outputs.len());
    for row in bytes.chunks_exact(taps.num_inputs * CHANNELS) {
        for tap in &taps.outputs {
            let mut sums = [0_i32; CHANNELS];
            let pixels = row[tap.first * CHANNELS..].chunks_exact(CHANNELS);
            for (pixel, weight) in pixels.zip(&tap.weights) {
                for (sum, byte) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*byte) * weight;
                }
            }
            resized.extend(sums.map(|sum| taps.byte(sum)));
        }
    }
    resized
}

fn resize_columns(bytes: &[u8], width: usize, taps: &Taps) -> Vec<u8> {
    let row_bytes = width * CHANNELS;
    let mut resized = Vec::with_capacity(taps.outputs.len() * row_bytes);
    let mut sums = vec![0_i32; row_bytes];
    for tap in &taps.outputs {
        sums.fill(0);
        let rows = bytes[tap.first * row_bytes..].chunks_exact(row_bytes);
        for (row, weight) in rows.zip(&tap.weights) {
            for (sum, byte) in sums.iter_mut().zip(row) {
                *sum += i32::from(*byte) * weight;
            }
        }
        resized.extend(sums.iter().map(|sum| taps.byte(*sum)));
    }
    resized
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_flat_image_stays_flat(level: u8, from in 1_usize..40, to in 1_usize..40) {
            let image = RgbImage { height: from, width: to, bytes: vec![level; from * to * 3] };
            let resized = resize(&image, to, from);
            // Rounded weights sum to one but for a part in thousands.
            prop_assert!(resized.bytes.iter().all(|byte| byte.abs_diff(level) <= 1), "{:?}", resized.bytes);
        }
    }

    #[test]
    fn the_same_size_is_the_same_image() {
        let image = RgbImage { height: 2, width: 3, bytes: (0..18).collect() };
        assert_eq!(resize(&image, 2, 3), image);
    }
}
