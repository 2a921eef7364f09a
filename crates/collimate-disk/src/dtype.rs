//! The dtype of the final weights.

use collimate_hf::ModelConfig;
use collimate_recipe::Recipe;
use collimate_weights::StorageDtype;

/// Whether the recipe says which dtype the final weights have.
pub fn dtype_is_named(recipe: &Recipe) -> bool {
    recipe.torch_dtype.as_deref().is_some_and(|name| name != "auto")
}

/// The dtype of the final weights: the recipe's, or else the base model's. If rounding to the latter would take much of what
/// was learned, float32 takes its place (`Rounding`).
pub fn storage_dtype(recipe: &Recipe, config: &ModelConfig) -> StorageDtype {
    let named = recipe.torch_dtype.as_deref().filter(|name| *name != "auto").or(config.dtype.as_deref());
    named.and_then(StorageDtype::from_name).unwrap_or(StorageDtype::F32)
}

/// The largest dtype that the final weights may turn out to have.
pub(crate) fn largest_dtype(recipe: &Recipe, config: &ModelConfig) -> StorageDtype {
    if dtype_is_named(recipe) { storage_dtype(recipe, config) } else { StorageDtype::F32 }
}
