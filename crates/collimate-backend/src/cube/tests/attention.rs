//! The attention kernels, scalar and for matrix units.

use burn_cubecl::tensor::CubeTensor;
use burn_flex::{Flex, FlexDevice};
use rstest::rstest;

use super::super::attention::{Blocks, Products, Saved};
use super::super::tensors;
use super::{Cube, DType, OnDevice, assert_same, device, here, random, sixteen_bits, there};
use crate::{AttentionMap, AttentionSaved, AttentionShape, FusedOps, Segment, plain};

type Matrix = burn::tensor::Tensor<Flex, 2>;

/// A prompt with three responses, one with a single response, and a sequence on its own, each `times` as long.
fn segments(times: usize) -> Vec<Segment> {
    let segment = |context: std::ops::Range<usize>, rows: std::ops::Range<usize>| Segment {
        context: context.start * times..context.end * times,
        rows: rows.start * times..rows.end * times,
    };
    vec![
        segment(0..0, 0..7),
        segment(0..7, 7..9),
        segment(0..7, 9..15),
        segment(0..7, 15..26),
        segment(0..0, 26..29),
        segment(26..29, 29..30),
        segment(0..0, 30..41),
    ]
}

#[rstest]
#[case::short(1, 4, 2, 6, None, None)]
#[case::windowed(1, 4, 2, 6, Some(4), None)]
#[case::capped(1, 4, 2, 6, None, Some(0.7))]
#[case::long(9, 4, 4, 16, None, None)]
#[case::long_windowed(9, 4, 2, 24, Some(50), Some(0.7))]
#[case::wide(9, 6, 2, 128, None, None)]
#[case::wider(3, 4, 1, 256, None, None)]
#[case::groups_that_do_not_fill_a_tile(9, 7, 1, 20, None, None)]
#[case::more_heads_than_a_tile(1, 70, 1, 6, Some(9), None)]
fn attention_over_segments(
    #[case] times: usize,
    #[case] heads: usize,
    #[case] kv_heads: usize,
    #[case] head_dim: usize,
    #[case] window: Option<usize>,
    #[case] softcap: Option<f32>,
) {
    let shape = AttentionShape { heads, kv_heads, head_dim, scale: 0.4, window, softcap };
    let (segments, rows) = (segments(times), 41 * times);
    let [q, d] = [0; 2].map(|_| random(rows, heads * head_dim));
    let [k, v] = [0; 2].map(|_| random(rows, kv_heads * head_dim));
    let tiles = plain::Tiles::<Flex>::new(&segments, &shape, &[window], &FlexDevice);
    let map = <<Cube as FusedOps>::Attention as AttentionMap<Cube>>::new(&segments, &shape, &[window], &device());
    let (expected, _) = tiles.attend(&shape, &q, &k, &v);
    let [on_q, on_k, on_v] = [&q, &k, &v].map(there);
    let (out, lse) = map.attend(&shape, &on_q, &on_k, &on_v);
    assert_same(&out, &expected, 5e-6);
    let empty = random(0, 0);
    let plain = AttentionSaved { q: &q, k: &k, v: &v, out: &expected, lse: &empty };
    let expected = tiles.attend_backward(&shape, plain, &d);
    let saved = AttentionSaved { q: &on_q, k: &on_k, v: &on_v, out: &out, lse: &lse };
    let found = map.attend_backward(&shape, saved, &there(&d));
    found.iter().zip(&expected).for_each(|(found, expected)| assert_same(found, expected, 5e-6));
    let again = map.attend_backward(&shape, saved, &there(&d));
    found.iter().zip(&again).for_each(|(found, again)| assert_same(found, &here(again), 0.0));
}

/// The matrix-unit kernels, multiplying element by element as any device can.
#[rstest]
#[case::short(1, 4, 2, 6, None, None)]
#[case::long(9, 4, 2, 16, None, None)]
#[case::long_windowed(9, 4, 2, 40, Some(50), Some(0.7))]
#[case::wide(3, 2, 1, 64, None, None)]
#[case::groups_that_do_not_fill_a_tile(5, 7, 1, 12, Some(9), None)]
#[case::more_heads_than_a_tile(1, 70, 1, 6, None, Some(0.7))]
fn attention_by_matrices(
    #[case] times: usize,
    #[case] heads: usize,
    #[case] kv_heads: usize,
    #[case] head_dim: usize,
    #[case] window: Option<usize>,
    #[case] softcap: Option<f32>,
) {
    let shape = AttentionShape { heads, kv_heads, head_dim, scale: 0.4, window, softcap };
    let (segments, rows) = (segments(times), 41 * times);
    let [q, d] = [0; 2].map(|_| random(rows, heads * head_dim));
    let [k, v] = [0; 2].map(|_| random(rows, kv_heads * head_dim));
    let tiles = plain::Tiles::<Flex>::new(&segments, &shape, &[window], &FlexDevice);
    // Seven float32 tiles of this side fit the shared memory of any device.
    let blocks = Blocks::with_side(&segments, &shape, 16, &device());
    let products = Products::Matrix { on_units: false };
    let [on_q, on_k, on_v, on_d] = [&q, &k, &v, &d].map(|x| tensors::read(there(x)));
    let (out, lse) = blocks.forward(&shape, products, on_q.clone(), on_k.clone(), on_v.clone());
    let (expected, _) = tiles.attend(&shape, &q, &k, &v);
    assert_same(&tensors::write(out.clone()), &expected, 5e-6);
    let empty = random(0, 0);
    let plain = AttentionSaved { q: &q, k: &k, v: &v, out: &expected, lse: &empty };
    let expected = tiles.attend_backward(&shape, plain, &d);
    let found = blocks.backward(&shape, products, Saved { q: on_q, k: on_k, v: on_v, out, lse }, on_d);
    found.into_iter().zip(&expected).for_each(|(found, expected)| assert_same(&tensors::write(found), expected, 5e-6));
}

#[rstest]
#[case(None, None)]
#[case(Some(50), Some(0.7))]
fn attention_in_sixteen_bits(
    #[values(false, true)] by_matrices: bool,
    #[case] window: Option<usize>,
    #[case] softcap: Option<f32>,
) {
    let Some((dtype, rounding)) = sixteen_bits() else { return };
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 32, scale: 0.4, window, softcap };
    let (segments, rows) = (segments(9), 41 * 9);
    let [q, d] = [0; 2].map(|_| there(&random(rows, 128)).cast(dtype));
    let [k, v] = [0; 2].map(|_| there(&random(rows, 64)).cast(dtype));
    let blocks = Blocks::with_side(&segments, &shape, 32, &device());
    let products = match by_matrices {
        true => Products::Matrix { on_units: blocks.has_units(&shape, dtype) },
        false => Products::Scalar,
    };
    let [on_q, on_k, on_v, on_d] = [&q, &k, &v, &d].map(|x| tensors::read(x.clone()));
    let (out, lse) = blocks.forward(&shape, products, on_q.clone(), on_k.clone(), on_v.clone());
    let [q, k, v, d] = [q, k, v, d].map(|x| here(&x.cast(DType::F32)));
    let tiles = plain::Tiles::<Flex>::new(&segments, &shape, &[window], &FlexDevice);
    let (expected, _) = tiles.attend(&shape, &q, &k, &v);
    let same = |found: CubeTensor<_>, expected: &Matrix| {
        let found: OnDevice = tensors::write(found);
        assert_same(&found.cast(DType::F32), expected, 2.0 * rounding);
    };
    same(out.clone(), &expected);
    let empty = random(0, 0);
    let plain = AttentionSaved { q: &q, k: &k, v: &v, out: &expected, lse: &empty };
    let expected = tiles.attend_backward(&shape, plain, &d);
    let found = blocks.backward(&shape, products, Saved { q: on_q, k: on_k, v: on_v, out, lse }, on_d);
    found.into_iter().zip(&expected).for_each(|(found, expected)| same(found, expected));
}
