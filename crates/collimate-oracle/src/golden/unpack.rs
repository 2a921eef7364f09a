//! Unpacks `tests/golden` into folders from which models and runs are read.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::GoldenError;
use super::weights::TensorList;

/// Suffix of files that list tensors; without `.json` it is the suffix of the file to draw.
const LIST: &str = ".safetensors.json";
/// Where the parts of a family go: its folder, and the target folder and suffix.
const PARTS: [(&str, &str, &str); 3] =
    [("model", "models", ""), ("sharded", "models", ".sharded"), ("adapter", "adapters", "")];
/// A folder of models without a tokenizer and without log-probs: decoders of pictures.
const DECODERS: &str = "vq";

/// `golden.json` of a family.
#[derive(Debug, Deserialize)]
struct Family {
    tokenizer: String,
}

/// The golden values in the repository.
fn packed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// The unpacked folder. It is named by a hash of the packed one, and appears complete or not at all, so that processes may
/// request it concurrently.
pub(super) fn unpacked() -> Result<PathBuf, GoldenError> {
    let packed = packed();
    let parent = target_folder().join("golden");
    let folder = parent.join(&checksum(&packed)?[..16]);
    if folder.is_dir() {
        return Ok(folder);
    }
    let partial = parent.join(format!("partial-{}", std::process::id()));
    // Left by a killed process with the same id.
    let _ = fs::remove_dir_all(&partial);
    unpack(&packed, &partial)?;
    if let Err(error) = fs::rename(&partial, &folder) {
        // Another process was faster.
        let _ = fs::remove_dir_all(&partial);
        if !folder.is_dir() {
            return Err(GoldenError::file(folder)(error));
        }
    }
    Ok(folder)
}

/// The folder that cargo built this executable into, `TARGET/PROFILE/deps`, or else the system's temporary one.
fn target_folder() -> PathBuf {
    let executable = std::env::current_exe().unwrap_or_default();
    let built = executable.ancestors().find(|folder| folder.ends_with("deps")).and_then(|deps| deps.ancestors().nth(2));
    built.map_or_else(|| std::env::temp_dir().join("collimate-tests"), Path::to_path_buf)
}

fn unpack(packed: &Path, out: &Path) -> Result<(), GoldenError> {
    create(&out.join("logps"))?;
    for entry in entries(packed)? {
        let name = name_of(&entry);
        if entry.join("golden.json").is_file() {
            unpack_family(&entry, name, out)?;
        } else if name == DECODERS {
            unpack_folder(&entry, &out.join(name))?;
        } else if entry.is_dir() {
            // A folder of several: those in `quantized` are called llama.quantized and so on.
            for family in entries(&entry)?.into_iter().filter(|family| family.join("golden.json").is_file()) {
                unpack_family(&family, &format!("{}.{name}", name_of(&family)), out)?;
            }
        } else if entry.extension().is_some_and(|extension| extension == "json") {
            copy(&entry, &out.join(name))?;
        }
    }
    Ok(())
}

fn unpack_family(family: &Path, name: &str, out: &Path) -> Result<(), GoldenError> {
    let shared = packed();
    let Family { tokenizer } = read_json(&family.join("golden.json"))?;
    for (part, folder, end) in PARTS {
        let (from, to) = (family.join(part), out.join(folder).join(format!("{name}{end}")));
        if from.is_dir() {
            unpack_folder(&from, &to)?;
            if folder == "models" {
                copy(&shared.join(format!("tokenizers/{tokenizer}.json")), &to.join("tokenizer.json"))?;
            }
        }
    }
    let others = family.join("adapters");
    for adapter in if others.is_dir() { entries(&others)? } else { Vec::new() } {
        unpack_folder(&adapter, &out.join("adapters").join(format!("{name}.{}", name_of(&adapter))))?;
    }
    let runs = family.join("train");
    for run in if runs.is_dir() { entries(&runs)? } else { Vec::new() } {
        let to = out.join("train").join(name_of(&run));
        unpack_folder(&run, &to)?;
        copy(&shared.join("data.jsonl"), &to.join("data.jsonl"))?;
    }
    copy(&family.join("logps.json"), &out.join(format!("logps/{name}.json")))
}

/// Copies a folder with the weights that its lists describe.
fn unpack_folder(from: &Path, to: &Path) -> Result<(), GoldenError> {
    create(to)?;
    for entry in entries(from)? {
        let name = name_of(&entry);
        if entry.is_dir() {
            unpack_folder(&entry, &to.join(name))?;
        } else if name.ends_with(LIST) {
            let file = to.join(name.trim_end_matches(".json"));
            fs::write(&file, drawn(&entry)?).map_err(GoldenError::file(file))?;
        } else {
            copy(&entry, &to.join(name))?;
        }
    }
    Ok(())
}

/// The safetensors file that a list describes.
fn drawn(list: &Path) -> Result<Vec<u8>, GoldenError> {
    let tensors: TensorList = read_json(list)?;
    let file = tensors.file().map_err(|source| GoldenError::Parse { path: list.to_owned(), source })?;
    let found = format!("{:x}", Sha256::digest(&file));
    if found == tensors.sha256 {
        return Ok(file);
    }
    Err(GoldenError::Weights { path: list.to_owned(), found, expected: tensors.sha256 })
}

/// SHA-256 of the names and contents of all files below a folder.
fn checksum(folder: &Path) -> Result<String, GoldenError> {
    let mut hasher = Sha256::new();
    for file in files_below(folder)? {
        let content = read(&file)?;
        hasher.update(file.strip_prefix(folder).unwrap_or(&file).as_os_str().as_encoded_bytes());
        hasher.update((content.len() as u64).to_le_bytes());
        hasher.update(content);
    }
    Ok(format!("{:x}", hasher.finalize()))
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>, GoldenError> {
    let mut files = Vec::new();
    for entry in entries(folder)? {
        if entry.is_dir() {
            files.extend(files_below(&entry)?);
        } else {
            files.push(entry);
        }
    }
    Ok(files)
}

/// The contents of a folder, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, GoldenError> {
    let read = fs::read_dir(folder).map_err(GoldenError::file(folder))?;
    let entries: Result<Vec<PathBuf>, _> = read.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut entries = entries.map_err(GoldenError::file(folder))?;
    entries.sort();
    Ok(entries)
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn create(folder: &Path) -> Result<(), GoldenError> {
    fs::create_dir_all(folder).map_err(GoldenError::file(folder))
}

fn copy(from: &Path, to: &Path) -> Result<(), GoldenError> {
    fs::copy(from, to).map(|_| ()).map_err(GoldenError::file(from))
}

fn read(file: &Path) -> Result<Vec<u8>, GoldenError> {
    fs::read(file).map_err(GoldenError::file(file))
}

fn read_json<T: for<'de> Deserialize<'de>>(file: &Path) -> Result<T, GoldenError> {
    serde_json::from_slice(&read(file)?).map_err(|source| GoldenError::Parse { path: file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `SHA256SUMS` of the golden folder and of each family list exactly what is there, with its checksums.
    #[test]
    fn every_golden_file_has_its_checksum() {
        let mut listed = BTreeSet::new();
        for sums in files_below(&packed()).unwrap().into_iter().filter(|file| name_of(file) == "SHA256SUMS") {
            for line in fs::read_to_string(&sums).unwrap().lines() {
                let (expected, name) = line.split_once("  ").unwrap();
                let file = sums.with_file_name(name);
                assert_eq!(format!("{:x}", Sha256::digest(read(&file).unwrap())), expected, "{}", file.display());
                listed.insert(file);
            }
        }
        let files = files_below(&packed()).unwrap().into_iter();
        let unlisted = files.filter(|file| !matches!(name_of(file), "SHA256SUMS" | "README.md"));
        let unlisted: Vec<PathBuf> = unlisted.filter(|file| !listed.contains(file)).collect();
        assert!(unlisted.is_empty(), "no checksums: {unlisted:?}");
        assert!(listed.len() > 100);
    }

    #[test]
    fn golden_values_stay_small() {
        let sizes = files_below(&packed()).unwrap().into_iter().map(|file| fs::metadata(file).unwrap().len());
        assert!(sizes.sum::<u64>() < 15 << 20);
    }

    #[test]
    fn models_are_unpacked_with_their_weights_and_tokenizers() {
        let folder = unpacked().unwrap();
        assert!(folder.starts_with(target_folder()));
        for file in [
            "models/llama/model.safetensors",
            "models/llama.sharded/tokenizer.json",
            "models/llama.quantized/model.safetensors",
            "logps/llama.json",
            "logps/llama.quantized.json",
        ] {
            assert!(folder.join(file).is_file(), "{file}");
        }
        for file in ["data.jsonl", "expected.jsonl", "initial_adapter/adapter_model.safetensors"] {
            assert!(folder.join("train/dpo_mistral_lora").join(file).is_file(), "{file}");
        }
        assert!(
            !entries(folder.parent().unwrap())
                .unwrap()
                .iter()
                .any(|entry| { name_of(entry) == format!("partial-{}", std::process::id()) })
        );
    }
}
