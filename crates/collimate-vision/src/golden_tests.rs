//! Inner values of both towers for one image, of `../shared/parity/visual`, where that is beside the checkout.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use burn_flex::Flex;
use collimate_backend::ComputeDtype;
use collimate_towers::{Tower, TowerFamily};
use rstest::rstest;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::attention::rows;
use crate::{Order, PatchGrid, TowerIds, VisionTower};

/// Of inner values and rows, absolute; they are of the order of 1.
const MERGED: f32 = 2e-5;

/// The folder; says so where it is not.
fn visual() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/parity/visual");
    let found = folder.exists();
    if !found {
        println!("left out: {} is not there", folder.display());
    }
    found.then_some(folder)
}

struct Stored {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn floats(&self) -> Vec<f32> {
        self.bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
    }

    fn matrix(&self) -> Tensor<Flex, 2> {
        Tensor::from_data(TensorData::new(self.floats(), [self.shape[0], self.shape[1]]), &Default::default())
    }
}

fn tensors(path: &Path) -> HashMap<String, Stored> {
    let bytes = std::fs::read(path).expect("tensors");
    let file = SafeTensors::deserialize(&bytes).expect("a sound file");
    let stored = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        (name, Stored { shape: view.shape().to_vec(), bytes: view.data().to_vec() })
    };
    file.tensors().into_iter().map(stored).collect()
}

/// A tower with its weights, in both layouts of folders.
struct Golden {
    tower: Tower,
    ids: TowerIds,
    params: Vec<Tensor<Flex, 2>>,
}

impl Golden {
    fn read(root: &Path, model: &str) -> Self {
        let folder = root.join("models").join(model);
        let config = std::fs::read_to_string(folder.join("config.json")).expect("a configuration");
        let config: Value = serde_json::from_str(&config).expect("JSON");
        let width = config.get("text_config").unwrap_or(&config)["hidden_size"].as_u64().expect("a width");
        let vision = config["vision_config"].as_object().expect("a vision_config");
        let tower =
            TowerFamily::of(model).expect("a tower").read(vision, width as usize).expect("a sound configuration");
        let weights = tensors(&folder.join("model.safetensors"));
        let mut names = Vec::new();
        let mut params = Vec::new();
        for (name, shape) in tower.tensors() {
            let published = name.replacen("model.visual.", "visual.", 1);
            let stored = weights.get(&name).or_else(|| weights.get(&published)).expect("a weight");
            assert_eq!(stored.shape, shape, "{name}");
            params.push(match shape.len() {
                2 => stored.matrix().transpose(),
                _ => {
                    let values = stored.floats();
                    let width = values.len();
                    Tensor::from_data(TensorData::new(values, [1, width]), &Default::default())
                }
            });
            names.push(name);
        }
        let mut find = |name: &str| names.iter().position(|found| found == name).expect("a parameter");
        let ids = TowerIds::new(&tower, &mut find, &mut |_| None);
        Self { tower, ids, params }
    }
}

fn assert_near(found: Tensor<Flex, 2>, expected: &Stored, what: &str) {
    assert_eq!(found.dims().to_vec(), expected.shape, "{what}");
    let found: Vec<f32> = found.into_data().iter().collect();
    let off = found.iter().zip(expected.floats()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{what}: {off:e}");
    assert!(off <= MERGED, "{what}: off by {off}");
}

#[rstest]
fn inner_values_are_those_of_transformers(#[values("qwen2_vl", "qwen2_5_vl")] model: &str) {
    let Some(root) = visual() else { return };
    let golden = Golden::read(&root, model);
    let values = tensors(&root.join("vision").join(format!("{model}.safetensors")));
    let grid: Vec<usize> =
        values["image_grid_thw"].bytes.as_chunks().0.iter().map(|word| i64::from_le_bytes(*word) as usize).collect();
    let grid = PatchGrid { rows: grid[1], columns: grid[2] };
    let packed = vec![None; golden.params.len()];
    let tower = VisionTower::<Flex> {
        tower: &golden.tower,
        ids: &golden.ids,
        params: &golden.params,
        packed: &packed,
        device: &Default::default(),
        dtype: ComputeDtype::Float32,
    };
    let numbers = values["pixel_values"].floats();
    let order = Order::new(&golden.tower, &[grid]);
    let (patches, rotary) = tower.begin(numbers.clone(), &order);
    let mut x = tower.embed(&patches);
    // transformers embeds before it permutes.
    let back = order.patches(golden.tower.merged_patches());
    let mut unpermuted: Vec<u32> = vec![0; back.len()];
    back.iter().enumerate().for_each(|(computed, patch)| unpermuted[*patch as usize] = computed as u32);
    let embedded = match back.is_empty() {
        true => x.clone(),
        false => x.clone().select(0, rows(&unpermuted, &Default::default())),
    };
    assert_near(embedded, &values["patch_embed"], &format!("{model}, patch_embed"));
    for (number, block) in golden.ids.blocks.iter().enumerate() {
        x = tower.layers().block(block, &x, &tower.places(number, &order, &rotary));
        assert_near(x.clone(), &values[&format!("blocks.{number}")], &format!("{model}, block {number}"));
    }
    assert_near(tower.forward(numbers, &[grid]), &values["merged"], &format!("{model}, merged"));
}
