//! Feeds the parsers that need more than one call.

use std::collections::BTreeSet;
use std::path::Path;

use collimate_chat::ChatTemplate;
use collimate_data::{DataError, DataSource, GroupReader, JsonRows, LoadOptions, Message};
use collimate_gguf::{GgufOptions, GgufType, export_gguf};
use collimate_hf::{HfError, TensorSpec, linear_modules};
use collimate_images::{ImageSettings, Limits, ResizedImage, decode, dimensions};
use collimate_quantized::owner_of_sidecar;
use collimate_report::{read_metrics, write_report};
use collimate_text::{TextTokenizer, read_chat_template};
use collimate_train::read_trainer_state;
use collimate_weights::{Storage, WeightFiles, read_config};

use crate::answer::{Answer, answer};
use crate::input_folders::{InputFolders, model_config};

/// The file that an input replaces: its first line may name one, otherwise the first of `files`.
pub(crate) fn named<'a>(input: &'a [u8], files: &[&'static str]) -> (&'static str, &'a [u8]) {
    let found = files.iter().find_map(|file| Some((*file, input.strip_prefix(file.as_bytes())?.strip_prefix(b"\n")?)));
    found.unwrap_or((files[0], input))
}

/// Reads every row with its layout's rewards, and converts them once.
pub(crate) fn jsonl(input: &[u8]) -> Answer {
    const RULES: [&str; 7] = ["rank", "ndcg", "pairs", "plackett_luce", "elo", "aspects", "field:score"];
    let plain = LoadOptions::default();
    let rule = RULES[input.len() % RULES.len()];
    let converted = LoadOptions { reward_from: rule.parse().ok(), skip_unusable: true, ..LoadOptions::default() };
    let read = |options| {
        let bytes = std::io::Cursor::new(input.to_vec());
        answer(read_rows(DataSource::from_reader(bytes, "input.jsonl", &options)))
    };
    let [first, _] = [plain, converted].map(read);
    first
}

/// Reads an image's size, decodes it and cuts it into patches.
pub(crate) fn image(input: &[u8]) -> Answer {
    let limits = Limits::default();
    answer(dimensions(input, &limits).and_then(|_| {
        let settings = ImageSettings::default();
        let resized = ResizedImage::new(&decode(input, &limits)?, &settings)?;
        resized.patches(&settings, &mut Vec::new());
        Ok(())
    }))
}

/// Reads every row with a layout, and as raw JSON.
pub(crate) fn row_file(path: &Path) -> Answer {
    let rows = JsonRows::open(path).and_then(|rows| rows.map(|row| row.map(|_| ())).collect::<Result<Vec<_>, _>>());
    match rows {
        Ok(_) => answer(read_rows(DataSource::open(path, &LoadOptions::default()))),
        refused => answer(refused),
    }
}

fn read_rows(rows: Result<GroupReader, DataError>) -> Result<usize, DataError> {
    let mut first_error = None;
    let mut count = 0;
    for row in &mut rows? {
        match row {
            Ok(_) => count += 1,
            Err(error) => _ = first_error.get_or_insert(error),
        }
    }
    first_error.map_or(Ok(count), Err)
}

pub(crate) fn read_weights(files: Result<WeightFiles, HfError>) -> Result<(), HfError> {
    let files = files?;
    let mut first_error = None;
    for name in files.names() {
        if let Err(error) = files.read(name) {
            first_error.get_or_insert(error);
        }
    }
    let spec = |name| Some(TensorSpec::new(name, files.shape(name)?));
    let specs: Vec<_> = files.names().filter_map(spec).collect();
    if let Err(error) = files.check(&specs) {
        first_error.get_or_insert(error);
    }
    first_error.map_or(Ok(()), Err)
}

/// What `config.json` says beside weights in these formats, by the name in an input's first line.
const PACKED: [(&str, &str); 6] = [
    ("bitsandbytes", r#"{"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4"}"#),
    ("fp8", r#"{"quant_method": "fp8", "weight_block_size": [2, 4]}"#),
    ("gptq", r#"{"quant_method": "gptq", "bits": 4, "group_size": 4}"#),
    ("gptq-3", r#"{"quant_method": "gptq", "bits": 3, "group_size": -1, "checkpoint_format": "gptq_v2"}"#),
    ("awq", r#"{"quant_method": "awq", "bits": 4, "group_size": 4}"#),
    ("none", "null"),
];

/// Reads packed weights, as they are and unpacked.
pub(crate) fn packed(folders: &InputFolders, input: &[u8]) -> Answer {
    let (format, bytes) = named(input, &PACKED.map(|(name, _)| name));
    let says = PACKED.iter().find(|(name, _)| *name == format).map_or("null", |(_, says)| says);
    let config = format!("{{\"model_type\": \"llama\", \"quantization_config\": {says}}}");
    folders.with("packed", "config.json", config.as_bytes(), |_| {
        folders.with("packed", "model.safetensors", bytes, |folder| answer(read_packed(WeightFiles::open(folder))))
    })
}

fn read_packed(files: Result<WeightFiles, HfError>) -> Result<usize, HfError> {
    let files = files?;
    let owners = files.names().filter_map(owner_of_sidecar);
    let own = files.names().filter(|name| owner_of_sidecar(name).is_none()).map(str::to_owned);
    let weights: BTreeSet<String> = own.chain(owners).collect();
    let (mut specs, mut first_error) = (Vec::new(), None);
    for name in &weights {
        for storage in [Storage::Mapped, Storage::Resident] {
            let matrix = files.read_packed(name, None, storage).and_then(|matrix| {
                let Some(matrix) = matrix else { return files.read(name).map(|_| None) };
                files.check_codes(name, &matrix)?;
                Ok(Some([matrix.rows(), matrix.columns()]))
            });
            match matrix {
                Ok(None) => specs.extend(files.shape(name).map(|shape| TensorSpec::new(name, shape))),
                Ok(Some(shape)) => specs.push(TensorSpec::new(name, &shape)),
                Err(error) => _ = first_error.get_or_insert(error),
            }
        }
        if let Err(error) = files.read(name) {
            first_error.get_or_insert(error);
        }
    }
    if let Err(error) = files.check(&specs) {
        first_error.get_or_insert(error);
    }
    first_error.map_or(Ok(specs.len()), Err)
}

pub(crate) fn config(folders: &InputFolders, input: &[u8]) -> Answer {
    let (file, bytes) = named(input, &["config.json", "generation_config.json"]);
    let read = |folder: &Path| {
        answer(read_config(folder).map(|config| {
            let modules = linear_modules(&config).len();
            (config.num_parameters(), modules)
        }))
    };
    if file == "config.json" {
        return folders.with("config", file, bytes, read);
    }
    let sound = model_config().to_string();
    folders.with("config", file, bytes, |_| folders.with("config", "config.json", sound.as_bytes(), read))
}

pub(crate) fn tokenizer(folders: &InputFolders, input: &[u8]) -> Answer {
    const FILES: [&str; 6] = [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "generation_config.json",
        "chat_template.jinja",
    ];
    let (file, bytes) = named(input, &FILES);
    folders.with("tokenizer", file, bytes, |folder| {
        answer(TextTokenizer::from_model_dir(folder).and_then(|tokenizer| {
            let ids = tokenizer.encode("ab a</s> Äß\u{301} 12", true)?;
            tokenizer.pieces(&ids)?;
            exported(folder);
            tokenizer.decode(&[0, 3, u32::MAX, 2], true)
        }))
    })
}

/// Whether the tokenizer can be exported to GGUF, which reads more of it than tokenization does.
fn exported(folder: &Path) -> bool {
    let output = folder.join("exported.gguf");
    let options = GgufOptions { outtype: GgufType::F16, name: None, tokenizer_pre: Some("default".to_owned()) };
    // A leftover file would be refused the next time.
    export_gguf(folder, None, &output, &options).is_ok() && std::fs::remove_file(&output).is_ok()
}

/// Templates are text, so invalid UTF-8 is replaced as a decoder does.
pub(crate) fn chat_template(folders: &InputFolders, input: &[u8]) -> Answer {
    if let ("tokenizer_config.json", bytes) = named(input, &["chat_template.jinja", "tokenizer_config.json"]) {
        return answer(folders.with("config", "tokenizer_config.json", bytes, read_chat_template));
    }
    let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let tokens = tokens.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let turns = [("system", "Be brief."), ("user", "What is 7 * 8?"), ("assistant", "56"), ("user", "Thanks.\n")];
    let turns = turns.map(|(role, content)| Message::new(role, content));
    let template = ChatTemplate::new(&String::from_utf8_lossy(input), tokens);
    answer(template.and_then(|template| template.render(&turns, true)))
}

pub(crate) fn metrics(folders: &InputFolders, input: &[u8]) -> Answer {
    let (file, bytes) =
        named(input, &["metrics.jsonl", "results.json", "run.json", "trainer_state.json", "recipe.yaml"]);
    folders.with("run", file, bytes, |folder| match file {
        "trainer_state.json" => answer(read_trainer_state(&folder.join(file))),
        "metrics.jsonl" => answer(read_metrics(&folder.join(file)).and_then(|rows| write_report(folder).map(|_| rows))),
        _ => answer(write_report(folder)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokenizers_of_the_corpus_are_exported_to_gguf() {
        let folders = InputFolders::new().expect("folders");
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/tokenizer");
        for name in ["byte-level.json", "fallback.json"] {
            let bytes = std::fs::read(corpus.join(name)).expect("a seed");
            assert!(folders.with("tokenizer", "tokenizer.json", &bytes, exported), "{name}");
        }
    }
}
