//! Rotary position embeddings in Hugging Face's convention: the two halves of a head are rotated, not interleaved pairs.
//!
//! [`Ropes`] has the rotations of a model's layers, as tables of cosines and sines. The crate must not know tensors.

use collimate_hf::{ModelConfig, QueryGrowth, RopeScaling};

/// The rotations of a model's layers.
#[derive(Debug, Clone)]
pub struct Ropes {
    /// Of layers without a window, or of all.
    pub full: Rope,
    /// Of layers with a window, where it is another one.
    pub windows: Option<Rope>,
    /// How queries grow with their position.
    growth: Option<QueryGrowth>,
    /// The axis of each frequency: time, row or column, where positions have three.
    axes: Vec<usize>,
}

impl Ropes {
    /// As a configuration says.
    pub fn new(config: &ModelConfig) -> Self {
        Self {
            full: Rope::new(config, config.rope_theta, &config.rope_scaling),
            windows: config.window_rope.as_ref().map(|rope| Rope::new(config, rope.theta, &rope.scaling)),
            growth: config.query_growth,
            axes: config.mrope_sections.iter().flat_map(|sections| axes(*sections)).collect(),
        }
    }

    /// Cosines and sines of positions on three axes, each [N, rotary_dim / 2]: a frequency turns with its own axis.
    pub fn tables_on_axes(&self, positions: &[[u32; 3]]) -> (Vec<f32>, Vec<f32>) {
        let of_row = |row: &[u32; 3]| {
            let row = *row;
            self.full.inv_freq.iter().zip(&self.axes).map(move |(frequency, axis)| row[*axis] as f32 * frequency)
        };
        let angles = positions.iter().flat_map(of_row);
        angles.map(|a| (a.cos() * self.full.attention_factor, a.sin() * self.full.attention_factor)).unzip()
    }

    /// Factors on queries at `positions`; `None` if they do not grow. In float32, like the angles.
    pub fn query_factors(&self, positions: &[u32]) -> Option<Vec<f32>> {
        let QueryGrowth { beta, length } = self.growth?;
        let factor = |&p: &u32| 1.0 + beta as f32 * (1.0 + (p as f32 / length as f32).floor()).ln();
        Some(positions.iter().map(factor).collect())
    }
}

/// The axis of each frequency: so many of the first, the second and the third.
fn axes(sections: [usize; 3]) -> impl Iterator<Item = usize> {
    sections.into_iter().enumerate().flat_map(|(axis, count)| std::iter::repeat_n(axis, count))
}

/// Inverse frequencies, with their scaling applied.
///
/// Computed in float32 in the reference implementation's order of operations: at position 500, float32 and float64 angles
/// differ by 3e-5, more than the tolerance on log-probs.
#[derive(Debug, Clone)]
pub struct Rope {
    /// Radians per position, [rotary_dim / 2].
    inv_freq: Vec<f32>,
    /// Factor of cosines and sines: the attention temperature of YaRN and LongRoPE, otherwise 1.
    attention_factor: f32,
    /// Width of a head, of which the first `rotary_dim` columns are rotated.
    pub head_dim: usize,
    /// Side of the grid of positions after the first one, if they are two-dimensional. Frequencies are then those of either
    /// dimension, [rotary_dim / 4].
    grid: Option<usize>,
}

impl Rope {
    fn new(config: &ModelConfig, theta: f64, scaling: &RopeScaling) -> Self {
        let dim = if config.grid.is_some() { config.rotary_dim / 2 } else { config.rotary_dim };
        let base = theta as f32;
        let plain: Vec<f32> = (0..dim / 2).map(|i| 1.0 / base.powf((2 * i) as f32 / dim as f32)).collect();
        let (inv_freq, attention_factor) = match scaling {
            // Dynamic scaling has no effect up to the trained length; longer sequences are refused when scored.
            RopeScaling::Default | RopeScaling::Dynamic { .. } => (plain, 1.0),
            RopeScaling::Linear { factor } => (plain.iter().map(|f| f / *factor as f32).collect(), 1.0),
            llama3 @ RopeScaling::Llama3 { .. } => (Self::llama3(llama3, plain), 1.0),
            yarn @ RopeScaling::Yarn { .. } => Self::yarn(yarn, plain, dim, theta),
            RopeScaling::Long { short_factor, attention_factor, .. } => {
                let stretch =
                    |(i, factor): (usize, &f64)| 1.0 / (*factor as f32 * base.powf((2 * i) as f32 / dim as f32));
                (short_factor.iter().enumerate().map(stretch).collect(), *attention_factor as f32)
            }
        };
        Self { inv_freq, attention_factor, head_dim: config.head_dim, grid: config.grid }
    }

    /// Llama 3: divides low frequencies, keeps high ones, and blends between them.
    fn llama3(scaling: &RopeScaling, plain: Vec<f32>) -> Vec<f32> {
        let RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } =
            scaling
        else {
            return plain;
        };
        let (factor, low, high) = (*factor as f32, *low_freq_factor as f32, *high_freq_factor as f32);
        let original = *original_max_position_embeddings as f32;
        let scale = |f: f32| {
            let wavelength = 2.0 * std::f32::consts::PI / f;
            if wavelength > original / low {
                f / factor
            } else if wavelength < original / high {
                f
            } else {
                let smooth = (original / wavelength - low) / (high - low);
                (1.0 - smooth) * f / factor + smooth * f
            }
        };
        plain.into_iter().map(scale).collect()
    }

    /// YaRN (arXiv 2309.00071): keeps high frequencies, interpolates low ones, with a linear ramp between them.
    fn yarn(scaling: &RopeScaling, plain: Vec<f32>, dim: usize, theta: f64) -> (Vec<f32>, f32) {
        let RopeScaling::Yarn {
            factor,
            original_max_position_embeddings,
            beta_fast,
            beta_slow,
            attention_factor,
            mscale,
            mscale_all_dim,
            truncate,
        } = scaling
        else {
            return (plain, 1.0);
        };
        let temperature = |m: f64| if *factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
        let attention_factor = attention_factor.unwrap_or_else(|| match (mscale, mscale_all_dim) {
            (Some(m), Some(all)) if *m != 0.0 && *all != 0.0 => temperature(*m) / temperature(*all),
            _ => temperature(1.0),
        });
        let correction = |rotations: f64| {
            dim as f64 * (*original_max_position_embeddings as f64 / (rotations * 2.0 * std::f64::consts::PI)).ln()
                / (2.0 * theta.ln())
        };
        let (mut low, mut high) = (correction(*beta_fast), correction(*beta_slow));
        if *truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        let blend = |(i, f): (usize, f32)| {
            let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            f / *factor as f32 * ramp + f * (1.0 - ramp)
        };
        (plain.into_iter().enumerate().map(blend).collect(), attention_factor as f32)
    }

    /// Cosines and sines of `positions`, each [N, rotary_dim / 2].
    pub fn tables(&self, positions: &[u32]) -> (Vec<f32>, Vec<f32>) {
        if let Some(side) = self.grid {
            return positions.iter().flat_map(|&position| self.at_place(position as usize, side)).unzip();
        }
        let angles = positions.iter().flat_map(|&p| self.inv_freq.iter().map(move |f| p as f32 * f));
        angles.map(|a| (a.cos() * self.attention_factor, a.sin() * self.attention_factor)).unzip()
    }
}

impl Rope {
    /// Cosines and sines of a position: a row's and a column's on the grid; zeros at the first, so that its query and its key
    /// vanish.
    fn at_place(&self, position: usize, side: usize) -> impl Iterator<Item = (f32, f32)> + '_ {
        let place = position.checked_sub(1).map(|place| [place / side, place % side]);
        (0..2 * self.inv_freq.len()).map(move |i| {
            let (axis, frequency) = (i / self.inv_freq.len(), self.inv_freq[i % self.inv_freq.len()]);
            let angle = place.map(|place| place[axis] as f32 * frequency);
            angle.map_or((0.0, 0.0), |angle| (angle.cos(), angle.sin()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[test]
    fn longrope_divides_each_frequency_by_its_own_factor() {
        let config = json!({
            "model_type": "phi3", "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
            "partial_rotary_factor": 0.5, "max_position_embeddings": 64, "original_max_position_embeddings": 16,
            "rope_scaling": { "type": "longrope", "short_factor": [1, 2.5], "long_factor": [8, 8] },
        });
        let rope = Ropes::new(&ModelConfig::from_json(Path::new("config.json"), config).expect("a sound config")).full;
        assert_eq!(rope.head_dim, 8);
        let (cos, sin) = rope.tables(&[0, 3]);
        // Four numbers of a head are rotated, by 1 and 1/√10000 a position; √(1 + ln 4 / ln 16) = √1.5.
        let angles = [0.0, 0.0, 3.0, 3.0 / 2.5 / 100.0];
        for ((cos, sin), angle) in cos.iter().zip(sin).zip(angles) {
            let expected = (1.5_f64.sqrt() * f64::cos(angle), 1.5_f64.sqrt() * f64::sin(angle));
            assert!((f64::from(*cos) - expected.0).abs() < 1e-6 && (f64::from(sin) - expected.1).abs() < 1e-6);
        }
    }
    #[test]
    fn queries_grow_by_the_logarithm_of_whole_lengths() {
        let config = json!({
            "model_type": "ministral3", "hidden_size": 16, "num_hidden_layers": 1,
            "rope_parameters": {
                "rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 8, "llama_4_scaling_beta": 0.5,
            },
        });
        let ropes = Ropes::new(&ModelConfig::from_json(Path::new("config.json"), config).expect("a sound config"));
        let factors = ropes.query_factors(&[0, 7, 8, 23, 24]).expect("growth");
        let expected = [0.0, 0.0, 2.0, 3.0, 4.0].map(|n: f64| if n == 0.0 { 1.0 } else { 1.0 + 0.5 * n.ln() });
        assert!(factors.iter().zip(expected).all(|(found, expected)| (f64::from(*found) - expected).abs() < 1e-6));
    }

    #[test]
    fn positions_on_a_grid_turn_pairs_by_row_and_column_and_the_condition_has_none() {
        let config = json!({
            "model_type": "llamagen", "dim": 16, "n_head": 2, "n_layer": 1, "multiple_of": 4, "vocab_size": 9,
            "num_classes": 3, "block_size": 9, "rope_base": 100,
        });
        let config = ModelConfig::from_json(Path::new("config.json"), config).expect("a sound config");
        let (cos, sin) = Ropes::new(&config).full.tables(&[0, 1, 6]);
        // Four pairs a head: two by row, two by column, by 1 and 1/√100 a step. The sixth token is in row 1, column 2.
        let angles = [0.0, 0.0, 0.0, 0.0, 1.0, 0.1, 2.0, 0.2];
        assert!(cos[..4].iter().chain(&sin[..4]).all(|number| *number == 0.0));
        for ((cos, sin), angle) in cos[4..].iter().zip(&sin[4..]).zip(angles) {
            assert!(
                (f64::from(*cos) - f64::cos(angle)).abs() < 1e-6 && (f64::from(*sin) - f64::sin(angle)).abs() < 1e-6
            );
        }
    }
}
