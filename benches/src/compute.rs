//! The device of a measurement, and the type in which it computes.

pub use collimate_kernels::MatmulPrecision as Precision;
use collimate_report::provenance::gpus;

/// The device and type of a task, for all entrants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComputeSettings {
    /// Our backend.
    pub backend: String,
    /// Index of its device.
    pub device: usize,
    /// Weights and activations in bfloat16.
    pub bf16: bool,
    /// Of products in float32.
    pub precision: Precision,
    /// Threads of each entrant.
    pub threads: usize,
}

/// Largest relative difference of losses and of gradient norms between two sides that do the same work.
const TOLERANCES: [f64; 2] = [1e-3, 1e-2];
/// The same where factors have 8 bits, which the two sides round at different points.
const BF16_TOLERANCES: [f64; 2] = [5e-3, 5e-2];

impl ComputeSettings {
    /// Whether all sides run on the CPU.
    pub fn on_processor(&self) -> bool {
        self.peer_device() == "cpu"
    }

    /// Name of the type all sides compute in.
    pub fn dtype(&self) -> &'static str {
        if self.bf16 { "bfloat16" } else { "float32" }
    }

    /// PyTorch's name of the device: a GPU if ours uses one.
    pub fn peer_device(&self) -> String {
        // libtorch numbers the GPUs first, then the CPU.
        match self.backend.as_str() {
            "cuda" | "wgpu" => format!("cuda:{}", self.device),
            "libtorch" if self.device < gpus().len() => format!("cuda:{}", self.device),
            _ => "cpu".to_owned(),
        }
    }

    /// Largest relative difference of losses, and of gradient norms, between sides that do the same work.
    pub fn tolerances(&self) -> [f64; 2] {
        if self.has_narrow_factors() { BF16_TOLERANCES } else { TOLERANCES }
    }

    /// Whether factors of products have eight bits.
    pub fn has_narrow_factors(&self) -> bool {
        self.bf16 || self.precision == Precision::Medium
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_of_eight_bits_may_differ_more() {
        let with =
            |bf16, precision| ComputeSettings { backend: "flex".to_owned(), device: 0, bf16, precision, threads: 2 };
        assert_eq!(with(false, Precision::Highest).tolerances(), TOLERANCES);
        assert_eq!(with(false, Precision::High).tolerances(), TOLERANCES);
        assert_eq!(with(false, Precision::Medium).tolerances(), BF16_TOLERANCES);
        assert_eq!(with(true, Precision::Highest).tolerances(), BF16_TOLERANCES);
    }

    #[test]
    fn precisions_are_found_by_their_names() {
        for precision in Precision::ALL {
            assert_eq!(Precision::from_name(precision.name()), Some(precision));
        }
        assert_eq!(Precision::from_name("higher"), None);
    }
}
