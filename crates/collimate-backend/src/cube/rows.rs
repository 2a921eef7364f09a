//! Rows that are added to others.

use std::collections::BTreeMap;

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::buffers::{array, numbers, owned};
use super::cubes::{UNITS, over};

/// See [`FusedOps::add_rows`](crate::FusedOps::add_rows). A cube has all that is added to one row, in the order given.
pub(super) fn add_rows<R: CubeRuntime>(x: CubeTensor<R>, rows: &[u32], values: CubeTensor<R>) -> CubeTensor<R> {
    if rows.is_empty() {
        return x;
    }
    let mut by_row: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    rows.iter().zip(0..).for_each(|(&row, value)| by_row.entry(row).or_default().push(value));
    // Of each row its number and where its values end; then the values' numbers.
    let ends = by_row.values().scan(0, |end, values| {
        *end += values.len() as u32;
        Some(*end)
    });
    let listed: Vec<u32> = by_row.keys().copied().zip(ends).flat_map(|(row, end)| [row, end]).collect();
    let order = by_row.values().flatten().copied().collect::<Vec<_>>();
    let width = x.meta.shape()[1] as u32;
    let x = owned(x);
    let (client, dtypes) = (x.client.clone(), [x.dtype.into(), values.dtype.into()]);
    let (listed, order) = (numbers(&x, &listed), numbers(&x, &order));
    add_rows_kernel::launch::<R>(
        &client,
        over(by_row.len() as u32),
        CubeDim::new_1d(UNITS),
        array(x.clone()),
        listed,
        order,
        array(values),
        by_row.len() as u32,
        width,
        dtypes,
    );
    x
}

#[cube(launch)]
fn add_rows_kernel<F: Float, G: Float>(
    x: &mut Array<F>,
    listed: &Array<u32>,
    order: &Array<u32>,
    values: &Array<G>,
    count: u32,
    width: u32,
    #[define(F, G)] _dtypes: [StorageType; 2],
) {
    let mut piece = CUBE_POS as u32;
    while piece < count {
        let start = select(piece == 0, 0, listed[(select(piece == 0, 1, piece) * 2 - 1) as usize]);
        let (row, end) = (listed[(piece * 2) as usize], listed[(piece * 2 + 1) as usize]);
        let mut column = UNIT_POS;
        while column < width {
            let place = (row * width + column) as usize;
            let mut sum = f32::cast_from(x[place]);
            let mut i = start;
            while i < end {
                sum += f32::cast_from(values[(order[i as usize] * width + column) as usize]);
                i += 1;
            }
            x[place] = F::cast_from(sum);
            column += UNITS;
        }
        piece += CUBE_COUNT as u32;
    }
}
