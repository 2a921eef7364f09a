//! Dropout of the residual stream: gradients are those of what was computed.

use collimate_hf::Dropped;

use super::*;
use crate::DropoutKey;

/// A generator whose heads share keys and values, over pictures of four tokens.
fn llamagen() -> ModelConfig {
    read(json!({
        "model_type": "llamagen", "dim": 32, "n_layer": 2, "n_head": 4, "n_kv_head": 2, "multiple_of": 8, "num_classes": 3,
        "vocab_size": 97, "block_size": 4, "norm_eps": 1e-5,
    }))
}

#[rstest]
#[case::llamagen(llamagen())]
#[case::with_norms_after(config("gemma2"))]
#[case::scaled(config("llama.scaled"))]
fn gradients_under_dropout_are_those_of_finite_differences(#[case] config: ModelConfig) {
    let dropped = Dropped { numbers: 0.3, paths: 0.0 };
    let mut model = build(ModelConfig { dropped, ..config }, false);
    let prompt = if model.config().conditions > 0 { vec![98] } else { vec![5, 8, 2] };
    let batch = GroupBatch::shared([&TokenizedGroup { prompt_ids: prompt, ..group(3, 1, &[4, 4]) }]);
    let key = Some(DropoutKey { seed: 4, step: 7 });
    let options = ForwardOptions { dropout: key, ..ForwardOptions::PLAIN };
    let coefficients = [vec![0.7, -0.4]];
    let value = |model: &CausalLm<Flex>| -> f64 {
        let logps = model.score(&batch, true, key).expect("a pass");
        let sums = logps[0].iter().map(|response| response.iter().sum::<f64>());
        sums.zip(&coefficients[0]).map(|(sum, c)| sum * c).sum()
    };
    let plain = model.score(&batch, true, None).expect("a pass");
    assert_ne!(plain, model.score(&batch, true, key).expect("a pass"), "dropout changes nothing");
    let (logps, tape) = model.forward(&batch, options).expect("a pass");
    assert_eq!(logps, model.score(&batch, true, key).expect("a pass"));
    model.backward(tape, &coefficients).expect("a pass");
    let trainable = model.trainable();
    let gradients: Vec<_> = trainable.iter().map(|id| model.take_gradient(*id)).collect();
    // Blocks that run again give the same bits.
    let (_, again) = model.forward(&batch, ForwardOptions { kept_blocks: 0, ..options }).expect("a pass");
    model.backward(again, &coefficients).expect("a pass");
    for (id, gradient) in trainable.iter().zip(&gradients) {
        let again = model.take_gradient(*id).map(floats);
        assert_eq!(gradient.clone().map(floats), again, "{}", model.parameters()[*id].name);
    }
    // Along the gradient, the value grows by its norm.
    let norm = gradients
        .iter()
        .flatten()
        .map(|g| floats(g.clone()).iter().map(|x| f64::from(x * x)).sum::<f64>())
        .sum::<f64>()
        .sqrt();
    let step = 2e-3 / norm;
    let mut moved = |factor: f64| {
        for (id, gradient) in trainable.iter().zip(&gradients) {
            if let Some(gradient) = gradient {
                let value = model.parameter(*id).clone() + gradient.clone().mul_scalar(factor as f32);
                model.set_parameter(*id, value);
            }
        }
        value(&model)
    };
    let (above, below) = (moved(step), moved(-2.0 * step));
    let slope = (above - below) / (2.0 * step * norm);
    assert!((slope / norm - 1.0).abs() < 2e-2, "{slope}, expected {norm}");
}
