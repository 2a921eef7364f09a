//! Launches of the attention kernels.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use collimate_kernels::AttentionShape;
use cubecl::prelude::*;

use super::super::buffers::{array, empty, scalars};
use super::super::cubes::{UNITS as ROW_UNITS, over, over_numbers};
use super::backward::{dots_kernel, keys_kernel, queries_kernel};
use super::blocks::{Blocks, Products};
use super::forward::forward_kernel;
use super::matrix::{matrix_forward_kernel, matrix_keys_kernel, matrix_queries_kernel};
use super::sizes::Sizes;
use super::tile::UNITS;

/// Inputs of the backward pass, with shapes as in [`AttentionSaved`](crate::AttentionSaved).
pub(in super::super) struct Saved<R: CubeRuntime> {
    pub(in super::super) q: CubeTensor<R>,
    pub(in super::super) k: CubeTensor<R>,
    pub(in super::super) v: CubeTensor<R>,
    pub(in super::super) out: CubeTensor<R>,
    pub(in super::super) lse: CubeTensor<R>,
}

impl<R: CubeRuntime> Blocks<R> {
    /// See [`AttentionMap::attend`](crate::AttentionMap::attend).
    pub(in super::super) fn forward(
        &self,
        shape: &AttentionShape,
        products: Products,
        q: CubeTensor<R>,
        k: CubeTensor<R>,
        v: CubeTensor<R>,
    ) -> (CubeTensor<R>, CubeTensor<R>) {
        let sizes = self.sizes(shape, products);
        let launch = match products {
            Products::Scalar => forward_kernel::launch::<R>,
            Products::Matrix { .. } => matrix_forward_kernel::launch::<R>,
        };
        let out = empty(&q, q.meta.shape().clone(), q.dtype);
        let lse = scalars(&q, [q.meta.shape()[0], shape.heads]);
        let (client, dtype) = (q.client.clone(), q.dtype);
        launch(
            &client,
            over(self.num_queries * sizes.tiles_per_block()),
            CubeDim::new_1d(UNITS),
            array(q),
            array(k),
            array(v),
            array(self.queries.clone()),
            array(out.clone()),
            array(lse.clone()),
            self.num_queries,
            shape.scale,
            cap(shape),
            window(shape),
            sizes,
            dtype.into(),
        );
        (out, lse)
    }

    /// See [`AttentionMap::attend_backward`](crate::AttentionMap::attend_backward).
    pub(in super::super) fn backward(
        &self,
        shape: &AttentionShape,
        products: Products,
        saved: Saved<R>,
        d_out: CubeTensor<R>,
    ) -> [CubeTensor<R>; 3] {
        let dots = dots(shape, &saved, d_out.clone());
        let d_q = self.queries_backward(shape, products, &saved, d_out.clone(), dots.clone());
        let [d_k, d_v] = self.keys_backward(shape, products, saved, d_out, dots);
        [d_q, d_k, d_v]
    }

    /// Gradients of the queries.
    fn queries_backward(
        &self,
        shape: &AttentionShape,
        products: Products,
        saved: &Saved<R>,
        d_out: CubeTensor<R>,
        dots: CubeTensor<R>,
    ) -> CubeTensor<R> {
        let sizes = self.sizes(shape, products);
        let launch = match products {
            Products::Scalar => queries_kernel::launch::<R>,
            Products::Matrix { .. } => matrix_queries_kernel::launch::<R>,
        };
        let Saved { q, k, v, lse, .. } = saved;
        let d_q = empty(q, q.meta.shape().clone(), q.dtype);
        launch(
            &q.client,
            over(self.num_queries * sizes.tiles_per_block()),
            CubeDim::new_1d(UNITS),
            array(q.clone()),
            array(k.clone()),
            array(v.clone()),
            array(d_out),
            array(lse.clone()),
            array(dots),
            array(self.queries.clone()),
            array(d_q.clone()),
            self.num_queries,
            shape.scale,
            cap(shape),
            window(shape),
            sizes,
            q.dtype.into(),
        );
        d_q
    }

    /// Gradients of the keys and values.
    fn keys_backward(
        &self,
        shape: &AttentionShape,
        products: Products,
        saved: Saved<R>,
        d_out: CubeTensor<R>,
        dots: CubeTensor<R>,
    ) -> [CubeTensor<R>; 2] {
        let sizes = self.sizes(shape, products);
        let launch = match products {
            Products::Scalar => keys_kernel::launch::<R>,
            Products::Matrix { .. } => matrix_keys_kernel::launch::<R>,
        };
        let Saved { q, k, v, lse, .. } = saved;
        let (client, dtype) = (q.client.clone(), q.dtype);
        let [d_k, d_v] = [&k, &v].map(|x| empty(x, x.meta.shape().clone(), dtype));
        launch(
            &client,
            over(self.num_keys * sizes.kv_heads()),
            CubeDim::new_1d(UNITS),
            array(q),
            array(k),
            array(v),
            array(d_out),
            array(lse),
            array(dots),
            array(self.keys.clone()),
            array(self.viewers.clone()),
            array(d_k.clone()),
            array(d_v.clone()),
            self.num_keys,
            shape.scale,
            cap(shape),
            window(shape),
            sizes,
            dtype.into(),
        );
        [d_k, d_v]
    }

    fn sizes(&self, shape: &AttentionShape, products: Products) -> Sizes {
        Sizes { matrix: products == Products::Matrix { on_units: true }, ..Sizes::new(shape, self.side) }
    }
}

/// Σ out · d_out of each row and head, [N, H].
fn dots<R: CubeRuntime>(shape: &AttentionShape, saved: &Saved<R>, d_out: CubeTensor<R>) -> CubeTensor<R> {
    let Saved { q, out, lse, .. } = saved;
    let count = lse.meta.num_elements();
    let dots = scalars(q, lse.meta.shape().clone());
    dots_kernel::launch::<R>(
        &q.client,
        over_numbers(count),
        CubeDim::new_1d(ROW_UNITS),
        array(out.clone()),
        array(d_out),
        array(dots.clone()),
        count as u32,
        shape.head_dim as u32,
        q.dtype.into(),
    );
    dots
}

/// The softcap as passed to kernels; unused if there is none.
fn cap(shape: &AttentionShape) -> f32 {
    shape.softcap.unwrap_or(0.0)
}

/// The window as passed to kernels; unused if there is none.
fn window(shape: &AttentionShape) -> u32 {
    shape.window.map_or(0, |window| window as u32)
}
