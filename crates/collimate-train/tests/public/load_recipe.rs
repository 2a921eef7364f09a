//! What a recipe computes in.

use std::fs;

use collimate_backend::{ComputeDtype, MatmulPrecision, multiplies_in};
use collimate_hub::{Hub, HubOptions};
use collimate_objectives as _;
use collimate_quantized::Format;
use collimate_recipe::{QUANTIZATIONS, Recipe};
use collimate_train::{LoadedRecipe, load_recipe_from, quantization};
use rstest::rstest;

#[rstest]
#[case("objective: nca\nbf16: true\n", "float32", Some("bf16 (flex computes in float32; what is saved is bfloat16)"))]
#[case("bf16: true\n", "float32", Some("bf16 (flex computes in float32)"))]
#[case("dataset_name: a.jsonl\n", "float32", Some("bf16 (flex computes in float32)"))]
#[case("dataset_name: a.jsonl\nfp16: true\n", "float32", None)]
#[case("bf16: true\nbf16_full_eval: true\ncompute_dtype: float32\n", "float32", None)]
#[case("bf16: false\n", "float32", None)]
#[case("compute_dtype: bfloat16\n", "bfloat16", None)]
fn bf16_is_a_wish_and_compute_dtype_is_not(#[case] text: &str, #[case] computed: &str, #[case] said: Option<&str>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("r.yaml");
    fs::write(&file, text).expect("a file");
    fs::write(folder.path().join("a.jsonl"), "{}\n").expect("a file");
    let hub = Hub::new(HubOptions { cache: folder.path().join("hub"), offline: true, ..HubOptions::from_env() });
    let overrides = [("backend".to_owned(), "flex".to_owned())];
    let LoadedRecipe { recipe, notes } = load_recipe_from(Some(&file), &overrides, &hub).expect("a recipe");
    let otherwise = notes.iter().find_map(|note| note.strip_prefix("done differently here: "));
    // A wish is granted where the processor has bfloat16 products.
    let granted = said.is_some() && multiplies_in("flex", ComputeDtype::Bfloat16) == Ok(true);
    let expected = if granted { ("bfloat16", None) } else { (computed, said) };
    assert_eq!((recipe.compute_dtype.as_str(), otherwise), expected);
}

#[test]
fn the_types_that_recipes_name_are_those_of_backends() {
    assert_eq!(collimate_recipe::COMPUTE_DTYPES, ComputeDtype::ALL.map(ComputeDtype::name));
    assert_eq!(collimate_recipe::MATMUL_PRECISIONS, MatmulPrecision::ALL.map(MatmulPrecision::name));
}

#[test]
fn every_format_that_recipes_name_can_be_packed_into() {
    for name in QUANTIZATIONS {
        let recipe = Recipe { quantization: name.to_owned(), ..Recipe::default() };
        assert_eq!(quantization(&recipe).map_or("none", Format::name), name);
    }
}
