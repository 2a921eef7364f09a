//! Gradients against differences, and images that must not see each other.

use burn::tensor::{Tensor, TensorData};
use burn_flex::Flex;
use collimate_backend::{ComputeDtype, Gradient};
use collimate_towers::{Tower, TowerFamily};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rstest::rstest;
use serde_json::json;

use crate::{LoraIds, PatchGrid, Slots, TowerIds, VisionTower};

/// Two images whose windows have several sizes.
const GRIDS: [PatchGrid; 2] = [PatchGrid { rows: 6, columns: 4 }, PatchGrid { rows: 2, columns: 6 }];

/// A small tower with random weights, and an adapter on its feed-forward layers if asked for.
struct Small {
    tower: Tower,
    ids: TowerIds,
    params: Vec<Tensor<Flex, 2>>,
    names: Vec<String>,
}

impl Small {
    fn new(model_type: &str, lora: bool) -> Self {
        let json = json!({
            "depth": 2, "embed_dim": 16, "hidden_size": if model_type == "qwen2_vl" { 12 } else { 16 },
            "out_hidden_size": 12, "num_heads": 2, "mlp_ratio": 2, "intermediate_size": 20, "patch_size": 2,
            "window_size": 8, "fullatt_block_indexes": [1],
        });
        let family = TowerFamily::of(model_type).expect("a tower");
        let tower = family.read(json.as_object().expect("fields"), 12).expect("a sound configuration");
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (mut names, mut params) = (Vec::new(), Vec::new());
        let mut draw = |rows: usize, columns: usize, center: f32, scale: f32| {
            let values: Vec<f32> = (0..rows * columns).map(|_| center + scale * rng.random_range(-1.0..1.0)).collect();
            Tensor::from_data(TensorData::new(values, [rows, columns]), &Default::default())
        };
        for (name, shape) in tower.tensors() {
            params.push(match shape.as_slice() {
                [out, width] => draw(*width, *out, 0.0, 1.0 / (*width as f32).sqrt()),
                [width] if name.ends_with("weight") => draw(1, *width, 1.0, 0.2),
                other => draw(1, other.iter().product(), 0.0, 0.2),
            });
            names.push(name);
        }
        let found = names.clone();
        let mut attach = |linear: &collimate_towers::Linear| {
            (lora && linear.module.contains(".mlp.")).then(|| {
                let (a, b) = (params.len(), params.len() + 1);
                params.push(draw(linear.in_features, 2, 0.0, 0.3));
                params.push(draw(2, linear.out_features, 0.0, 0.3));
                names.extend(["A", "B"].map(|part| format!("{}.{part}", linear.module)));
                LoraIds { a, b, scale: 2.0 }
            })
        };
        let mut find = |name: &str| found.iter().position(|found| found == name).expect("a parameter");
        let ids = TowerIds::new(&tower, &mut find, &mut attach);
        Self { tower, ids, params, names }
    }

    fn compute<R>(&self, params: &[Tensor<Flex, 2>], work: impl FnOnce(VisionTower<'_, Flex>) -> R) -> R {
        let packed = vec![None; params.len()];
        let (tower, ids, device) = (&self.tower, &self.ids, &Default::default());
        work(VisionTower { tower, ids, params, packed: &packed, device, dtype: ComputeDtype::Float32 })
    }

    fn patches(&self, num_patches: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        (0..num_patches * self.tower.patch_numbers()).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    /// `Σ weights · rows`, in float64.
    fn weighted(&self, params: &[Tensor<Flex, 2>], weights: &[f32]) -> f64 {
        let rows = self.compute(params, |tower| tower.forward(self.patches(36), &GRIDS));
        let rows: Vec<f32> = rows.into_data().iter().collect();
        rows.iter().zip(weights).map(|(row, weight)| f64::from(*row) * f64::from(*weight)).sum()
    }
}

#[rstest]
fn gradients_are_those_of_small_differences(
    #[values("qwen2_vl", "qwen2_5_vl")] model_type: &str,
    #[values(false, true)] lora: bool,
) {
    let small = Small::new(model_type, lora);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let weights: Vec<f32> = (0..9 * 12).map(|_| rng.random_range(-1.0..1.0)).collect();
    let count = small.params.len();
    let (trainable, mut held) = (vec![true; count], vec![Gradient::<Flex>::None; count]);
    small.compute(&small.params, |tower| {
        let (rows, tape) = tower.forward_training(small.patches(36), &GRIDS, &trainable);
        assert_eq!(rows.dims(), [9, 12]);
        let d_rows = Tensor::from_data(TensorData::new(weights.clone(), [9, 12]), &Default::default());
        let mut slots = Slots { trainable: &trainable, held: &mut held };
        tower.backward(tape.expect("a tape"), d_rows, &mut slots);
    });
    for (id, name) in small.names.iter().enumerate() {
        let gradient: Vec<f32> = held[id].clone().expect(name).into_data().iter().collect();
        // Along a direction of random signs, which catches a wrong entry anywhere.
        let signs: Vec<f32> = gradient.iter().map(|_| if rng.random::<bool>() { 1.0 } else { -1.0 }).collect();
        let step = 2e-3;
        let moved = |step: f32| {
            let mut params = small.params.clone();
            let shape = params[id].dims();
            let direction = Tensor::from_data(TensorData::new(signs.clone(), shape), &Default::default());
            params[id] = params[id].clone() + direction.mul_scalar(step);
            small.weighted(&params, &weights)
        };
        let expected = (moved(step) - moved(-step)) / f64::from(2.0 * step);
        let found: f64 = gradient.iter().zip(&signs).map(|(g, s)| f64::from(*g) * f64::from(*s)).sum();
        let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!(
            (found - expected).abs() <= 2e-3 * length + 3e-3,
            "{name}: {found} against {expected}, length {length}"
        );
    }
}

#[rstest]
fn nothing_is_kept_below_what_is_trained(#[values("qwen2_vl", "qwen2_5_vl")] model_type: &str) {
    let small = Small::new(model_type, false);
    let count = small.params.len();
    let only_merger: Vec<bool> = (0..count).map(|id| small.ids.merger_parameters().any(|own| own == id)).collect();
    let mut held = vec![Gradient::<Flex>::None; count];
    small.compute(&small.params, |tower| {
        assert!(tower.forward_training(small.patches(36), &GRIDS, &vec![false; count]).1.is_none());
        let (rows, tape) = tower.forward_training(small.patches(36), &GRIDS, &only_merger);
        let mut slots = Slots { trainable: &only_merger, held: &mut held };
        tower.backward(tape.expect("a tape"), rows, &mut slots);
    });
    for (held, is_merger) in held.iter().zip(only_merger) {
        assert_eq!(held.is_some(), is_merger);
    }
}

#[rstest]
fn an_image_is_computed_the_same_beside_another(#[values("qwen2_vl", "qwen2_5_vl")] model_type: &str) {
    let small = Small::new(model_type, false);
    let patches = small.patches(36);
    let second = patches[24 * small.tower.patch_numbers()..].to_vec();
    let (both, alone) =
        small.compute(&small.params, |tower| (tower.forward(patches, &GRIDS), tower.forward(second, &GRIDS[1..])));
    let beside: Vec<f32> = both.narrow(0, 6, 3).into_data().iter().collect();
    let alone: Vec<f32> = alone.into_data().iter().collect();
    assert_eq!(beside, alone);
}
