//! The towers, one file each.

mod qwen2_5_vl;
mod qwen2_vl;

use std::fmt;

use serde_json::{Map, Value};

use crate::fields::{Fields, TowerError};
use crate::tower::Tower;

/// Everything that distinguishes one tower from another.
pub struct TowerFamily {
    /// `model_type` of the image-and-text model.
    pub model_type: &'static str,
    /// The token that an image's tokens are, if a file does not say.
    pub image_token: u32,
    /// Prefix of its modules in transformers.
    pub root: &'static str,
    /// Reads the fields, given the text model's width.
    read: fn(&'static TowerFamily, Fields<'_>, usize) -> Result<Tower, TowerError>,
}

/// Every known tower.
pub static FAMILIES: &[TowerFamily] = &[qwen2_vl::FAMILY, qwen2_5_vl::FAMILY];

impl TowerFamily {
    /// The tower of an image-and-text model, if it is computed here.
    pub fn of(model_type: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.model_type == model_type)
    }

    /// The tower of a model with this `config.json`, if it is computed here, and the token that an image's tokens are.
    pub fn of_model(config: &Value) -> Option<(&'static Self, u32)> {
        let family = Self::of(config.get("model_type")?.as_str()?)?;
        let token = config.get("image_token_id").and_then(Value::as_u64).and_then(|token| u32::try_from(token).ok());
        Some((family, token.unwrap_or(family.image_token)))
    }

    /// Reads a `vision_config`; absent fields have transformers' defaults. `text_width` is the width of the text model.
    ///
    /// # Errors
    /// [`TowerError`], with the field.
    pub fn read(&'static self, config: &Map<String, Value>, text_width: usize) -> Result<Tower, TowerError> {
        let fields = Fields(config);
        (self.read)(self, fields, text_width)?.checked(fields)
    }
}

impl PartialEq for TowerFamily {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}

impl fmt::Debug for TowerFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TowerFamily").field(&self.model_type).finish()
    }
}
