//! How a model's images are resized and normalized: `preprocessor_config.json` or `processor_config.json`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::ImageError;
use crate::grid::Grid;
use crate::smart_resize::{PixelRange, smart_resize};

/// The largest file of settings, in bytes.
const MAX_SETTINGS_BYTES: u64 = 1 << 20;

/// How a model's images are resized, normalized and cut into patches.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSettings {
    /// Least and most pixels.
    pub pixels: PixelRange,
    /// Pixels of a patch's side.
    pub patch_size: usize,
    /// Patches of the side of a square that becomes one token.
    pub merge_size: usize,
    /// Frames of a patch.
    pub temporal_patch_size: usize,
    /// Of each channel, of values from 0 to 1.
    pub mean: [f64; 3],
    /// Of each channel.
    pub std: [f64; 3],
}

impl Default for ImageSettings {
    /// Those of Qwen2-VL's image processor.
    fn default() -> Self {
        Self {
            pixels: PixelRange { min: 56 * 56, max: 28 * 28 * 1280 },
            patch_size: 14,
            merge_size: 2,
            temporal_patch_size: 2,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
        }
    }
}

impl ImageSettings {
    /// Reads the file of a model's folder that says how images are prepared, as [`Self::from_json`]: `processor_config.json` if it
    /// speaks of images, else `preprocessor_config.json`; without either, the class's defaults.
    ///
    /// # Errors
    /// The file, and what is wrong with it.
    pub fn from_folder(dir: &Path) -> Result<Self, (PathBuf, ImageError)> {
        for name in ["processor_config.json", "preprocessor_config.json"] {
            let path = dir.join(name);
            let at = |error| (path.clone(), error);
            let broken = |problem: String| ImageError::Read { path: path.clone(), problem };
            if !path.is_file() {
                continue;
            }
            let mut text = String::new();
            let file = File::open(&path).map_err(|error| at(broken(error.to_string())))?;
            file.take(MAX_SETTINGS_BYTES).read_to_string(&mut text).map_err(|error| at(broken(error.to_string())))?;
            let json: Value =
                serde_json::from_str(&text).map_err(|error| at(broken(format!("not valid JSON: {error}"))))?;
            if name.starts_with("pre") || json.get("image_processor").is_some_and(Value::is_object) {
                return Self::from_json(&json).map_err(at);
            }
        }
        Ok(Self::default())
    }

    /// Reads `preprocessor_config.json`, or `processor_config.json` with its `image_processor`. Absent fields have the class's
    /// defaults. Fields that ask for something else than is done here are refused.
    ///
    /// # Errors
    /// [`ImageError::Setting`], with the field.
    pub fn from_json(json: &Value) -> Result<Self, ImageError> {
        let whole = object(json, "the file")?;
        let fields = Fields(match whole.get("image_processor") {
            Some(nested) => object(nested, "image_processor")?,
            None => whole,
        });
        let default = Self::default();
        for name in ["do_resize", "do_rescale", "do_normalize"] {
            fields
                .expect(name, "true, since images are resized and normalized", |value| value == &Value::Bool(true))?;
        }
        fields.expect("resample", "3 (bicubic)", |value| value.as_u64() == Some(3))?;
        let is_255 = |value: &Value| value.as_f64().is_some_and(|factor| (factor * 255.0 - 1.0).abs() < 1e-9);
        fields.expect("rescale_factor", "1/255", is_255)?;
        let settings = Self {
            pixels: fields.pixels(default.pixels)?,
            patch_size: fields.count("patch_size", 64)?.unwrap_or(default.patch_size),
            merge_size: fields.count("merge_size", 8)?.unwrap_or(default.merge_size),
            temporal_patch_size: fields.count("temporal_patch_size", 8)?.unwrap_or(default.temporal_patch_size),
            mean: fields.channels("image_mean", |_| true)?.unwrap_or(default.mean),
            std: fields.channels("image_std", |std| std > 0.0)?.unwrap_or(default.std),
        };
        Ok(settings)
    }

    /// Numbers of a patch.
    pub fn patch_numbers(&self) -> usize {
        3 * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Pixels of the side of one token's square.
    pub fn factor(&self) -> usize {
        self.patch_size * self.merge_size
    }

    /// Height and width that an image is resized to.
    ///
    /// # Errors
    /// [`ImageError::Aspect`].
    pub fn resized(&self, height: usize, width: usize) -> Result<[usize; 2], ImageError> {
        smart_resize(height, width, self.factor(), self.pixels)
    }

    /// The patches of an image of this size.
    pub fn grid(&self, height: usize, width: usize) -> Grid {
        Grid { rows: height / self.patch_size, columns: width / self.patch_size }
    }

    /// Bytes of a resized image with this grid, three a pixel.
    pub fn resized_bytes(&self, grid: Grid) -> u64 {
        3 * (grid.num_patches() * self.patch_size * self.patch_size) as u64
    }

    /// Tokens of an image with this grid.
    pub fn num_tokens(&self, grid: Grid) -> usize {
        grid.merged(self.merge_size).num_patches()
    }

    /// The normalized number of every byte, by channel.
    pub(crate) fn tables(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|channel| {
            let (mean, std) = (self.mean[channel] as f32 * 255.0, self.std[channel] as f32 * 255.0);
            std::array::from_fn(|byte| (byte as f32 - mean) / std)
        })
    }
}

struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn expect(&self, name: &str, expected: &str, is_right: impl Fn(&Value) -> bool) -> Result<(), ImageError> {
        match self.get(name) {
            Some(value) if !is_right(value) => Err(wrong(name, expected, value)),
            _ => Ok(()),
        }
    }

    /// A whole number from 1 to `most`.
    fn count(&self, name: &str, most: u64) -> Result<Option<usize>, ImageError> {
        let count =
            |value: &Value| value.as_u64().filter(|count| (1..=most).contains(count)).map(|count| count as usize);
        let expected = || format!("a whole number from 1 to {most}");
        self.get(name).map(|value| count(value).ok_or_else(|| wrong(name, &expected(), value))).transpose()
    }

    fn channels(&self, name: &str, is_right: impl Fn(f64) -> bool) -> Result<Option<[f64; 3]>, ImageError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let numbers = value.as_array().map(|items| items.iter().filter_map(Value::as_f64).collect::<Vec<_>>());
        let numbers = numbers.and_then(|numbers| <[f64; 3]>::try_from(numbers).ok());
        let numbers = numbers.filter(|numbers| numbers.iter().all(|number| number.is_finite() && is_right(*number)));
        numbers.map(Some).ok_or_else(|| wrong(name, "three numbers", value))
    }

    /// `min_pixels` and `max_pixels`, or the `size` that newer files have for both; its edges are areas, too.
    fn pixels(&self, default: PixelRange) -> Result<PixelRange, ImageError> {
        let size = self.get("size").map(|size| object(size, "size")).transpose()?.map(Fields);
        let area = |name: &str, nested: &str, default: u64| -> Result<u64, ImageError> {
            let inner = size.as_ref().and_then(|size| size.get(nested));
            match self.get(name).or(inner) {
                Some(value) => {
                    let area = value.as_u64().filter(|area| (1..=1 << 40).contains(area));
                    area.ok_or_else(|| wrong(name, "a number of pixels", value))
                }
                None => Ok(default),
            }
        };
        let pixels = PixelRange {
            min: area("min_pixels", "shortest_edge", default.min)?,
            max: area("max_pixels", "longest_edge", default.max)?,
        };
        if pixels.min > pixels.max {
            return Err(wrong("min_pixels", &format!("at most max_pixels, {}", pixels.max), &pixels.min.into()));
        }
        Ok(pixels)
    }
}

fn object<'a>(value: &'a Value, name: &str) -> Result<&'a Map<String, Value>, ImageError> {
    value.as_object().ok_or_else(|| wrong(name, "an object", value))
}

fn wrong(field: &str, expected: &str, found: &Value) -> ImageError {
    let mut found = found.to_string();
    if found.len() > 60 {
        found = found.chars().take(60).chain("…".chars()).collect();
    }
    ImageError::Setting { field: field.to_owned(), expected: expected.to_owned(), found }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[test]
    fn old_and_new_files_say_the_same() {
        let old = json!({"min_pixels": 3136, "max_pixels": 12544});
        let new = json!({"image_processor": {"size": {"shortest_edge": 3136, "longest_edge": 12544}}});
        let read = ImageSettings::from_json(&old).unwrap();
        assert_eq!(read.pixels, PixelRange { min: 3136, max: 12544 });
        assert_eq!(ImageSettings::from_json(&new).unwrap(), read);
        assert_eq!(ImageSettings::from_json(&json!({})).unwrap().pixels.max, 1_003_520);
    }

    #[rstest]
    #[case(json!({"do_normalize": false}), "do_normalize")]
    #[case(json!({"resample": 2}), "resample")]
    #[case(json!({"patch_size": 0}), "patch_size")]
    #[case(json!({"image_std": [1.0, 0.0, 1.0]}), "image_std")]
    #[case(json!({"min_pixels": 9, "max_pixels": 8}), "min_pixels")]
    #[case(json!({"size": {"longest_edge": -1}}), "max_pixels")]
    fn what_is_not_done_here_is_refused_by_name(#[case] json: Value, #[case] name: &str) {
        let error = ImageSettings::from_json(&json).unwrap_err();
        assert!(matches!(&error, ImageError::Setting { field, .. } if field == name), "{error}");
    }
}
