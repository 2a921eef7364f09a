//! Sums over whole tensors.

/// `y += factor · x`, both [n].
pub fn add_scaled(y: &mut [f32], factor: f32, x: &[f32]) {
    let _ = (y, factor, x);
    unimplemented!()
}

/// Adds row m of `values` [M, width] to row `rows[m]` of `out` [_, width]; rows may repeat.
pub fn add_rows(out: &mut [f32], width: usize, rows: &[u32], values: &[f32]) {
    let _ = (out, width, rows, values);
    unimplemented!()
}

/// Sum of squares, in float64 from float32 partial sums.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let _ = x;
    unimplemented!()
}
