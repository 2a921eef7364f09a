//! Tolerances, by the precision of the computation: one list for every backend, so that none passes by its own standard.

/// Log-probs summed over a response, in float32 like PyTorch's, relative.
pub const LOGPS: f64 = 1e-5;
/// Log-prob of one token, in float32 like PyTorch's, relative: errors average out less than in a sum.
pub const TOKEN_LOGPS: f64 = 1e-4;
/// The same with products in `high` precision, which keep 16 significant bits of a factor: up to 4.4e-6 over the golden models.
pub const HIGH_LOGPS: f64 = LOGPS;
/// The same with products in `medium` precision, which keep 8: up to 2.9e-3, and 1.3e-2 where a router chooses another expert.
pub const MEDIUM_LOGPS: f64 = 8.0 / 512.0;
/// Log-probs summed over a response, over packed weights, against float64 over the numbers that they stand for, relative.
pub const PACKED_LOGPS: f64 = 2e-6;
/// Log-prob of one token, the same, relative.
pub const PACKED_TOKEN_LOGPS: f64 = 5e-5;
/// Log-probs summed over a response, in float32 against float64, relative.
pub const FAMILY_LOGPS: f64 = 2e-6;
/// Log-prob of one token, the same, relative.
pub const FAMILY_TOKEN_LOGPS: f64 = 5e-5;
/// Log-probs of responses to an image that is a JPEG file, relative: decoders differ by some levels.
pub const JPEG_LOGPS: f64 = 1e-3;
/// Log-probs after eight steps of a model with images, relative.
pub const VISUAL_FINAL_LOGPS: f64 = 2e-5;
/// Log-probs summed over a response, the same, of a model with recurrent layers, whose states carry errors on.
pub const RECURRENT_LOGPS: f64 = 5e-6;
/// Log-prob of one token, the same, relative.
pub const RECURRENT_TOKEN_LOGPS: f64 = 1e-4;
/// A run against one in float64: as many times what PyTorch's float32 is off at most, where that is more than [`LOSS`] or
/// [`GRAD_NORM`].
pub const STRAY: f64 = 1.5;
/// Gradients of one model computed in two ways, such as responses of a prompt together or apart, or blocks kept or
/// recomputed: the norm of the difference, relative to the gradient's.
pub const SAME_GRADIENTS: f64 = 1e-5;
/// Log-probs of one model computed in two ways, with an adapter beside its weight or merged into it, relative.
pub const MERGED: f64 = 1e-5;
/// Losses and gradients of objectives, in float64, absolute.
pub const OBJECTIVE: f64 = 1e-10;
/// Losses of a training step, relative: a log-prob's error of 1e-5 grows with every update.
pub const LOSS: f64 = 1e-4;
/// Gradient norms, relative.
pub const GRAD_NORM: f64 = 1e-3;
/// Learning rates, absolute: they involve no model.
pub const LEARNING_RATE: f64 = 1e-9;
/// Implicit rewards and log-probs during training, relative, and absolute below 1.
pub const COURSE: f64 = 1e-3;
/// Log-probs of pictures after training, relative.
pub const PICTURE_FINAL_LOGPS: f64 = 2e-5;
/// Colors of a decoded picture, from −1 to 1, in float32 like PyTorch's, absolute: PyTorch's own differs from float64 by 3.4e-6.
pub const COLORS: f64 = 2e-5;
/// Log-probs after training, relative.
pub const FINAL_LOGPS: f64 = 1e-3;
/// Log-probs under weights rounded to bfloat16 against the float32 model, relative.
///
/// bfloat16 keeps 8 significant bits, so rounding moves a weight by up to 2⁻⁸ of itself. Each log-prob goes through one
/// weight after another, so errors add up, and over a response's tokens they partly cancel: about half such a step is
/// left. The largest found over the golden responses is 2.2e-3, and 2⁻⁸ is allowed.
pub const BF16_LOGPS: f64 = 2.0 / 512.0;
/// Half of the largest error of rounding a number to bfloat16, relative, which is 2⁻⁸: the unit of the limits below.
const BF16_ROUNDING: f64 = 1.0 / 512.0;
/// Log-probs of responses computed in bfloat16 against PyTorch's in float32, relative, of a golden family.
///
/// Every product and every norm of every block rounds a token's activations once, so a token's log-prob is some hundredths
/// of a nat off (weights are random, and a token costs eight nats); over a response's tokens these errors partly cancel,
/// and one or two such units of the whole are left. With experts a rounding may send a token to another one, which changes
/// it by up to 4 nats. PyTorch's own bfloat16 is off by at most, in these units (`tests/python/bf16_logps.py`):
///
/// llama 1.1; llama3 0.7; mistral 1.2; ministral3 1.1; mixtral 3.6; qwen2 1.2; qwen3 0.5; qwen3_5_text 0.9; qwen3_moe 2.6;
/// qwen3_5_moe_text 2.2; glm4_moe 1.1;
/// gemma2 0.3; gemma3_text 0.4; phi3 1.2; olmo2 0.3; olmo3 0.8; smollm3 1.0; granite 0.7; gpt_oss 1.4.
///
/// `COLLIMATE_TEST_BACKEND=libtorch cargo test -p collimate-tests --features collimate/libtorch bfloat16 -- --nocapture`
pub fn bf16_computed_logps(family: &str) -> f64 {
    match family {
        "mixtral" | "qwen3_moe" | "glm4_moe" | "gpt_oss" | "qwen3_5_moe_text" => 6.0 * BF16_ROUNDING,
        "qwen3" | "gemma2" | "gemma3_text" | "olmo2" => BF16_ROUNDING,
        _ => 2.0 * BF16_ROUNDING,
    }
}
/// Losses of a hundred steps in bfloat16 against those in float32, relative, in the mean over steps and of any ten steps
/// together. Found on libtorch: 2.3e-3 and 2.4e-3 with an adapter, 3.9e-3 and 3.1e-3 of all weights.
pub const BF16_MEAN_LOSS: f64 = 1e-2;
/// The same of one step of two prompts: of a model of random weights a log-prob is off by so much that single losses differ
/// by up to 2.7e-2.
pub const BF16_LOSS: f64 = 5e-2;
/// Loss of the first step against its closed form, absolute: policy and reference are equal up to float32's order of
/// summation, which differs with the batch.
pub const FIRST_LOSS: f64 = 1e-6;

/// Asserts that two numbers are equal up to this fraction of the expected one.
///
/// # Panics
/// They differ by more; the message has both.
#[track_caller]
pub fn assert_relative(found: f64, expected: f64, tolerance: f64, what: &str) {
    let limit = tolerance * expected.abs();
    assert!((found - expected).abs() <= limit, "{what}: {found} against {expected}, more than {tolerance} of it apart");
}

/// Asserts that two numbers are equal up to this difference.
///
/// # Panics
/// They differ by more; the message has both.
#[track_caller]
pub fn assert_absolute(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found} against {expected}, more than {tolerance} apart");
}
