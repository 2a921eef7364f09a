//! Runs over bases as transformers and bitsandbytes write them: `../shared/parity/quantised`, where that is beside the
//! checkout. The repository has runs of their kind, packed when they are read (`tests/golden/quantized`).

use std::path::{Path, PathBuf};

use rstest::rstest;

use super::{check_run, recipe_in, vary};

/// The folder; says so where it is not.
fn quantized() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/parity/quantised");
    let found = folder.exists();
    if !found {
        println!("left out: {} is not there", folder.display());
    }
    found.then_some(folder)
}

#[rstest]
fn every_step_over_a_packed_base_agrees_with_pytorch(
    #[values("nca_llama.nf4dq_lora", "nca_qwen2.nf4dq_lora", "nca_mixtral.nf4dq_lora", "nca_gemma2.nf4dq_lora")]
    case: &str,
    #[values("resident", "mapped")] weights: &str,
    #[values("", "gradient_checkpointing", "separate_prompts", "several_packs", "blockwise")] variant: &str,
) {
    let Some(root) = quantized() else { return };
    let out = tempfile::tempdir().expect("a folder");
    let mut recipe = recipe_in(&root, case, out.path());
    recipe.weights = weights.to_owned();
    if vary(&mut recipe, variant) {
        check_run(&root.join("train").join(case), &recipe);
    }
}
