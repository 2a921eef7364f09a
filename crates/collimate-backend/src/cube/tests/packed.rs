//! Packed weights: the bits that they are unpacked to, and products with them.

use collimate_quantized::{FloatDtype, Format, FourBitKind};
use rstest::rstest;

use super::{Cube, device};
use crate::packed_tests;

#[rstest]
fn four_bits_are_unpacked_to_the_bits_of_the_host(
    #[values(FourBitKind::Nf4, FourBitKind::Fp4)] kind: FourBitKind,
    #[values(false, true)] double: bool,
    #[values(FloatDtype::F32, FloatDtype::Bf16, FloatDtype::F16)] stored: FloatDtype,
) {
    packed_tests::four_bits::<Cube>(kind, double, stored, &device());
}

#[test]
fn eight_bits_are_unpacked_to_the_bits_of_the_host() {
    packed_tests::eight_bits::<Cube>(&device());
}

#[rstest]
fn products_with_packed_weights(
    #[values(Format::NF4, Format::NF4_DOUBLE, Format::Int8)] format: Format,
    #[values(false, true)] backward: bool,
) {
    packed_tests::products::<Cube>(format, backward, &device());
}

#[rstest]
fn weights_in_sixteen_bits_are_rounded_once(#[values(Format::NF4, Format::NF4_DOUBLE, Format::Int8)] format: Format) {
    let Some((dtype, _)) = super::sixteen_bits() else { return };
    packed_tests::sixteen_bits::<Cube>(format, dtype, &device());
}

#[test]
fn weights_in_files_are_uploaded_for_each_product() {
    packed_tests::in_files::<Cube>(&device());
}

#[test]
fn formats_without_a_kernel_are_unpacked_on_the_host() {
    packed_tests::without_a_kernel::<Cube>(&device());
}
