//! The tensors of a tower by role, with the names that transformers gives them and their shapes.

use crate::tower::{FeedForward, Norm, Tower};

/// A linear layer, which has a bias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linear {
    /// Its name without `.weight`: `model.visual.blocks.0.attn.qkv`.
    pub module: String,
    /// Width of its input.
    pub in_features: usize,
    /// Width of its output.
    pub out_features: usize,
}

impl Linear {
    /// The shape of its weight, [out, in].
    pub fn shape(&self) -> [usize; 2] {
        [self.out_features, self.in_features]
    }

    fn tensors(&self) -> [(String, Vec<usize>); 2] {
        [
            (format!("{}.weight", self.module), self.shape().to_vec()),
            (format!("{}.bias", self.module), vec![self.out_features]),
        ]
    }
}

/// The modules of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockNames {
    /// Norms before attention and feed-forward layer.
    pub norms: [String; 2],
    /// Queries, keys and values side by side.
    pub qkv: Linear,
    /// The attention's output.
    pub proj: Linear,
    /// The feed-forward layer: two layers, or gate, up and down.
    pub feed_forward: Vec<Linear>,
}

impl BlockNames {
    /// Its linear layers.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        [&self.qkv, &self.proj].into_iter().chain(&self.feed_forward)
    }
}

/// The modules that make a token of a square of patches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergerNames {
    /// The norm of each patch.
    pub norm: String,
    /// Before GELU.
    pub first: Linear,
    /// After it.
    pub second: Linear,
}

impl Tower {
    /// Prefix of the merger's modules.
    pub fn merger_root(&self) -> String {
        format!("{}.merger", self.root)
    }

    /// The weight that embeds patches: [width, channels, frames, rows, columns].
    pub fn patch_embedding(&self) -> (String, Vec<usize>) {
        let shape = vec![self.width, Self::CHANNELS, self.temporal_patch_size, self.patch_size, self.patch_size];
        (format!("{}.patch_embed.proj.weight", self.root), shape)
    }

    /// The modules of its blocks.
    pub fn blocks(&self) -> Vec<BlockNames> {
        (0..self.depth).map(|number| self.block(number)).collect()
    }

    fn block(&self, number: usize) -> BlockNames {
        let root = format!("{}.blocks.{number}", self.root);
        let linear = |name: &str, in_features, out_features| Linear {
            module: format!("{root}.{name}"),
            in_features,
            out_features,
        };
        let (width, inner) = (self.width, self.intermediate);
        let feed_forward = match self.feed_forward {
            FeedForward::QuickGelu => vec![linear("mlp.fc1", width, inner), linear("mlp.fc2", inner, width)],
            FeedForward::GatedSilu => vec![
                linear("mlp.gate_proj", width, inner),
                linear("mlp.up_proj", width, inner),
                linear("mlp.down_proj", inner, width),
            ],
        };
        BlockNames {
            norms: ["norm1", "norm2"].map(|name| format!("{root}.{name}")),
            qkv: linear("attn.qkv", width, 3 * width),
            proj: linear("attn.proj", width, width),
            feed_forward,
        }
    }

    /// The merger's modules.
    pub fn merger(&self) -> MergerNames {
        let root = self.merger_root();
        let joined = self.width * self.merged_patches();
        let linear =
            |name: &str, out_features| Linear { module: format!("{root}.{name}"), in_features: joined, out_features };
        MergerNames {
            norm: format!("{root}.ln_q"),
            first: linear("mlp.0", joined),
            second: linear("mlp.2", self.out_width),
        }
    }

    /// Every linear layer, block by block, and those of the merger.
    pub fn linears(&self) -> Vec<Linear> {
        let blocks = self.blocks();
        let merger = self.merger();
        let of_blocks = blocks.iter().flat_map(|block| block.linears().cloned());
        of_blocks.chain([merger.first, merger.second]).collect()
    }

    /// Name and shape of every tensor.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let norm = |module: &str| {
            let bias = (self.norm == Norm::Layer).then(|| (format!("{module}.bias"), vec![self.width]));
            [(format!("{module}.weight"), vec![self.width])].into_iter().chain(bias)
        };
        let mut tensors = vec![self.patch_embedding()];
        for block in self.blocks() {
            tensors.extend(block.norms.iter().flat_map(|module| norm(module)));
            tensors.extend(block.linears().flat_map(Linear::tensors));
        }
        let merger = self.merger();
        tensors.extend(norm(&merger.norm));
        tensors.extend([&merger.first, &merger.second].into_iter().flat_map(Linear::tensors));
        tensors
    }
}
