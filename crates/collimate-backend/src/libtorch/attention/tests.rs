//! Attention on libtorch and its plain form, against float64.

use burn::tensor::TensorData;
use rstest::rstest;

use super::*;

/// Numbers from -1 to 1, always the same for a seed: what fails once fails again.
fn numbers(rows: usize, columns: usize, seed: u64) -> Matrix {
    let mut state = seed;
    let draw = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let data: Vec<f32> = (0..rows * columns).map(draw).collect();
    Matrix::from_data(TensorData::new(data, [rows, columns]), &LibTorchDevice::Cpu)
}

/// Output and the gradients of queries, keys and values in float64, segment by segment.
fn exact(segments: &[Segment], shape: &AttentionShape, [q, k, v, d]: [&Matrix; 4]) -> [Tensor; 4] {
    let [q, k, v] = [q, k, v].map(|x| tensor(x).to_kind(Kind::Double).set_requires_grad(true));
    let heads = |x: &Tensor, range: &Range<usize>, heads: usize| {
        let rows = x.narrow(0, range.start as i64, range.len() as i64);
        let split = rows.reshape([range.len() as i64, heads as i64, shape.head_dim as i64]).transpose(0, 1);
        split.repeat_interleave_self_int((shape.heads / heads) as i64, 0, None)
    };
    let outputs = segments.iter().map(|Segment { context, rows }| {
        let both = |x| Tensor::cat(&[context, rows].map(|range| heads(x, range, shape.kv_heads)), 1);
        let scores = heads(&q, rows, shape.heads).matmul(&both(&k).transpose(1, 2)) * f64::from(shape.scale);
        let scores = match shape.softcap.map(f64::from) {
            Some(cap) => (scores / cap).tanh() * cap,
            None => scores,
        };
        let key = Tensor::arange((context.len() + rows.len()) as i64, (Kind::Int64, Device::Cpu)).view([1, -1]);
        let query = Tensor::arange(rows.len() as i64, (Kind::Int64, Device::Cpu)).view([-1, 1]) + context.len() as i64;
        let hidden = key.greater_tensor(&query);
        let hidden = match shape.window {
            Some(window) => hidden.logical_or(&(query - key).greater_equal(window as i64)),
            None => hidden,
        };
        let weights = scores.masked_fill(&hidden, f64::NEG_INFINITY).softmax(-1, Kind::Double);
        weights.matmul(&both(&v)).transpose(0, 1).reshape([rows.len() as i64, -1])
    });
    let out = Tensor::cat(&outputs.collect::<Vec<_>>(), 0);
    let product = (&out * tensor(d).to_kind(Kind::Double)).sum(Kind::Double);
    let gradients = Tensor::run_backward(&[product], &[q, k, v], false, false);
    let [d_q, d_k, d_v] = <[Tensor; 3]>::try_from(gradients).expect("three gradients");
    [out.detach(), d_q, d_k, d_v]
}

fn assert_near(what: &str, found: &Matrix, expected: &Tensor) {
    let size = expected.abs().max().double_value(&[]);
    let difference = (tensor(found).to_kind(Kind::Double) - expected).abs().max().double_value(&[]);
    assert!(size > 1e-3 && difference <= 1e-5 * size, "{what}: {difference} of {size}");
}

#[rstest]
fn segments_attend_as_in_float64(
    #[values(None, Some(4))] window: Option<usize>,
    #[values(None, Some(0.7))] softcap: Option<f32>,
    #[values(1, 2, 4)] kv_heads: usize,
) {
    let shape = AttentionShape { heads: 4, kv_heads, head_dim: 6, scale: 0.4, window, softcap };
    let segment = |context, rows| Segment { context, rows };
    // A prompt with three responses, one with a single response, and standalone sequences, some of equal length.
    let segments = vec![
        segment(0..0, 0..7),
        segment(0..7, 7..9),
        segment(0..7, 9..15),
        segment(0..7, 15..26),
        segment(0..0, 26..29),
        segment(26..29, 29..30),
        segment(0..0, 30..41),
        segment(0..0, 41..60),
    ];
    let [q, d, k, v] = [(24, 1), (24, 2), (6 * kv_heads, 3), (6 * kv_heads, 4)].map(|(n, seed)| numbers(60, n, seed));
    let expected = exact(&segments, &shape, [&q, &k, &v, &d]);
    let check =
        |form: &str, (out, lse): (Matrix, Matrix), backward: &dyn Fn(AttentionSaved<'_, LibTorch>) -> [Matrix; 3]| {
            assert_near(&format!("{form}, output"), &out, &expected[0]);
            let gradients = backward(AttentionSaved { q: &q, k: &k, v: &v, out: &out, lse: &lse });
            for ((what, found), expected) in ["queries", "keys", "values"].iter().zip(&gradients).zip(&expected[1..]) {
                assert_near(&format!("{form}, gradient of {what}"), found, expected);
            }
        };
    let plain = plain::Tiles::new(&segments, &shape, &[window], &LibTorchDevice::Cpu);
    check("plain form", plain.attend(&shape, &q, &k, &v), &|saved| plain.attend_backward(&shape, saved, &d));
    let batches = Batches::new(&segments, &shape, &[window], &LibTorchDevice::Cpu);
    check("libtorch", batches.attend(&shape, &q, &k, &v), &|saved| batches.attend_backward(&shape, saved, &d));
}

#[test]
fn padding_is_a_quarter_at_most() {
    assert_eq!([0, 1, 8, 9, 64, 65, 500, 2000].map(padded), [0, 8, 8, 16, 64, 80, 512, 2048]);
    assert!((8..5000).all(|length| padded(length) <= length + (length / 4).max(8)));
}
