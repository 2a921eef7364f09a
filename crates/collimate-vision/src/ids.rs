//! Where a tower's parameters are among those of the model.

use collimate_towers::{Linear, Norm, Tower};

/// Matrices of an adapter on a linear layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoraIds {
    /// A, stored as [in, r].
    pub a: usize,
    /// B, stored as [r, out].
    pub b: usize,
    /// The factor s of `s · B A`.
    pub scale: f32,
}

/// A linear layer; its weight is stored as [in, out].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearIds {
    /// Its weight.
    pub weight: usize,
    /// Its bias, [1, out].
    pub bias: usize,
    /// Its adapter, if it has one.
    pub lora: Option<LoraIds>,
}

/// A norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormIds {
    /// Its weight, [1, width].
    pub weight: usize,
    /// Its bias, if it has one.
    pub bias: Option<usize>,
}

/// A block.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockIds {
    /// Norms before attention and feed-forward layer.
    pub norms: [NormIds; 2],
    /// Queries, keys and values side by side.
    pub qkv: LinearIds,
    /// The attention's output.
    pub proj: LinearIds,
    /// The feed-forward layer: two layers, or gate, up and down.
    pub feed_forward: Vec<LinearIds>,
}

/// The parameters of a tower.
#[derive(Debug, Clone, PartialEq)]
pub struct TowerIds {
    /// The weight that embeds patches, stored as one row.
    pub patches: usize,
    /// Its blocks.
    pub blocks: Vec<BlockIds>,
    /// The merger's norm.
    pub merger_norm: NormIds,
    /// The merger's layers.
    pub merger: [LinearIds; 2],
}

impl TowerIds {
    /// Looks up every parameter: `find` by the name of a tensor, `lora` by its linear layer.
    pub fn new(
        tower: &Tower,
        find: &mut dyn FnMut(&str) -> usize,
        lora: &mut dyn FnMut(&Linear) -> Option<LoraIds>,
    ) -> Self {
        let merger = tower.merger();
        let patches = find(&tower.patch_embedding().0);
        let norm = |module: &str, find: &mut dyn FnMut(&str) -> usize| NormIds {
            weight: find(&format!("{module}.weight")),
            bias: (tower.norm == Norm::Layer).then(|| find(&format!("{module}.bias"))),
        };
        let mut linear = |layer: &Linear, find: &mut dyn FnMut(&str) -> usize| LinearIds {
            weight: find(&format!("{}.weight", layer.module)),
            bias: find(&format!("{}.bias", layer.module)),
            lora: lora(layer),
        };
        let mut blocks = Vec::with_capacity(tower.depth);
        for block in tower.blocks() {
            blocks.push(BlockIds {
                norms: block.norms.each_ref().map(|module| norm(module, find)),
                qkv: linear(&block.qkv, find),
                proj: linear(&block.proj, find),
                feed_forward: block.feed_forward.iter().map(|layer| linear(layer, find)).collect(),
            });
        }
        let merger_norm = norm(&merger.norm, find);
        let merger = [linear(&merger.first, find), linear(&merger.second, find)];
        Self { patches, blocks, merger_norm, merger }
    }

    /// Indices of the merger's parameters.
    pub fn merger_parameters(&self) -> impl Iterator<Item = usize> {
        self.merger_norm.parameters().chain(self.merger.iter().flat_map(LinearIds::parameters))
    }

    /// Indices of all parameters.
    pub fn parameters(&self) -> impl Iterator<Item = usize> {
        let blocks = self.blocks.iter().flat_map(BlockIds::parameters);
        [self.patches].into_iter().chain(blocks).chain(self.merger_parameters())
    }
}

impl BlockIds {
    /// Indices of its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = usize> {
        let linears = [&self.qkv, &self.proj].into_iter().chain(&self.feed_forward);
        self.norms.iter().flat_map(NormIds::parameters).chain(linears.flat_map(LinearIds::parameters))
    }
}

impl NormIds {
    fn parameters(&self) -> impl Iterator<Item = usize> {
        [self.weight].into_iter().chain(self.bias)
    }
}

impl LinearIds {
    fn parameters(&self) -> impl Iterator<Item = usize> {
        [self.weight, self.bias].into_iter().chain(self.lora.into_iter().flat_map(|lora| [lora.a, lora.b]))
    }
}
