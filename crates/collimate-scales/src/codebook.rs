//! From tokens to what the transformer reads.

use crate::resample::Resampling;

/// The codebook of a quantizer with residuals in several scales. It is never trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Codebook {
    /// Entries, [V, C].
    pub entries: Vec<f32>,
    /// Width of an entry, C.
    pub width: usize,
    /// Convolutions that smooth enlarged maps, φ, which scales share.
    pub smoothings: Vec<Smoothing>,
    /// Share of the smoothed map in its sum with the map itself.
    pub residual: f64,
}

/// A convolution of 3 × 3.
#[derive(Debug, Clone, PartialEq)]
pub struct Smoothing {
    /// [C, C, 3, 3], outputs first.
    pub weight: Vec<f32>,
    /// \[C\].
    pub bias: Vec<f32>,
}

impl Codebook {
    /// Which of the shared convolutions smooths a scale: the tick nearest to its place, the first of two that are as near.
    ///
    /// Ticks are evenly spread from 1/12 to 11/12 where there are four, and else from half a step inside. For the published
    /// sizes, ten scales and four convolutions, two scales are exactly between two ticks, and rounding decides for the lower
    /// and the upper one: 0 0 1 1 1 2 2 3 3 3, as here in float64.
    pub fn smoothing_of(&self, scale: usize, num_scales: usize) -> usize {
        let count = self.smoothings.len();
        let edge = if count == 4 { 1.0 / 3.0 / count as f64 } else { 1.0 / 2.0 / count as f64 };
        let step = ((1.0 - edge) - edge) / (count.max(2) - 1) as f64;
        let tick = |index: usize| match index + 1 == count && count > 1 {
            // As NumPy's linspace ends.
            true => 1.0 - edge,
            false => index as f64 * step + edge,
        };
        let place = scale as f64 / (num_scales - 1).max(1) as f64;
        let nearer = |best: usize, index: usize| match (tick(index) - place).abs() < (tick(best) - place).abs() {
            true => index,
            false => best,
        };
        (0..count).fold(0, nearer)
    }

    /// What stands in place of the tokens of all scales but the first, [L − first, C]: after each scale, the sum of the maps so
    /// far, averaged down to the next side. The last map is not embedded.
    ///
    /// `tokens` are those of all scales, one after the other, each in reading order; they are less than the number of entries.
    pub fn teacher_inputs(&self, sides: &[usize], tokens: &[u32]) -> Vec<f32> {
        let full = sides.last().copied().unwrap_or(1);
        let mut sum = vec![0.0_f64; self.width * full * full];
        let (mut rest, mut inputs) = (tokens, Vec::new());
        for (scale, pair) in sides.windows(2).enumerate() {
            let (side, next) = (pair[0], pair[1]);
            let (map, after) = rest.split_at((side * side).min(rest.len()));
            rest = after;
            self.add_map(&mut sum, sides, scale, map);
            let averaged = Resampling::area(full, next).apply(&sum);
            inputs.extend(self.by_place(&averaged, next));
        }
        inputs
    }

    /// The sum of all maps, enlarged and smoothed: what the quantizer's decoder makes a picture of, [n, n, C] with n the last
    /// side. `tokens` as for [`teacher_inputs`](Self::teacher_inputs).
    pub fn sum_of_maps(&self, sides: &[usize], tokens: &[u32]) -> Vec<f32> {
        let full = sides.last().copied().unwrap_or(1);
        let mut sum = vec![0.0_f64; self.width * full * full];
        let mut rest = tokens;
        for (scale, side) in sides.iter().enumerate() {
            let (map, after) = rest.split_at((side * side).min(rest.len()));
            rest = after;
            self.add_map(&mut sum, sides, scale, map);
        }
        self.by_place(&sum, full).collect()
    }

    /// Adds the map of a scale, embedded, enlarged and smoothed, to a sum, [C, n, n].
    fn add_map(&self, sum: &mut [f64], sides: &[usize], scale: usize, map: &[u32]) {
        let (side, full, width) = (sides[scale], sides[sides.len() - 1], self.width);
        let embedded: Vec<f64> =
            (0..width).flat_map(|channel| map.iter().map(move |token| self.entry(*token, channel))).collect();
        let enlarged = Resampling::cubic(side, full).apply(&embedded);
        let smoothing = &self.smoothings[self.smoothing_of(scale, sides.len())];
        let smoothed = smoothing.apply(&enlarged, width, full);
        for ((sum, own), smoothed) in sum.iter_mut().zip(enlarged).zip(smoothed) {
            *sum += (1.0 - self.residual) * own + self.residual * smoothed;
        }
    }

    /// Maps [C, n, n] as the vectors of places, [n, n, C].
    fn by_place<'a>(&self, maps: &'a [f64], side: usize) -> impl Iterator<Item = f32> + use<'a> {
        let (places, width) = (side * side, self.width);
        (0..places).flat_map(move |place| (0..width).map(move |channel| maps[channel * places + place] as f32))
    }

    fn entry(&self, token: u32, channel: usize) -> f64 {
        f64::from(self.entries[token as usize * self.width + channel])
    }
}

impl Smoothing {
    /// Smooths maps, [C, n, n], with zeros around them.
    fn apply(&self, maps: &[f64], width: usize, side: usize) -> Vec<f64> {
        let places = side * side;
        let mut out = Vec::with_capacity(maps.len());
        for output in 0..width {
            let mut map = vec![f64::from(self.bias[output]); places];
            for (input, from) in maps.chunks_exact(places).enumerate() {
                for tap in 0..9 {
                    let weight = f64::from(self.weight[(output * width + input) * 9 + tap]);
                    add_shifted(&mut map, from, weight, [tap / 3, tap % 3]);
                }
            }
            out.extend(map);
        }
        out
    }
}

/// Adds `weight` times a square map, shifted by a tap of a 3 × 3 kernel; beyond its edges it is zero.
fn add_shifted(map: &mut [f64], from: &[f64], weight: f64, [dy, dx]: [usize; 2]) {
    let side = map.len().isqrt();
    // The places whose source, one back and the tap forward, is inside.
    let inside = |shift: usize| usize::from(shift == 0)..side - usize::from(shift == 2);
    for y in inside(dy) {
        let line = (y + dy - 1) * side;
        for x in inside(dx) {
            map[y * side + x] += weight * from[line + x + dx - 1];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codebook(width: usize, count: usize) -> Codebook {
        let smoothing = Smoothing { weight: vec![0.0; width * width * 9], bias: vec![0.0; width] };
        Codebook { entries: Vec::new(), width, smoothings: vec![smoothing; count], residual: 0.5 }
    }

    #[test]
    fn scales_share_convolutions_by_their_place_and_rounding_decides_ties() {
        let choice = |num_scales: usize, count| {
            let codebook = codebook(1, count);
            (0..num_scales).map(|scale| codebook.smoothing_of(scale, num_scales)).collect::<Vec<_>>()
        };
        assert_eq!(choice(10, 4), [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]);
        assert_eq!(choice(4, 4), [0, 1, 2, 3]);
        assert_eq!(choice(3, 1), [0, 0, 0]);
    }

    #[test]
    fn maps_are_smoothed_with_zeros_around_them() {
        let mut weight = vec![0.0; 9];
        // Twice the pixel to the left, and the pixel below.
        (weight[3], weight[7]) = (2.0, 1.0);
        let smoothing = Smoothing { weight, bias: vec![10.0] };
        assert_eq!(smoothing.apply(&[1.0, 2.0, 3.0, 4.0], 1, 2), [10.0 + 3.0, 10.0 + 2.0 + 4.0, 10.0, 10.0 + 6.0]);
    }

    #[test]
    fn each_scale_sees_the_sum_of_the_coarser_ones_averaged_down() {
        let mut codebook = codebook(1, 1);
        codebook.entries = vec![1.0, 2.0, 4.0];
        // Smoothed maps are zero, so half of each map counts: half of 4 everywhere. With a side of 3 after it, half of a map of
        // 2 everywhere comes on top.
        let inputs = codebook.teacher_inputs(&[1, 2, 3], &[2, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(inputs.len(), 4 + 9);
        assert!(inputs[..4].iter().all(|input| (input - 2.0).abs() < 1e-6), "{inputs:?}");
        assert!(inputs[4..].iter().all(|input| (input - 3.0).abs() < 1e-6), "{inputs:?}");
    }

    #[test]
    fn the_decoder_sees_the_sum_of_all_maps() {
        let mut codebook = codebook(1, 1);
        codebook.entries = vec![1.0, 2.0, 4.0];
        // Half of 4 everywhere, half of 2, and half of 1 but for one place of the last map, where it is half of 4.
        let sum = codebook.sum_of_maps(&[1, 2, 3], &[2, 1, 1, 1, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
        let expected = |place: usize| if place == 4 { 5.0 } else { 3.5 };
        assert!((0..9).all(|place| (sum[place] - expected(place)).abs() < 1e-6), "{sum:?}");
    }
}
