//! The kernels at the shapes of a step of the 135M model, by name and type of their factors.

use collimate_kernels::{
    AdamwStep, AttentionSaved, AttentionShape, GateActivation, Matrix, OutputLayer, Segment, adamw, attention,
    attention_backward, gated, gated_backward, multiply, rms_norm, rms_norm_backward, rotate, target_logps,
    target_logps_backward, target_logps_with_gradients,
};

/// Types of factors, by PyTorch's names.
pub(crate) const FLOAT32: &str = "float32";
pub(crate) const BFLOAT16: &str = "bfloat16";

/// N: tokens of a pack of about two GSM8K groups with K = 4.
const TOKENS: usize = 1024;
/// Prompt tokens of one group.
const PROMPT: usize = 112;
/// Tokens of each of four responses.
const RESPONSE: usize = 100;
const WIDTH: usize = 576;
const INTERMEDIATE: usize = 1536;
const VOCAB: usize = 49_152;
const HEADS: usize = 9;
const KV_HEADS: usize = 3;
const HEAD_DIM: usize = 64;

/// A kernel with its data.
pub(crate) struct Op {
    pub(crate) name: &'static str,
    /// Type of the factors.
    pub(crate) dtype: &'static str,
    pub(crate) shape: String,
    /// Additions and multiplications that the result needs; recomputation does not count.
    pub(crate) flops: f64,
    /// Bytes of all inputs and outputs, each counted once.
    pub(crate) bytes: f64,
    pub(crate) run: Box<dyn FnMut()>,
}

/// All of them but the products of bfloat16 numbers.
pub(crate) fn all() -> Vec<Op> {
    let mut ops = vec![
        forward_product("gemm x·Wᵀ", WIDTH, WIDTH),
        forward_product("gemm x·Wᵀ", WIDTH, INTERMEDIATE),
        forward_product("gemm x·Wᵀ", INTERMEDIATE, WIDTH),
        forward_product("gemm x·Aᵀ", WIDTH, 16),
        weight_gradient(WIDTH, WIDTH),
        weight_gradient(WIDTH, INTERMEDIATE),
    ];
    ops.extend(attention_ops());
    ops.extend(target_logps_ops());
    ops.extend([norm(), norm_backward(), gate(), gate_backward(), rotary(), adamw_op()]);
    ops
}

/// Numbers between -1 and 1, the same in every run.
pub(crate) fn wave(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * 0.731).sin()).collect()
}

fn floats(counts: &[usize]) -> f64 {
    4.0 * counts.iter().sum::<usize>() as f64
}

fn forward_product(name: &'static str, inputs: usize, outputs: usize) -> Op {
    let (x, w, mut y) = (wave(TOKENS * inputs), wave(outputs * inputs), vec![0.0; TOKENS * outputs]);
    Op {
        name,
        dtype: FLOAT32,
        shape: format!("[{TOKENS}, {inputs}] · [{inputs}, {outputs}]"),
        flops: 2.0 * (TOKENS * inputs * outputs) as f64,
        bytes: floats(&[x.len(), w.len(), y.len()]),
        run: Box::new(move || {
            let weight = Matrix::transpose_of(&w, inputs, outputs);
            multiply(&mut y, false, 1.0, Matrix::new(&x, TOKENS, inputs), weight);
        }),
    }
}

fn weight_gradient(inputs: usize, outputs: usize) -> Op {
    let (x, d, mut g) = (wave(TOKENS * inputs), wave(TOKENS * outputs), vec![0.0; outputs * inputs]);
    Op {
        name: "gemm dᵀ·x",
        dtype: FLOAT32,
        shape: format!("[{outputs}, {TOKENS}] · [{TOKENS}, {inputs}]"),
        flops: 2.0 * (TOKENS * inputs * outputs) as f64,
        bytes: floats(&[x.len(), d.len(), 2 * g.len()]),
        run: Box::new(move || {
            let d = Matrix::transpose_of(&d, outputs, TOKENS);
            multiply(&mut g, true, 1.0, d, Matrix::new(&x, TOKENS, inputs));
        }),
    }
}

/// Two groups: a prompt and its four responses each.
fn segments() -> Vec<Segment> {
    let group = |start: usize| {
        let prompt = start..start + PROMPT;
        let response = move |k: usize| {
            let begin = start + PROMPT + k * RESPONSE;
            Segment { context: start..start + PROMPT, rows: begin..begin + RESPONSE }
        };
        std::iter::once(Segment { context: 0..0, rows: prompt }).chain((0..4).map(response))
    };
    (0..2).flat_map(|i| group(i * TOKENS / 2)).collect()
}

fn attention_ops() -> [Op; 2] {
    let shape = AttentionShape {
        heads: HEADS,
        kv_heads: KV_HEADS,
        head_dim: HEAD_DIM,
        scale: (HEAD_DIM as f32).sqrt().recip(),
        window: None,
        softcap: None,
    };
    let segments = segments();
    // Pairs of a query and a key that it sees.
    let seen = |s: &Segment| s.rows.len() * s.context.len() + s.rows.len() * (s.rows.len() + 1) / 2;
    let pairs: usize = segments.iter().map(seen).sum();
    let per_product = 2.0 * (pairs * HEADS * HEAD_DIM) as f64;
    let (of_q, of_k) = (TOKENS * HEADS * HEAD_DIM, TOKENS * KV_HEADS * HEAD_DIM);
    let (q, k, v) = (wave(of_q), wave(of_k), wave(of_k));
    let (mut out, mut lse) = (vec![0.0; of_q], vec![0.0; TOKENS * HEADS]);
    attention(&shape, &segments, &q, &k, &v, &mut out, &mut lse);
    let name = format!("2 groups of {PROMPT} + 4 · {RESPONSE}, {HEADS}/{KV_HEADS} heads");
    let backward = {
        let (segments, q, k, v, out, lse) =
            (segments.clone(), q.clone(), k.clone(), v.clone(), out.clone(), lse.clone());
        let (d, mut d_q, mut d_k, mut d_v) = (wave(of_q), vec![0.0; of_q], vec![0.0; of_k], vec![0.0; of_k]);
        Op {
            name: "attention backward",
            dtype: FLOAT32,
            shape: name.clone(),
            // Scores are recomputed, plus four products for gradients.
            flops: 5.0 * per_product,
            bytes: floats(&[4 * of_q, 4 * of_k, lse.len()]),
            run: Box::new(move || {
                let saved = AttentionSaved { q: &q, k: &k, v: &v, out: &out, lse: &lse };
                attention_backward(&shape, &segments, saved, &d, &mut d_q, &mut d_k, &mut d_v);
            }),
        }
    };
    let forward = Op {
        name: "attention",
        dtype: FLOAT32,
        shape: name,
        flops: 2.0 * per_product,
        bytes: floats(&[2 * of_q, 2 * of_k, lse.len()]),
        run: Box::new(move || attention(&shape, &segments, &q, &k, &v, &mut out, &mut lse)),
    };
    [forward, backward]
}

fn layer(weight: &[f32]) -> OutputLayer<'_> {
    OutputLayer { weight, width: WIDTH, softcap: None }
}

fn target_logps_ops() -> [Op; 3] {
    let rows = 8 * RESPONSE;
    let (hidden, weight) = (wave(rows * WIDTH), wave(VOCAB * WIDTH));
    let targets: Vec<u32> = (0..rows as u32).map(|i| i * 61 % VOCAB as u32).collect();
    let shape = format!("[{rows}, {WIDTH}] · [{WIDTH}, {VOCAB}]");
    let product = 2.0 * (rows * WIDTH * VOCAB) as f64;
    let backward = {
        let (hidden, weight, targets) = (hidden.clone(), weight.clone(), targets.clone());
        let forward = target_logps(&hidden, layer(&weight), &targets);
        let (mut d_hidden, mut d_weight, c) = (vec![0.0; rows * WIDTH], vec![0.0; VOCAB * WIDTH], wave(rows));
        Op {
            name: "target_logps backward",
            dtype: FLOAT32,
            shape: shape.clone(),
            // Logits are recomputed, plus the gradients of both factors.
            flops: 3.0 * product,
            bytes: floats(&[2 * hidden.len(), 3 * weight.len()]),
            run: Box::new(move || {
                let d_weight = Some(d_weight.as_mut_slice());
                target_logps_backward(&hidden, layer(&weight), &targets, &forward, &c, &mut d_hidden, d_weight);
            }),
        }
    };
    let with_gradients = {
        let (hidden, weight, targets) = (hidden.clone(), weight.clone(), targets.clone());
        Op {
            name: "target_logps with gradients",
            dtype: FLOAT32,
            shape: shape.clone(),
            flops: 2.0 * product,
            bytes: floats(&[2 * hidden.len(), weight.len()]),
            run: Box::new(move || {
                std::hint::black_box(target_logps_with_gradients(&hidden, layer(&weight), &targets));
            }),
        }
    };
    let forward = Op {
        name: "target_logps",
        dtype: FLOAT32,
        shape,
        flops: product,
        bytes: floats(&[hidden.len(), weight.len()]),
        run: Box::new(move || {
            std::hint::black_box(target_logps(&hidden, layer(&weight), &targets));
        }),
    };
    [forward, with_gradients, backward]
}

/// A memory-bound kernel: `per_number` operations for each number, and the floats it moves.
fn plain(name: &'static str, size: &[usize], per_number: f64, moved: &[usize], run: impl FnMut() + 'static) -> Op {
    let numbers = size.iter().product::<usize>() as f64;
    Op {
        name,
        dtype: FLOAT32,
        shape: format!("{size:?}"),
        flops: per_number * numbers,
        bytes: floats(moved),
        run: Box::new(run),
    }
}

fn norm() -> Op {
    let n = TOKENS * WIDTH;
    let (x, w, mut out) = (wave(n), wave(WIDTH), vec![0.0; n]);
    plain("rms_norm", &[TOKENS, WIDTH], 4.0, &[2 * n], move || rms_norm(&x, &w, 1e-5, &mut out))
}

fn norm_backward() -> Op {
    let n = TOKENS * WIDTH;
    let (x, w, mut d, mut d_w) = (wave(n), wave(WIDTH), wave(n), vec![0.0; WIDTH]);
    plain("rms_norm backward", &[TOKENS, WIDTH], 9.0, &[3 * n], move || {
        rms_norm_backward(&x, &w, 1e-5, &mut d, Some(&mut d_w));
    })
}

fn gate() -> Op {
    let n = TOKENS * INTERMEDIATE;
    let (gate, up, mut out) = (wave(n), wave(n), vec![0.0; n]);
    plain("gated SiLU", &[TOKENS, INTERMEDIATE], 4.0, &[3 * n], move || {
        gated(GateActivation::Silu, &gate, &up, &mut out);
    })
}

fn gate_backward() -> Op {
    let n = TOKENS * INTERMEDIATE;
    let (mut gate, mut up, d) = (wave(n), wave(n), vec![1e-3; n]);
    plain("gated SiLU backward", &[TOKENS, INTERMEDIATE], 9.0, &[5 * n], move || {
        gated_backward(GateActivation::Silu, &mut gate, &mut up, &d);
    })
}

fn rotary() -> Op {
    let n = TOKENS * HEADS * HEAD_DIM;
    let (mut x, cos, sin) = (wave(n), vec![0.6; TOKENS * HEAD_DIM / 2], vec![0.8; TOKENS * HEAD_DIM / 2]);
    plain("rotate", &[TOKENS, HEADS * HEAD_DIM], 3.0, &[2 * n, TOKENS * HEAD_DIM], move || {
        rotate(&mut x, &cos, &sin, HEAD_DIM, HEAD_DIM, false);
    })
}

fn adamw_op() -> Op {
    let n = VOCAB * WIDTH;
    let (mut p, g, mut m, mut v) = (wave(n), wave(n), vec![0.0; n], vec![0.0; n]);
    let step = AdamwStep {
        gradient_scale: 1.0,
        beta1: 0.9,
        beta2: 0.999,
        step_size: 1e-5,
        correction: 1.0,
        epsilon: 1e-8,
        decay: 1.0,
    };
    plain("adamw", &[VOCAB, WIDTH], 14.0, &[7 * n], move || adamw(&mut p, &g, &mut m, &mut v, &step))
}
