//! The operands of the decoder's operations besides plain tensors.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

pub use collimate_kernels::{AdamwStep, DropoutRows, GateActivation, TargetLogp};
pub use collimate_recurrent::DeltaShape;

/// A gradient being accumulated, in float32; `None` is zero.
pub type Gradient<B> = Option<Tensor<B, 2>>;

/// A factor of a matrix product: a matrix or its transpose.
#[derive(Debug, Clone, Copy)]
pub struct Factor<'a, B: Backend> {
    /// The matrix as stored.
    pub matrix: &'a Tensor<B, 2>,
    /// Whether the product uses its transpose.
    pub transposed: bool,
}

impl<'a, B: Backend> Factor<'a, B> {
    /// The matrix itself.
    pub fn new(matrix: &'a Tensor<B, 2>) -> Self {
        Self { matrix, transposed: false }
    }

    /// The transpose of `matrix`, without copying it.
    pub fn transpose_of(matrix: &'a Tensor<B, 2>) -> Self {
        Self { matrix, transposed: true }
    }

    /// Rows and columns as the product sees them.
    pub fn dims(&self) -> [usize; 2] {
        let [rows, columns] = self.matrix.dims();
        if self.transposed { [columns, rows] } else { [rows, columns] }
    }
}

/// Cosines and sines of a pack's positions, each [N, rotary_dim / 2].
#[derive(Debug, Clone)]
pub struct Rotary<B: Backend> {
    /// Cosines.
    pub cos: Tensor<B, 2>,
    /// Sines.
    pub sin: Tensor<B, 2>,
    /// Width of a head; its first `rotary_dim` columns are rotated.
    pub head_dim: usize,
}

impl<B: Backend> Rotary<B> {
    /// Uploads tables of `rows` rows.
    pub fn new(cos: Vec<f32>, sin: Vec<f32>, rows: usize, head_dim: usize, device: &B::Device) -> Self {
        let tensor = |values: Vec<f32>| {
            let half = values.len() / rows.max(1);
            Tensor::from_data(TensorData::new(values, [rows, half]), device)
        };
        Self { cos: tensor(cos), sin: tensor(sin), head_dim }
    }
}

/// The output layer: logits are `hidden · weightᵀ`.
#[derive(Debug)]
pub struct OutputLayer<'a, B: Backend> {
    /// [V, D].
    pub weight: &'a Tensor<B, 2>,
    /// Squashes logits to `softcap · tanh(logit / softcap)`.
    pub softcap: Option<f32>,
}

// Written out because `derive` would require `B: Copy`.
impl<B: Backend> Clone for OutputLayer<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for OutputLayer<'_, B> {}

/// What the gated delta rule reads.
#[derive(Debug)]
pub struct DeltaInputs<'a, B: Backend> {
    /// Queries, keys and values side by side, [N, width]; queries and keys of any length.
    pub qkv: &'a Tensor<B, 2>,
    /// The logarithm of each head's decay, at most 0, in float32, [N, value_heads].
    pub decay: &'a Tensor<B, 2>,
    /// How far each head's value is corrected, in float32, [N, value_heads].
    pub beta: &'a Tensor<B, 2>,
}

// Written out because `derive` would require `B: Copy`.
impl<B: Backend> Clone for DeltaInputs<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for DeltaInputs<'_, B> {}

/// AdamW's running means of a parameter's gradient (`m`) and of its square (`v`), in float32.
#[derive(Debug, Clone)]
pub struct Moments<B: Backend> {
    /// First moment.
    pub m: Tensor<B, 2>,
    /// Second moment.
    pub v: Tensor<B, 2>,
}
