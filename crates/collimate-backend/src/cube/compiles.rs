//! Compiles every kernel with NVIDIA's compiler, in float32 and in bfloat16: on a GPU, or with the stub driver in
//! `tests/cuda-stub`, which computes nothing.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};
use burn_cuda::{Cuda, CudaDevice};
use collimate_quantized::{FloatDtype, Format, FourBitKind, PackedMatrix, ScaleOrder, Values};

use crate::{
    AdamwStep, AttentionMap, AttentionSaved, AttentionShape, DropoutRows, FusedOps, GateActivation, HostPacked,
    Moments, OutputLayer, PackedTensor, Rotary, Segment,
};

type Packed = <Cuda as FusedOps>::Packed;

const ROWS: usize = 64;
const WIDTH: usize = 2048;

fn ones(rows: usize, columns: usize, dtype: DType) -> Tensor<Cuda, 2> {
    Tensor::ones([rows, columns], (&CudaDevice::new(0), dtype))
}

fn attention(dtype: DType, head_dim: usize, window: Option<usize>, softcap: Option<f32>) {
    let shape = AttentionShape { heads: 8, kv_heads: 2, head_dim, scale: 0.1, window, softcap };
    let segments = [Segment { context: 0..0, rows: 0..40 }, Segment { context: 0..40, rows: 40..ROWS }];
    let device = CudaDevice::new(0);
    let map = <<Cuda as FusedOps>::Attention as AttentionMap<Cuda>>::new(&segments, &shape, &[window], &device);
    let [q, k, v] = [8, 2, 2].map(|heads| ones(ROWS, heads * head_dim, dtype));
    let (out, lse) = map.attend(&shape, &q, &k, &v);
    let saved = AttentionSaved { q: &q, k: &k, v: &v, out: &out, lse: &lse };
    let gradients = map.attend_backward(&shape, saved, &q);
    assert!(gradients.iter().all(|gradient| gradient.dtype() == dtype));
}

fn rows(dtype: DType) {
    let x = ones(ROWS, WIDTH, dtype);
    let weight = ones(1, WIDTH, DType::F32);
    let mut gradient = None;
    <Cuda>::rms_norm(&x, &weight, 1e-5);
    Cuda::rms_norm_backward(&x, &weight, 1e-5, x.clone(), Some(&mut gradient));
    Cuda::rms_norm_backward(&x, &weight, 1e-5, x.clone(), None);
    let [cos, sin] = [0; 2].map(|_| ones(ROWS, 32, DType::F32));
    Cuda::rotate(x.clone(), &Rotary { cos, sin, head_dim: 64 }, false);
    for activation in [GateActivation::Silu, GateActivation::Gelu, GateActivation::GeluTanh, GateActivation::Sigmoid] {
        Cuda::gated(activation, &x, &x);
        Cuda::gated_backward(activation, x.clone(), x.clone(), &x);
    }
    Cuda::dropout(x.clone(), &[DropoutRows { rows: 0..3, first: 0, key: 7 }], 0.1);
    Cuda::add_rows(x.clone(), &[1, 2, 1], &ones(3, WIDTH, dtype));
    let weight = ones(1000, WIDTH, dtype);
    // A number of rows that needs padding, which must not change the dtype.
    let (hidden, targets) = (ones(ROWS - 1, WIDTH, dtype), vec![0; ROWS - 1]);
    for softcap in [None, Some(30.0)] {
        let layer = OutputLayer { weight: &weight, softcap };
        let (logps, gradients) = Cuda::target_logps_with_gradients(&hidden, layer, &targets);
        assert_eq!(gradients.dtype(), dtype);
        Cuda::target_logps_backward(&hidden, layer, &targets, &logps, &[1.0; ROWS - 1], None);
    }
    Cuda::sum_of_squares(&[&x]);
}

/// Rows that are not whole blocks need the longest kernel.
fn packed(dtype: DType) {
    let formats = [FourBitKind::Nf4, FourBitKind::Fp4]
        .into_iter()
        .flat_map(|kind| [false, true].map(|double| Format::FourBit { kind, block: 64, double }));
    for format in formats.chain([Format::Int8]) {
        for stored in [FloatDtype::F32, FloatDtype::Bf16, FloatDtype::F16] {
            let bytes = vec![0; 6 * 96 * stored.size()];
            let matrix = PackedMatrix::pack(Values::Bytes(stored, &bytes), 6, 96, format).expect("zeros");
            for order in [ScaleOrder::Flat, ScaleOrder::FlooredRows] {
                let weight = HostPacked::resident(matrix.clone().with_scale_order(order));
                let weight = <Packed as PackedTensor<Cuda>>::new(weight, &CudaDevice::new(0));
                let unpacked = PackedTensor::<Cuda>::unpack_in(&weight, dtype, &CudaDevice::new(0));
                assert_eq!((unpacked.dims(), unpacked.dtype()), ([6, 96], dtype));
            }
        }
    }
}

#[test]
fn every_kernel_compiles() {
    for dtype in [DType::F32, DType::BF16] {
        rows(dtype);
        packed(dtype);
        for head_dim in [64, 96, 128, 256] {
            attention(dtype, head_dim, None, None);
            attention(dtype, head_dim, Some(100), Some(50.0));
        }
    }
    let step = AdamwStep {
        gradient_scale: 1.0,
        beta1: 0.9,
        beta2: 0.999,
        step_size: 0.01,
        correction: 1.0,
        epsilon: 1e-8,
        decay: 1.0,
    };
    let [p, g, m, v] = [0; 4].map(|_| ones(8, 8, DType::F32));
    Cuda::adamw(p, &g, Moments { m, v }, &step);
    <Cuda>::sync(&CudaDevice::new(0)).expect("kernels that compile");
}
