//! Scatter-add of rows.

use std::collections::BTreeMap;

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::buffers::{array, numbers, owned};
use super::cubes::{UNITS, over};

/// See [`FusedOps::add_rows`](crate::FusedOps::add_rows). One cube does all additions to a row, in the order given.
pub(super) fn add_rows<R: CubeRuntime>(x: CubeTensor<R>, rows: &[u32], values: CubeTensor<R>) -> CubeTensor<R> {
    if rows.is_empty() {
        return x;
    }
    let mut by_row: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    rows.iter().zip(0..).for_each(|(&row, value)| by_row.entry(row).or_default().push(value));
    let mut end = 0;
    let targets = by_row.iter().map(|(&row, values)| {
        let start = end;
        end += values.len() as u32;
        [row, start, end]
    });
    let targets: Vec<[u32; TARGET_COLUMNS as usize]> = targets.collect();
    let order = by_row.values().flatten().copied().collect::<Vec<_>>();
    let width = x.meta.shape()[1] as u32;
    let x = owned(x);
    let (client, dtypes) = (x.client.clone(), [x.dtype.into(), values.dtype.into()]);
    let (targets, order) = (numbers(&x, targets.as_flattened()), numbers(&x, &order));
    add_rows_kernel::launch::<R>(
        &client,
        over(by_row.len() as u32),
        CubeDim::new_1d(UNITS),
        array(x.clone()),
        targets,
        order,
        array(values),
        by_row.len() as u32,
        width,
        dtypes,
    );
    x
}

/// Columns of the table of rows to add to: the row, and the range of its values in `order`.
const TARGET_COLUMNS: u32 = 3;

#[cube(launch)]
fn add_rows_kernel<F: Float, G: Float>(
    x: &mut Array<F>,
    targets: &Array<u32>,
    order: &Array<u32>,
    values: &Array<G>,
    count: u32,
    width: u32,
    #[define(F, G)] _dtypes: [StorageType; 2],
) {
    let mut task = CUBE_POS as u32;
    while task < count {
        let target = (task * TARGET_COLUMNS) as usize;
        let (row, start, end) = (targets[target], targets[target + 1], targets[target + 2]);
        let mut column = UNIT_POS;
        while column < width {
            let index = (row * width + column) as usize;
            let mut sum = f32::cast_from(x[index]);
            let mut i = start;
            while i < end {
                sum += f32::cast_from(values[(order[i as usize] * width + column) as usize]);
                i += 1;
            }
            x[index] = F::cast_from(sum);
            column += UNITS;
        }
        task += CUBE_COUNT as u32;
    }
}
