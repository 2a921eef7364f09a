//! Maps of vectors, and the layers that a decoder is made of.

use collimate_kernels::{Matrix, multiply};

/// Groups of a group norm, whatever its channels.
pub(crate) const GROUPS: usize = 32;
/// Added to the variance inside every group norm.
const EPS: f64 = 1e-6;
/// Numbers of a band of a convolution's input, laid out for a product: 16 MiB.
const BAND: usize = 4 << 20;

/// A square map with a vector at each place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Map {
    /// [h, w, C]: the vectors of places, in reading order.
    pub(crate) data: Vec<f32>,
    /// Lines and columns.
    pub(crate) side: usize,
    /// Length of a vector, C.
    pub(crate) channels: usize,
}

impl Map {
    fn places(&self) -> usize {
        self.side * self.side
    }

    /// Adds another map of the same sizes.
    pub(crate) fn add(&mut self, other: &Self) {
        self.data.iter_mut().zip(&other.data).for_each(|(own, other)| *own += other);
    }

    /// x σ(x) at each number.
    pub(crate) fn swish(mut self) -> Self {
        self.data.iter_mut().for_each(|x| *x /= 1.0 + (-*x).exp());
        self
    }
}

/// A square convolution of side 1 or 3, with zeros around the map.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Convolution {
    /// [outputs, n · n · C]: for each output the vectors of its taps in reading order.
    weight: Vec<f32>,
    bias: Vec<f32>,
    inputs: usize,
    side: usize,
}

impl Convolution {
    /// From a weight as PyTorch has it, [outputs, C, n, n].
    pub(crate) fn new(weight: &[f32], bias: Vec<f32>, inputs: usize, side: usize) -> Self {
        let taps = side * side;
        let mut turned = vec![0.0; weight.len()];
        for (from, to) in weight.chunks_exact(inputs * taps).zip(turned.chunks_exact_mut(inputs * taps)) {
            for (channel, values) in from.chunks_exact(taps).enumerate() {
                values.iter().enumerate().for_each(|(tap, value)| to[tap * inputs + channel] = *value);
            }
        }
        Self { weight: turned, bias, inputs, side }
    }

    pub(crate) fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// The map of its outputs, of the input's side times `zoom`: each place is first repeated that often in both directions.
    pub(crate) fn apply(&self, map: &Map, zoom: usize) -> Map {
        let (side, outputs) = (map.side * zoom, self.outputs());
        let width = self.side * self.side * self.inputs;
        let mut data = vec![0.0; side * side * outputs];
        let lines = (BAND / (side * width).max(1)).clamp(1, side.max(1));
        for (band, out) in data.chunks_mut(lines * side * outputs).enumerate() {
            let rows = out.len() / outputs;
            let mut columns = vec![0.0; rows * width];
            for (place, row) in columns.chunks_exact_mut(width).enumerate() {
                self.gather(map, zoom, band * lines * side + place, row);
            }
            out.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(&self.bias));
            let weight = Matrix::transpose_of(&self.weight, width, outputs);
            multiply(out, true, 1.0, Matrix::new(&columns, rows, width), weight);
        }
        Map { data, side, channels: outputs }
    }

    /// The vectors under the taps at a place of the output; beyond the edges they stay zero.
    fn gather(&self, map: &Map, zoom: usize, place: usize, row: &mut [f32]) {
        let (side, reach) = (map.side * zoom, self.side / 2);
        let (y, x) = (place / side, place % side);
        for (tap, to) in row.chunks_exact_mut(self.inputs).enumerate() {
            let (line, column) = (y + tap / self.side, x + tap % self.side);
            let inside = reach..side + reach;
            if inside.contains(&line) && inside.contains(&column) {
                let from = ((line - reach) / zoom * map.side + (column - reach) / zoom) * self.inputs;
                to.copy_from_slice(&map.data[from..from + self.inputs]);
            }
        }
    }
}

/// A group norm of 32 groups of channels, with a weight and a bias for each channel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Norm {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

impl Norm {
    pub(crate) fn apply(&self, map: &Map) -> Map {
        let (channels, width) = (map.channels, map.channels / GROUPS);
        let (mut sums, mut squares) = ([0.0_f64; GROUPS], [0.0_f64; GROUPS]);
        for vector in map.data.chunks_exact(channels) {
            for (group, part) in vector.chunks_exact(width).enumerate() {
                for value in part {
                    sums[group] += f64::from(*value);
                    squares[group] += f64::from(*value) * f64::from(*value);
                }
            }
        }
        let count = (map.places() * width) as f64;
        let factor = |group: usize| {
            let mean = sums[group] / count;
            (1.0 / ((squares[group] / count - mean * mean).max(0.0) + EPS).sqrt(), mean)
        };
        let of_channel = |channel: usize| {
            let (scale, mean) = factor(channel / width);
            let scale = scale * f64::from(self.weight[channel]);
            (scale as f32, (f64::from(self.bias[channel]) - scale * mean) as f32)
        };
        let of_channels: Vec<(f32, f32)> = (0..channels).map(of_channel).collect();
        let scaled = |vector: &[f32]| -> Vec<f32> {
            vector.iter().zip(&of_channels).map(|(value, (scale, shift))| value * scale + shift).collect()
        };
        Map { data: map.data.chunks_exact(channels).flat_map(scaled).collect(), ..*map }
    }
}

/// A map in which each place is the average of the values at all places, weighted by the softmax of its query's products with
/// their keys; one head, divided by the root of its width.
pub(crate) fn attend(queries: &Map, keys: &Map, values: &Map) -> Map {
    let (places, width) = (queries.places(), queries.channels);
    let mut weights = vec![0.0; places * places];
    let scale = 1.0 / (width as f32).sqrt();
    let keys = Matrix::transpose_of(&keys.data, width, places);
    multiply(&mut weights, false, scale, Matrix::new(&queries.data, places, width), keys);
    for row in weights.chunks_exact_mut(places) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter_mut().for_each(|weight| *weight = (*weight - largest).exp());
        let sum: f64 = row.iter().map(|weight| f64::from(*weight)).sum();
        row.iter_mut().for_each(|weight| *weight = (f64::from(*weight) / sum) as f32);
    }
    let mut data = vec![0.0; places * width];
    let values = Matrix::new(&values.data, places, width);
    multiply(&mut data, false, 1.0, Matrix::new(&weights, places, places), values);
    Map { data, ..*queries }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_convolution_sees_zeros_around_the_map_and_repeated_places() {
        // Two channels in, one out: the first channel to the left, twice the second one below.
        let mut weight = vec![0.0; 18];
        (weight[3], weight[9 + 7]) = (1.0, 2.0);
        let convolution = Convolution::new(&weight, vec![10.0], 2, 3);
        let map = Map { data: vec![1.0, 5.0, 2.0, 6.0, 3.0, 7.0, 4.0, 8.0], side: 2, channels: 2 };
        let found = convolution.apply(&map, 1);
        assert_eq!(found.data, [10.0 + 14.0, 10.0 + 1.0 + 16.0, 10.0, 10.0 + 3.0]);
        let zoomed = convolution.apply(&map, 2);
        assert_eq!((zoomed.side, zoomed.channels), (4, 1));
        assert_eq!(zoomed.data[..4], [10.0 + 10.0, 10.0 + 1.0 + 10.0, 10.0 + 1.0 + 12.0, 10.0 + 2.0 + 12.0]);
    }

    #[test]
    fn a_large_map_in_bands_is_what_it_is_at_once() {
        let convolution =
            Convolution::new(&[0.0, 1.0, 0.0, 1.0, -4.0, 1.0, 0.0, 1.0, 0.0].repeat(256 * 256), vec![0.5; 256], 256, 3);
        let side = 48;
        let value = |place: usize| (place * place % 7) as f32;
        let map = Map { data: (0..side * side).flat_map(|place| [value(place); 256]).collect(), side, channels: 256 };
        assert!(side * side * 9 * 256 > BAND);
        let found = convolution.apply(&map, 1);
        for place in [0, side * 20 + 7, side * side - 1] {
            let (y, x) = (place / side, place % side);
            let at = |y: usize, x: usize| if y < side && x < side { value(y * side + x) } else { 0.0 };
            let around = at(y.wrapping_sub(1), x) + at(y + 1, x) + at(y, x.wrapping_sub(1)) + at(y, x + 1);
            assert_eq!(found.data[place * 256], 256.0 * (around - 4.0 * at(y, x)) + 0.5);
        }
    }

    #[test]
    fn groups_have_mean_zero_and_variance_one() {
        let norm = Norm { weight: vec![2.0; 64], bias: vec![1.0; 64] };
        let map = Map { data: (0..4 * 64).map(|at| (at * at % 11) as f32 + 100.0).collect(), side: 2, channels: 64 };
        let found = norm.apply(&map);
        let group: Vec<f64> =
            (0..4).flat_map(|place| [place * 64, place * 64 + 1].map(|at| f64::from(found.data[at]))).collect();
        let mean = group.iter().sum::<f64>() / 8.0;
        let variance = group.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / 8.0;
        assert!((mean - 1.0).abs() < 1e-4 && (variance - 4.0).abs() < 1e-3, "{mean} {variance}");
    }

    #[test]
    fn a_place_attends_to_all_by_its_query() {
        let map = |data: [f32; 4]| Map { data: data.to_vec(), side: 2, channels: 1 };
        // e^(ln 3) : 1 : 1 : 1.
        let found = attend(&map([3f32.ln(), 0.0, 0.0, 0.0]), &map([1.0, 0.0, 0.0, 0.0]), &map([6.0, 0.0, 12.0, 0.0]));
        let expected = [(3.0 * 6.0 + 12.0) / 6.0, 18.0 / 4.0, 18.0 / 4.0, 18.0 / 4.0];
        assert!(found.data.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5), "{found:?}");
    }
}
