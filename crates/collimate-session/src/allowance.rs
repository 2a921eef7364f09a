//! The memory budget in bytes, and what it is derived from.

use collimate_backend::{BACKENDS, DeviceMemory};
use collimate_machine::memory_limit;
use collimate_model::MemoryCosts;
use collimate_progress::format_bytes;
use collimate_recipe::{MemoryBudget, Recipe};

use crate::computing::backend_name;

/// Memory reserved for the program itself, the data, and allocator fragmentation.
pub const OVERHEAD: u64 = 96 << 20;

/// What a run may hold in memory, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// `None` for no limit.
    pub bytes: Option<u64>,
    /// What a budget that the recipe leaves open is derived from.
    pub origin: Option<String>,
    /// What may be held beside it in the memory of the host, for a device with memory of its own; 0 if that is not known.
    pub host: Option<u64>,
}

impl Allowance {
    /// What `memory_budget` allows on a device with this memory.
    pub fn new(recipe: &Recipe, device: Option<&DeviceMemory>) -> Self {
        let bytes = recipe.memory_budget.bytes(device.map(|device| device.bytes));
        let is_auto = recipe.memory_budget == MemoryBudget::Auto;
        let origin = device.filter(|_| is_auto);
        let origin = origin.map(|device| format!("three quarters of {}, {device}", format_bytes(device.bytes)));
        let shares_memory = match device {
            Some(device) => device.source.is_some(),
            None => backend_name(recipe) == BACKENDS[0].name,
        };
        Self { bytes, origin, host: (!shares_memory).then(host_room) }
    }

    /// A line for the log on a budget that the recipe leaves open.
    pub fn note(&self) -> Option<String> {
        let (bytes, origin) = (self.bytes?, self.origin.as_ref()?);
        Some(format!("memory_budget: auto is {}: {origin}", format_bytes(bytes)))
    }
}

/// Bytes that a run may hold in the memory of the host beside the program: as much of it as an automatic budget has of a
/// device's.
fn host_room() -> u64 {
    let limit = memory_limit().map(|limit| limit.bytes);
    MemoryBudget::Auto.bytes(limit).unwrap_or(0).saturating_sub(OVERHEAD)
}

impl From<Option<u64>> for Allowance {
    fn from(bytes: Option<u64>) -> Self {
        Self { bytes, origin: None, host: None }
    }
}

/// Bytes that are held beside every pass: a budget must have more.
pub fn least_held(costs: &MemoryCosts) -> u64 {
    costs.resident.saturating_add(OVERHEAD)
}
