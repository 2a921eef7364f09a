//! How exact products of float32 numbers are.

use std::sync::atomic::{AtomicU8, Ordering};

/// How exact a product of float32 numbers has to be, by PyTorch's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MatmulPrecision {
    /// Products and sums in float32.
    #[default]
    Highest,
    /// Each number is the sum of two bfloat16 numbers; three products are added: high · low, low · high and high · high. The
    /// error of a product is at most 2⁻¹⁵ of it.
    High,
    /// Each number is rounded to bfloat16. The error of a product is at most 2⁻⁷ + 2⁻¹⁶ of it.
    Medium,
}

impl MatmulPrecision {
    /// All of them, the most exact first.
    pub const ALL: [Self; 3] = [Self::Highest, Self::High, Self::Medium];

    /// PyTorch's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Highest => "highest",
            Self::High => "high",
            Self::Medium => "medium",
        }
    }

    /// The precision with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|precision| precision.name() == name)
    }
}

/// An index into [`MatmulPrecision::ALL`].
static IN_FORCE: AtomicU8 = AtomicU8::new(0);

/// How exact every following product of float32 numbers in this process has to be; as in PyTorch, there is one setting.
pub fn set_float32_matmul_precision(precision: MatmulPrecision) {
    IN_FORCE.store(precision as u8, Ordering::Relaxed);
}

/// The setting.
pub(super) fn float32_matmul_precision() -> MatmulPrecision {
    MatmulPrecision::ALL.get(usize::from(IN_FORCE.load(Ordering::Relaxed))).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_pytorch() {
        assert_eq!(MatmulPrecision::ALL.map(MatmulPrecision::name), ["highest", "high", "medium"]);
        for (index, precision) in MatmulPrecision::ALL.into_iter().enumerate() {
            assert_eq!(MatmulPrecision::from_name(precision.name()), Some(precision));
            assert_eq!(precision as usize, index);
        }
        assert_eq!(MatmulPrecision::from_name("low"), None);
        assert_eq!(MatmulPrecision::Highest.on_this_processor(), MatmulPrecision::Highest);
    }
}
