//! Gated DeltaNet layers (arXiv 2412.06464): their sizes, and the fields that they are read from.

use crate::error::HfError;
use crate::fields::Fields;

/// Sizes of layers whose memory is a state for each head in place of keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearAttention {
    /// Heads of queries and keys; divides the value heads.
    pub key_heads: usize,
    /// Heads of values, each with a state.
    pub value_heads: usize,
    /// Width of a query or key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// Tokens that the convolution of queries, keys and values reads, the token itself included.
    pub taps: usize,
}

impl LinearAttention {
    /// Width of the queries of all heads, which is that of the keys.
    pub fn keys_width(&self) -> usize {
        self.key_heads * self.key_dim
    }

    /// Width of the values of all heads.
    pub fn values_width(&self) -> usize {
        self.value_heads * self.value_dim
    }

    /// Width of queries, keys and values together.
    pub fn width(&self) -> usize {
        2 * self.keys_width() + self.values_width()
    }

    /// Reads the sizes; absent fields have the values of `defaults`.
    pub(crate) fn read(fields: Fields<'_>, defaults: Self) -> Result<Self, HfError> {
        let key_heads = fields.size_or("linear_num_key_heads", defaults.key_heads)?;
        let value_heads = fields.size_or("linear_num_value_heads", defaults.value_heads)?;
        if !value_heads.is_multiple_of(key_heads) {
            let expected = format!("a multiple of linear_num_key_heads, {key_heads}");
            return Err(fields.wrong("linear_num_value_heads", &expected));
        }
        let taps = fields.size_or("linear_conv_kernel_dim", defaults.taps)?;
        if taps < 2 {
            return Err(fields.wrong("linear_conv_kernel_dim", "at least 2"));
        }
        Ok(Self {
            key_heads,
            value_heads,
            key_dim: fields.size_or("linear_key_head_dim", defaults.key_dim)?,
            value_dim: fields.size_or("linear_value_head_dim", defaults.value_dim)?,
            taps,
        })
    }
}
