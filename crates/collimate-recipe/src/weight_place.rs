//! Where a model's weights are kept.

use crate::memory_budget::MemoryBudget;

/// Values of `weights`, the default first.
pub const WEIGHT_PLACES: [&str; 3] = ["auto", "resident", "mapped"];

/// Where weights of linear layers are kept that passes only read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightPlace {
    /// In memory, if this budget has room for them; otherwise in their files, if they can be read from there.
    Auto(MemoryBudget),
    /// In memory.
    Resident,
    /// In their files.
    Mapped,
}

impl WeightPlace {
    /// The place with this name, one of [`WEIGHT_PLACES`]; `auto` is within a budget.
    pub fn named(name: &str, budget: MemoryBudget) -> Self {
        match name {
            "mapped" => Self::Mapped,
            "resident" => Self::Resident,
            _ => Self::Auto(budget),
        }
    }
}
