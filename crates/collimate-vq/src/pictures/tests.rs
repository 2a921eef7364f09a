use std::fs;
use std::path::Path;

use collimate_hf::HostTensor;
use collimate_weights::{StorageDtype, write_safetensors};
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

mod golden_pictures {
    use collimate_oracle::golden_dir;
    use collimate_oracle::tolerances::COLORS;

    use super::*;

    /// A change of a file's tensors.
    type Change<'a> = &'a dyn Fn(&mut Vec<(String, HostTensor)>);

    #[rstest]
    fn tokens_have_the_colors_that_pytorch_gives_them(#[values("llamagen", "llamagen_not_unit", "var")] name: &str) {
        let folder = golden_dir().join("vq").join(name);
        let decoder = PictureDecoder::open(&folder).expect("a decoder");
        assert!(PictureDecoder::is_in(&folder));
        let text = fs::read_to_string(folder.join("pictures.json")).expect("golden pictures");
        let pictures: Value = serde_json::from_str(&text).expect("JSON");
        for picture in pictures.as_array().expect("pictures") {
            let numbers = |key: &str| -> Vec<f64> {
                picture[key].as_array().expect("numbers").iter().map(|x| x.as_f64().expect("a number")).collect()
            };
            let tokens: Vec<u32> = numbers("tokens").into_iter().map(|token| token as u32).collect();
            let (found, channels, range) = decoder.numbers(&tokens).expect("a picture");
            let expected = numbers("colors");
            assert_eq!((channels, range, found.len()), (3, [-1.0, 1.0], expected.len()));
            assert_eq!(decoder.side() * decoder.side() * 3, expected.len());
            let is_cut = name == "var";
            for (found, expected) in found.iter().zip(&expected) {
                let found = f64::from(if is_cut { found.clamp(-1.0, 1.0) } else { *found });
                assert!((found - expected).abs() <= COLORS, "{name}: {found}, expected {expected}");
            }
            let image = decoder.picture(&tokens).expect("a picture");
            let byte = ((expected[3].clamp(-1.0, 1.0) + 1.0) / 2.0 * 255.0).round();
            assert!((f64::from(image.pixel(1, 0)[0]) - byte).abs() <= 1.0);
        }
    }

    #[test]
    fn a_tensor_that_is_missing_or_has_another_shape_is_named_with_its_file() {
        let changed = |change: Change<'_>| {
            let folder = changed_file("llamagen", "vq.safetensors", change);
            let error = PictureDecoder::open(folder.path()).expect_err("refused").to_string();
            assert!(error.contains("vq.safetensors"), "{error}");
            error
        };
        let missing = changed(&|all| all.retain(|(name, _)| name != "decoder.conv_blocks.0.attn.1.k.bias"));
        assert!(missing.contains("decoder.conv_blocks.0.attn.1.k.bias"), "{missing}");
        let resize = |tensor: &'static str| {
            move |all: &mut Vec<(String, HostTensor)>| {
                let found = all.iter_mut().find(|(name, _)| name == tensor).expect("a tensor");
                found.1.shape[0] -= 1;
                let count = found.1.shape.iter().product();
                found.1.data.truncate(count);
            }
        };
        for tensor in
            ["decoder.mid.0.norm1.weight", "decoder.conv_blocks.1.res.0.nin_shortcut.bias", "decoder.conv_out.bias"]
        {
            let error = changed(&resize(tensor));
            assert!(error.contains(tensor) && error.contains("expected"), "{error}");
        }
        let colors = changed(&|all| {
            resize("decoder.conv_out.weight")(all);
            resize("decoder.conv_out.bias")(all);
        });
        assert!(colors.contains("expected 3 colors, found 2 outputs"), "{colors}");
    }

    #[test]
    fn a_codebook_without_its_decoder_makes_no_pictures() {
        let only = |all: &mut Vec<(String, HostTensor)>| all.retain(|(name, _)| name.starts_with("quantize."));
        let folder = changed_file("var", "vae.safetensors", &only);
        assert!(!PictureDecoder::is_in(folder.path()));
        let error = PictureDecoder::open(folder.path()).expect_err("refused").to_string();
        assert!(error.contains("vae.safetensors") && error.contains("post_quant_conv.weight"), "{error}");
    }

    /// A golden model's folder with another file of tensors.
    fn changed_file(name: &str, file: &str, change: Change<'_>) -> TempDir {
        let from = golden_dir().join("vq").join(name);
        let folder = tempfile::tempdir().expect("a folder");
        fs::copy(from.join("config.json"), folder.path().join("config.json")).expect("copied");
        let files = collimate_weights::WeightFiles::open_file(&from.join(file)).expect("tensors");
        let read = |name: &str| (name.to_owned(), files.read(name).expect("a tensor"));
        let mut all: Vec<_> = files.names().map(read).collect();
        change(&mut all);
        write_safetensors(&folder.path().join(file), all, StorageDtype::F32).expect("written");
        folder
    }
}

/// A LlamaGen of four tokens a picture, with a codebook of this shape and nothing else.
fn llamagen(shape: [usize; 2], more: &Value) -> TempDir {
    let mut config = json!({"model_type": "llamagen", "dim": 32, "n_layer": 1, "n_head": 2, "vocab_size": 3, "num_classes": 2, "block_size": 4});
    more.as_object().expect("an object").iter().for_each(|(key, value)| config[key] = value.clone());
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
    let data = (0..shape[0] * shape[1]).map(|at| at as f32 / 8.0).collect();
    let entries = HostTensor::new(shape, data);
    write_safetensors(&folder.path().join(PATCHES_FILE), [(ENTRIES.to_owned(), entries)], StorageDtype::F32)
        .expect("written");
    folder
}

#[test]
fn entries_without_a_decoder_are_squares_of_pixels() {
    let decoder = PictureDecoder::open(llamagen([3, 4], &json!({})).path()).expect("a decoder");
    assert_eq!((decoder.num_tokens(), decoder.side()), (4, 4));
    let (found, channels, _) = decoder.numbers(&[0, 1, 2, 0]).expect("a picture");
    let expected = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 0, 1, 10, 11, 2, 3].map(|pixel: u8| f32::from(pixel) / 8.0);
    assert_eq!((found.as_slice(), channels), (&expected[..], 1));
}

#[rstest]
#[case(&[0, 1, 2], "expected 4 tokens from 0 to 2, found 3 tokens")]
#[case(&[0, 1, 3, 0], "found 3")]
fn tokens_that_are_no_picture_are_refused(#[case] tokens: &[u32], #[case] problem: &str) {
    let decoder = PictureDecoder::open(llamagen([3, 4], &json!({})).path()).expect("a decoder");
    let error = decoder.picture(tokens).expect_err("refused").to_string();
    assert!(error.contains(problem), "{error}");
}

#[rstest]
#[case([3, 5], json!({}), "5 is no square")]
#[case([4, 4], json!({}), "expected the shape [3, width], found [4, 4]")]
fn a_codebook_that_does_not_fit_is_named_with_file_and_tensor(
    #[case] shape: [usize; 2],
    #[case] more: Value,
    #[case] problem: &str,
) {
    let error = PictureDecoder::open(llamagen(shape, &more).path()).expect_err("refused").to_string();
    assert!(error.contains("vq.safetensors") && error.contains(ENTRIES) && error.contains(problem), "{error}");
}

#[test]
fn a_folder_without_a_quantizer_says_which_file_is_missing() {
    let folder = llamagen([3, 4], &json!({}));
    fs::remove_file(folder.path().join(PATCHES_FILE)).expect("removed");
    assert!(!PictureDecoder::is_in(folder.path()) && !PictureDecoder::is_in(Path::new("nowhere")));
    let error = PictureDecoder::open(folder.path()).expect_err("refused").to_string();
    assert!(error.contains("vq.safetensors: no such file: it has codebook and decoder"), "{error}");
}
