//! What a recipe says of how its model is computed.

use collimate_backend::{BACKENDS, ComputeDtype, MatmulPrecision};
use collimate_quantized::Format;
use collimate_recipe::Recipe;

/// The backend that a recipe names, or the first that is compiled in.
pub fn backend_name(recipe: &Recipe) -> &str {
    recipe.backend.as_deref().unwrap_or(BACKENDS[0].name)
}

/// The dtype that a recipe's model computes in.
pub fn compute_dtype(recipe: &Recipe) -> ComputeDtype {
    // Parsing rejects other names.
    ComputeDtype::from_name(&recipe.compute_dtype).unwrap_or_default()
}

/// How exact products of float32 numbers are to be, by a recipe.
pub fn matmul_precision(recipe: &Recipe) -> MatmulPrecision {
    // Parsing rejects other names.
    MatmulPrecision::from_name(&recipe.float32_matmul_precision).unwrap_or_default()
}

/// What a recipe's model computes in, in words.
pub fn computed_in(recipe: &Recipe) -> String {
    match matmul_precision(recipe) {
        MatmulPrecision::Highest => recipe.compute_dtype.clone(),
        lower => format!("{}, products in {} precision", recipe.compute_dtype, lower.name()),
    }
}

/// The format that a recipe packs its model into.
pub fn quantization(recipe: &Recipe) -> Option<Format> {
    Format::to_pack_into(&recipe.quantization)
}
