//! Products of bfloat16 numbers with each of the instructions that this processor has, as a fraction of those instructions'
//! own peak.

use std::time::Instant;

use collimate_kernels::{
    Bfloat16Matrix, MatmulPrecision, Matrix, PackedBfloat16, all_bfloat16_products, bare_bfloat16_products,
    force_bfloat16_products, multiply, multiply_bfloat16, multiply_prepared, multiply_split,
};
use half::bf16;

use crate::kernels::{BFLOAT16, FLOAT32, Op, wave};

/// Rows, inner dimension and columns of a product.
const SHAPES: [[usize; 3]; 2] = [[1024, 576, 1536], [1024, 1536, 576]];

/// A benchmark with the peak in GFLOP/s of what it uses; none where that is float32's.
pub(crate) struct Product {
    pub(crate) op: Op,
    pub(crate) peak_gflops: Option<f64>,
}

/// float32 first, then each instruction set, the plain form last.
pub(crate) fn all() -> Vec<Product> {
    let float32 = SHAPES.map(|shape| Product { op: float32(shape), peak_gflops: None });
    let names = all_bfloat16_products().into_iter().chain(["portable"]);
    float32.into_iter().chain(names.flat_map(with_instructions)).collect()
}

fn with_instructions(name: &'static str) -> Vec<Product> {
    let peak_gflops = peak(name);
    let mut ops: Vec<Op> = SHAPES.iter().flat_map(|&shape| bfloat16(name, shape)).collect();
    if peak_gflops.is_some() {
        ops.extend(
            SHAPES
                .iter()
                .flat_map(|&shape| [MatmulPrecision::High, MatmulPrecision::Medium].map(|p| split(name, shape, p))),
        );
    }
    ops.into_iter().map(|op| Product { op, peak_gflops }).collect()
}

/// What the instructions reach in a bare loop on all threads, in GFLOP/s.
fn peak(name: &'static str) -> Option<f64> {
    const ROUNDS: usize = 100_000;
    let once = || {
        let begun = Instant::now();
        let flops: Option<f64> = rayon::broadcast(|_| bare_bfloat16_products(name, ROUNDS)).into_iter().sum();
        flops.map(|flops| flops / begun.elapsed().as_secs_f64() / 1e9)
    };
    (0..3).filter_map(|_| once()).reduce(f64::max)
}

fn op(name: String, [m, k, n]: [usize; 3], bytes: usize, run: impl FnMut() + 'static) -> Op {
    Op {
        name: name.leak(),
        dtype: if bytes == 2 { BFLOAT16 } else { FLOAT32 },
        shape: format!("[{m}, {k}] · [{k}, {n}]"),
        flops: 2.0 * (m * k * n) as f64,
        bytes: (bytes * (m * k + k * n) + 4 * m * n) as f64,
        run: Box::new(run),
    }
}

fn float32(shape: [usize; 3]) -> Op {
    let [m, k, n] = shape;
    let (x, w, mut y) = (wave(m * k), wave(n * k), vec![0.0; m * n]);
    op("product x·Wᵀ, float32".to_owned(), shape, 4, move || {
        multiply(&mut y, false, 1.0, Matrix::new(&x, m, k), Matrix::transpose_of(&w, k, n));
    })
}

/// Both factors packed each time; with a packed weight, in both directions.
fn bfloat16(name: &'static str, shape: [usize; 3]) -> [Op; 3] {
    let [m, k, n] = shape;
    let rounded = |len: usize| -> Vec<bf16> { wave(len).into_iter().map(bf16::from_f32).collect() };
    let named = |what: &str| format!("product {what}, bfloat16 {name}");
    let (x, w, mut y) = (rounded(m * k), rounded(n * k), vec![0.0; m * n]);
    let weight = PackedBfloat16::new(Bfloat16Matrix::new(&w, n, k));
    let (x2, mut y2) = (x.clone(), y.clone());
    let prepared = op(named("x·Wᵀ packed"), shape, 2, move || {
        force_bfloat16_products(name);
        multiply_prepared(&mut y2, false, 1.0, Bfloat16Matrix::new(&x2, m, k), &weight, true);
    });
    let weight = PackedBfloat16::new(Bfloat16Matrix::new(&w, k, n));
    let (x2, mut y2) = (x.clone(), y.clone());
    let backward = op(named("x·W packed"), shape, 2, move || {
        force_bfloat16_products(name);
        multiply_prepared(&mut y2, false, 1.0, Bfloat16Matrix::new(&x2, m, k), &weight, false);
    });
    let plain = op(named("x·Wᵀ"), shape, 2, move || {
        force_bfloat16_products(name);
        let weight = Bfloat16Matrix::transpose_of(&w, k, n);
        multiply_bfloat16(&mut y, false, 1.0, Bfloat16Matrix::new(&x, m, k), weight);
    });
    [plain, prepared, backward]
}

/// float32 factors. At [`MatmulPrecision::High`] without AMX this is the product in float32.
fn split(name: &'static str, shape: [usize; 3], precision: MatmulPrecision) -> Op {
    let [m, k, n] = shape;
    let (x, w, mut y) = (wave(m * k), wave(n * k), vec![0.0; m * n]);
    op(format!("product x·Wᵀ, {} {name}", precision.name()), shape, 4, move || {
        force_bfloat16_products(name);
        let weight = Matrix::transpose_of(&w, k, n);
        multiply_split(&mut y, false, 1.0, Matrix::new(&x, m, k), weight, precision);
    })
}
