//! A run over packed weights is, bit for bit, the run over the numbers that they stand for, however its steps are divided.

use std::path::Path;

use collimate_files::ShardSize;
use collimate_hf::HostTensor;
use collimate_quantized::Format;
use collimate_recipe::Recipe;
use collimate_report::metrics::CLOCKED;
use collimate_report::{MetricsRow, read_metrics};
use collimate_train::progress::Silent;
use collimate_weights::{StorageDtype, WeightFiles, copy_side_files, read_config, write_model};
use rstest::rstest;

use super::{backend, recipe, vary};
use collimate_train::{RunControl, quantization, train};

/// Writes a model with the weights of its linear layers packed and unpacked again.
fn write_unpacked(model: &Path, format: Format, to: &Path) {
    let config = read_config(model).expect("a configuration");
    let weights = WeightFiles::open(model).expect("weights");
    let packable = config.packable_weights();
    let tensors = config.tensors().into_iter().map(|spec| {
        if !packable.contains(&spec.name) {
            let tensor = weights.read(&spec.name).expect("a tensor");
            return (spec.name, tensor);
        }
        let packed = weights.pack(&spec.name, format).expect("a packed weight");
        let mut data = vec![0.0; packed.rows() * packed.columns()];
        packed.unpack_rows(0..packed.rows(), &mut data);
        (spec.name, HostTensor::new(spec.shape, data))
    });
    copy_side_files(model, to).expect("files");
    write_model(to, &config, tensors, StorageDtype::F32, ShardSize::default()).expect("a model");
}

/// What a run leaves: its adapter, and its metrics but for times.
fn left(recipe: &Recipe) -> (Vec<u8>, Vec<Vec<Option<f64>>>) {
    train(recipe, &mut Silent, &RunControl::default()).expect("a finished run");
    let adapter = std::fs::read(recipe.output_dir.join("adapter_model.safetensors")).expect("an adapter");
    let timeless = |row: &MetricsRow| {
        row.names().filter(|name| !CLOCKED.contains(name)).map(|name| row.get(name)).collect::<Vec<_>>()
    };
    let rows = read_metrics(&recipe.output_dir.join("metrics.jsonl")).expect("metrics");
    (adapter, rows.iter().map(timeless).collect())
}

#[rstest]
fn packed_and_unpacked_weights_train_the_same_bits(
    #[values("nca_llama_nf4-double", "nca_mixtral_nf4", "infonca_gemma2_int8")] case: &str,
    #[values("", "gradient_checkpointing", "separate_prompts", "several_packs", "several_separate_packs", "blockwise")]
    variant: &str,
) {
    // Other backends unpack on the device.
    if backend() != "flex" {
        return;
    }
    let out = tempfile::tempdir().expect("a folder");
    let run = |name: &str, change: &dyn Fn(&mut Recipe)| {
        let mut recipe = recipe(case, &out.path().join(name));
        recipe.max_steps = 4;
        change(&mut recipe);
        vary(&mut recipe, variant).then(|| left(&recipe))
    };
    let packed = run("packed", &|_| {});
    let folder = out.path().join("model");
    let unpacked = run("unpacked", &|recipe| {
        let model = recipe.model_name_or_path.clone().expect("a model");
        write_unpacked(&model, quantization(recipe).expect("a format"), &folder);
        recipe.model_name_or_path = Some(folder.clone());
        recipe.quantization = "none".to_owned();
    });
    assert!(packed == unpacked, "{case}, {variant}");
}
