//! The memory budget in bytes, and what it is derived from.

use collimate_backend::DeviceMemory;
use collimate_progress::format_bytes;
use collimate_recipe::{MemoryBudget, Recipe};

/// What a run may hold in memory, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// `None` for no limit.
    pub(crate) bytes: Option<u64>,
    /// What a budget that the recipe leaves open is derived from.
    pub(crate) origin: Option<String>,
}

impl Allowance {
    /// What `memory_budget` allows on a device with this memory.
    pub(crate) fn new(recipe: &Recipe, device: Option<&DeviceMemory>) -> Self {
        let bytes = recipe.memory_budget.bytes(device.map(|device| device.bytes));
        let is_auto = recipe.memory_budget == MemoryBudget::Auto;
        let origin = device.filter(|_| is_auto);
        let origin = origin.map(|device| format!("three quarters of {}, {device}", format_bytes(device.bytes)));
        Self { bytes, origin }
    }

    /// A line for the log on a budget that the recipe leaves open.
    pub(crate) fn note(&self) -> Option<String> {
        let (bytes, origin) = (self.bytes?, self.origin.as_ref()?);
        Some(format!("memory_budget: auto is {}: {origin}", format_bytes(bytes)))
    }
}

impl From<Option<u64>> for Allowance {
    fn from(bytes: Option<u64>) -> Self {
        Self { bytes, origin: None }
    }
}
