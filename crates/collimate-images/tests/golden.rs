//! Every image of `../shared/parity/visual/preprocess`, where that is beside the checkout: decoded, resized and normalized as
//! Pillow and transformers do it.

use std::path::{Path, PathBuf};

use collimate_images::{ImageSettings, Limits, PixelRange, ResizedImage, RgbImage, decode, dimensions, smart_resize};
use safetensors::SafeTensors;
use serde_json::Value;

/// The most levels that a JPEG decoder may be off libjpeg-turbo by.
const JPEG_LEVELS: u8 = 3;
/// The largest share of bytes that may be off at all: where colors are stored at half the size.
const JPEG_SHARE: f64 = 0.1;
/// Of pixel values, absolute.
const PIXEL_VALUES: f32 = 1e-6;

/// The folder; says so where it is not.
fn visual() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/parity/visual");
    let found = folder.exists();
    if !found {
        println!("left out: {} is not there", folder.display());
    }
    found.then_some(folder)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("golden values")).expect("golden values are JSON")
}

fn number(value: &Value) -> usize {
    value.as_u64().expect("a whole number") as usize
}

fn read(path: &Path) -> RgbImage {
    decode(&std::fs::read(path).expect("an image"), &Limits::default()).expect("an image that can be decoded")
}

/// The settings of a case.
fn settings(case: &Value) -> ImageSettings {
    let pixels = PixelRange { min: number(&case["min_pixels"]) as u64, max: number(&case["max_pixels"]) as u64 };
    ImageSettings { pixels, ..ImageSettings::default() }
}

#[test]
fn sizes_are_those_of_transformers() {
    let Some(root) = visual() else { return };
    let cases = json(&root.join("preprocess/smart_resize.json"));
    let cases = cases.as_array().expect("cases");
    assert_eq!(cases.len(), 174);
    for case in cases {
        let pixels = settings(case).pixels;
        let found = smart_resize(number(&case["height"]), number(&case["width"]), number(&case["factor"]), pixels);
        let expected = case["resized"].as_array().map(|sides| [number(&sides[0]), number(&sides[1])]);
        assert_eq!(found.ok(), expected, "{case}");
    }
}

#[test]
fn decoded_images_are_those_of_pillow() {
    let Some(root) = visual() else { return };
    let cases = json(&root.join("preprocess/images.json"));
    let mut compared = 0;
    for case in cases.as_array().expect("cases") {
        let path = root.join(case["image"].as_str().expect("a path"));
        let image = read(&path);
        let size = [number(&case["size"][0]), number(&case["size"][1])];
        assert_eq!([image.height, image.width], size, "{case}");
        let bytes = std::fs::read(&path).expect("an image");
        assert_eq!(dimensions(&bytes, &Limits::default()), Ok(size), "{case}");
        let Some(decoded) = case["decoded_png"].as_str() else { continue };
        compared += 1;
        let expected = read(&root.join(decoded));
        let off: Vec<u8> = image.bytes.iter().zip(&expected.bytes).map(|(a, b)| a.abs_diff(*b)).collect();
        let largest = off.iter().copied().max().unwrap_or(0);
        let share = off.iter().filter(|off| **off > 0).count() as f64 / off.len() as f64;
        println!("{}: off by {largest} levels at most, {share:.4} of the bytes", path.display());
        match case["format"].as_str() {
            Some("JPEG") => assert!(largest <= JPEG_LEVELS && share <= JPEG_SHARE, "{case}: {largest}, {share}"),
            _ => assert_eq!(largest, 0, "{case}"),
        }
    }
    assert!(compared >= 7, "{compared}");
}

#[test]
fn resized_images_are_those_of_torchvision_to_the_byte() {
    let Some(root) = visual() else { return };
    for case in json(&root.join("preprocess/images.json")).as_array().expect("cases") {
        // Of a JPEG the decoded pixels, so that only the resizing is compared.
        let is_jpeg = case["format"] == "JPEG";
        let source = if is_jpeg { &case["decoded_png"] } else { &case["image"] };
        let image = read(&root.join(source.as_str().expect("a path")));
        let settings = settings(case);
        let resized = ResizedImage::new(&image, &settings).expect("a size that fits");
        let grid = [1, resized.grid.rows, resized.grid.columns];
        assert_eq!(case["grid_thw"].as_array().expect("a grid").iter().map(number).collect::<Vec<_>>(), grid, "{case}");
        let expected = read(&root.join(case["resized_png"].as_str().expect("a path")));
        let differ = resized.image.bytes.iter().zip(&expected.bytes).filter(|(a, b)| a != b).count();
        assert_eq!((resized.image.bytes.len(), differ), (expected.bytes.len(), 0), "{case}");
        let mut numbers = Vec::new();
        resized.patches(&settings, &mut numbers);
        let sum: f64 = numbers.iter().map(|number| f64::from(number.abs())).sum();
        let expected = case["pixel_abs_sum"].as_f64().expect("a sum");
        assert!((sum / expected - 1.0).abs() < 1e-7, "{case}: {sum}");
        if let Some(name) = case["pixel_values"].as_str() {
            compare_pixel_values(&root, name, &numbers);
        }
    }
}

fn compare_pixel_values(root: &Path, place: &str, found: &[f32]) {
    let (file, name) = place.split_once(':').expect("a file and a tensor");
    let bytes = std::fs::read(root.join(file)).expect("pixel values");
    let tensors = SafeTensors::deserialize(&bytes).expect("a sound file");
    let expected = tensors.tensor(name).expect("the image's tensor");
    let expected: Vec<f32> = expected.data().as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect();
    assert_eq!(found.len(), expected.len(), "{place}");
    let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off <= PIXEL_VALUES, "{place}: {off}");
}
