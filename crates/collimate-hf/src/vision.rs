//! The vision tower of an image-and-text model, how its images are prepared, and the token that stands for them.

use std::path::Path;

use collimate_images::{ImageError, ImageSettings};
use collimate_towers::{Tower, TowerFamily};
use serde_json::Map;

use crate::error::HfError;
use crate::fields::Fields;

/// The field with the tower's configuration.
const VISION: &str = "vision_config";

/// Parts of an image-and-text model that full training leaves as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrozenVision {
    /// The whole tower, with its merger.
    pub tower: bool,
    /// The merger.
    pub merger: bool,
}

/// The tower of an image-and-text model that is computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Vision {
    /// Its configuration.
    pub tower: Tower,
    /// How images are resized and normalized.
    pub images: ImageSettings,
    /// The token that an image's tokens are.
    pub image_token: u32,
    /// What full training leaves as it is.
    pub frozen: FrozenVision,
}

impl Vision {
    /// Reads the tower of an image-and-text model of this type, if it is computed here.
    pub(crate) fn read(top: Fields<'_>, model_type: &str, text_width: usize) -> Result<Option<Self>, HfError> {
        let Some(family) = TowerFamily::of(model_type) else { return Ok(None) };
        let none = Map::new();
        let config = match top.get(VISION) {
            Some(value) => {
                value.as_object().ok_or_else(|| top.wrong(VISION, "an object with the tower's configuration"))?
            }
            None => &none,
        };
        let tower = family.read(config, text_width).map_err(|error| {
            let (path, field) = (top.path().to_owned(), format!("{VISION}.{}", error.field));
            HfError::Field { path, field, expected: error.expected, found: error.found }
        })?;
        let image_token = top.token_ids("image_token_id")?.first().copied().unwrap_or(family.image_token);
        let images = ImageSettings {
            patch_size: tower.patch_size,
            merge_size: tower.merge_size,
            temporal_patch_size: tower.temporal_patch_size,
            ..ImageSettings::default()
        };
        Ok(Some(Self { tower, images, image_token, frozen: FrozenVision::default() }))
    }

    /// Reads how images are prepared from the model's folder.
    pub(crate) fn read_settings(&mut self, dir: &Path) -> Result<(), HfError> {
        let images = ImageSettings::from_folder(dir).map_err(|(path, error)| match error {
            ImageError::Setting { field, expected, found } => HfError::Field { path, field, expected, found },
            other => {
                let (field, expected) = ("image_processor".to_owned(), "settings of images".to_owned());
                HfError::Field { path, field, expected, found: other.to_string() }
            }
        })?;
        let sizes = |images: &ImageSettings| [images.patch_size, images.merge_size, images.temporal_patch_size];
        let names = ["patch_size", "merge_size", "temporal_patch_size"];
        for ((field, found), expected) in names.into_iter().zip(sizes(&images)).zip(sizes(&self.images)) {
            if found != expected {
                let expected = format!("{expected}, as vision_config of config.json says");
                let (path, field, found) = (dir.to_owned(), field.to_owned(), found.to_string());
                return Err(HfError::Field { path, field, expected, found });
            }
        }
        self.images = images;
        Ok(())
    }

    /// Whether a tensor or module is one of the tower's.
    pub fn is_inside(&self, name: &str) -> bool {
        name.strip_prefix(self.tower.root).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Whether full training leaves a tensor as it is.
    pub fn is_frozen(&self, tensor: &str) -> bool {
        let is_merger = || tensor.strip_prefix(&self.tower.merger_root()).is_some_and(|rest| rest.starts_with('.'));
        (self.frozen.tower && self.is_inside(tensor)) || (self.frozen.merger && is_merger())
    }
}
