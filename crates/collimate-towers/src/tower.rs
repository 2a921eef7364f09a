//! A tower's configuration, in the fields that it is computed by.

use crate::fields::{Fields, TowerError};

/// The kind of a tower's norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// LayerNorm, with weight and bias.
    Layer,
    /// RMSNorm, with a weight.
    Rms,
}

/// The feed-forward layer of a block; its linear layers have biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedForward {
    /// Two linear layers with x σ(1.702 x) between them (`quick_gelu`).
    QuickGelu,
    /// Gate and up, silu(gate) · up, and down.
    GatedSilu,
}

/// Windows that patches attend within.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// Merged tokens of a window's side; those at the right and lower edge are smaller.
    pub side: usize,
    /// Blocks in which the whole image attends to itself instead.
    pub full_blocks: Vec<usize>,
}

/// The checked configuration of a tower: every size is at least 1, and sizes are consistent.
#[derive(Debug, Clone, PartialEq)]
pub struct Tower {
    /// Prefix of its modules in transformers.
    pub root: &'static str,
    /// Number of blocks.
    pub depth: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Attention heads; `width / heads` is a multiple of 4.
    pub heads: usize,
    /// Inner width of the feed-forward layer.
    pub intermediate: usize,
    /// Width of what comes out: that of the text model.
    pub out_width: usize,
    /// Pixels of a patch's side.
    pub patch_size: usize,
    /// Frames of a patch.
    pub temporal_patch_size: usize,
    /// Patches of the side of a square that becomes one token.
    pub merge_size: usize,
    /// Kind of all norms.
    pub norm: Norm,
    /// Added to a norm's variance or mean square; fixed in the published code, whatever a file says.
    pub norm_eps: f64,
    /// Feed-forward layer of the blocks.
    pub feed_forward: FeedForward,
    /// Windows, if not every block lets the whole image attend to itself.
    pub windows: Option<Windows>,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
}

impl Tower {
    /// Color channels of a pixel.
    pub const CHANNELS: usize = 3;

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.width / self.heads
    }

    /// Numbers of a patch.
    pub fn patch_numbers(&self) -> usize {
        Self::CHANNELS * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Patches that become one token.
    pub fn merged_patches(&self) -> usize {
        self.merge_size * self.merge_size
    }

    /// Numbers that a pass holds for each token at most: its pixels, the intermediates of a block and of the merger, and in
    /// training the input of every block.
    pub fn numbers_per_token(&self, is_trained: bool) -> u64 {
        let inputs = if is_trained { self.depth } else { 2 };
        let patch = 2 * self.patch_numbers() + (inputs + 14) * self.width + 5 * self.intermediate;
        ((patch + 4 * self.width) * self.merged_patches() + 2 * self.out_width) as u64
    }

    /// Checks what all towers have in common.
    pub(crate) fn checked(self, fields: Fields<'_>) -> Result<Self, TowerError> {
        if !self.width.is_multiple_of(self.heads) || !self.head_dim().is_multiple_of(4) {
            let expected = format!("a divisor of the width {} that leaves heads of a multiple of 4", self.width);
            return Err(fields.wrong("num_heads", expected));
        }
        Ok(self)
    }
}
