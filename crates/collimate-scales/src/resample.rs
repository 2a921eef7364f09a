//! Enlarging and averaging square maps.

/// A linear map from rows of one length to rows of another, [outputs, inputs].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resampling {
    weights: Vec<f64>,
    inputs: usize,
    outputs: usize,
}

impl Resampling {
    /// Averages over the inputs from ⌊o·n/m⌋ to ⌈(o + 1)·n/m⌉, as PyTorch's `interpolate` in mode `area`.
    pub(crate) fn area(inputs: usize, outputs: usize) -> Self {
        let mut weights = vec![0.0; inputs * outputs];
        for output in 0..outputs {
            let (first, end) = (output * inputs / outputs, ((output + 1) * inputs).div_ceil(outputs));
            weights[output * inputs + first..output * inputs + end].fill(1.0 / (end - first) as f64);
        }
        Self { weights, inputs, outputs }
    }

    /// Bicubic interpolation with a = −0.75 between centers of pixels, edges repeated and nothing smoothed, as PyTorch's
    /// `interpolate` in mode `bicubic`.
    pub(crate) fn cubic(inputs: usize, outputs: usize) -> Self {
        let mut weights = vec![0.0; inputs * outputs];
        let step = inputs as f64 / outputs as f64;
        for output in 0..outputs {
            let place = (output as f64 + 0.5) * step - 0.5;
            let before = place.floor();
            for tap in -1..3 {
                let at = before + f64::from(tap);
                let input = at.clamp(0.0, (inputs - 1) as f64) as usize;
                weights[output * inputs + input] += cubic(place - at);
            }
        }
        Self { weights, inputs, outputs }
    }

    /// Both sides of square maps, [C, n, n] → [C, m, m].
    pub(crate) fn apply(&self, maps: &[f64]) -> Vec<f64> {
        let (n, m) = (self.inputs, self.outputs);
        let row = |output: usize| &self.weights[output * n..(output + 1) * n];
        let dot = |weights: &[f64], values: &mut dyn Iterator<Item = f64>| -> f64 {
            weights.iter().zip(values).map(|(weight, value)| weight * value).sum()
        };
        let mut out = Vec::with_capacity(maps.len() / (n * n) * m * m);
        for map in maps.chunks_exact(n * n) {
            // Columns first: [n, n] → [n, m].
            let wide: Vec<f64> = map
                .chunks_exact(n)
                .flat_map(|line| (0..m).map(move |x| dot(row(x), &mut line.iter().copied())))
                .collect();
            for y in 0..m {
                out.extend((0..m).map(|x| dot(row(y), &mut (0..n).map(|line| wide[line * m + x]))));
            }
        }
        out
    }
}

/// The cubic kernel with a = −0.75.
fn cubic(distance: f64) -> f64 {
    const A: f64 = -0.75;
    let x = distance.abs();
    match x {
        x if x <= 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_reach_over_whole_inputs() {
        // Five inputs to three outputs: 0..2, 1..4, 3..5.
        let lines = Resampling::area(5, 3).weights;
        let (half, third) = (0.5, 1.0 / 3.0);
        let expected = [[half, half, 0.0, 0.0, 0.0], [0.0, third, third, third, 0.0], [0.0, 0.0, 0.0, half, half]];
        assert_eq!(lines, expected.concat());
    }

    #[test]
    fn cubic_weights_sum_to_one_and_a_map_of_the_same_size_stays() {
        for (inputs, outputs) in [(1, 4), (2, 5), (3, 16), (7, 9)] {
            let found = Resampling::cubic(inputs, outputs);
            let sums = found.weights.chunks(inputs).map(|row| row.iter().sum::<f64>());
            assert!(sums.into_iter().all(|sum| (sum - 1.0).abs() < 1e-12));
        }
        let map: Vec<f64> = (0..9).map(f64::from).collect();
        assert_eq!(Resampling::cubic(3, 3).apply(&map), map);
    }

    #[test]
    fn both_sides_are_resampled() {
        // Rows 0 and 1 of a 2 × 2 map, averaged into one number.
        assert_eq!(Resampling::area(2, 1).apply(&[1.0, 2.0, 3.0, 6.0]), [3.0]);
        // Halfway between two pixels: −0.09375 · 2 + 0.59375 · 2 of constants is 1, so a constant map stays constant.
        let enlarged = Resampling::cubic(2, 4).apply(&[2.0; 4]);
        assert!(enlarged.iter().all(|value| (value - 2.0).abs() < 1e-12));
    }
}
