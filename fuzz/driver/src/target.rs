//! The parsers, and how each gets its input.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use collimate_data::{DataError, DataSource, GroupReader, JsonRows, LoadOptions, Message};
use collimate_gguf::{GgufOptions, GgufType, export_gguf};
use collimate_hf::{Adapter, HfError, ModelConfig, WeightFiles, linear_modules};
use collimate_objective::values::evaluate_rows;
use collimate_objectives as _;
use collimate_report::{read_metrics, write_report};
use collimate_text::{ChatTemplate, TextTokenizer};
use collimate_train::{LoadedRecipe, load_recipe_from};
use serde::Serialize;

use crate::places::Places;

/// A parser's answer to an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The input is sound.
    Parsed,
    /// The input is refused with this message.
    Refused(String),
}

/// Memory that a parser may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// For any input.
    pub base_bytes: usize,
    /// For each byte of the input.
    pub per_byte: usize,
}

impl Limit {
    /// Most bytes for an input of this length.
    pub fn bytes(self, input: usize) -> usize {
        self.base_bytes + self.per_byte * input
    }
}

/// A parser of downloaded files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Rows of rewards, preferences and rankings, in every layout.
    Jsonl,
    /// The same rows in other formats: Parquet, compressed lines, a JSON list.
    RowFile,
    /// A file of weights.
    Safetensors,
    /// The index of weights in several files.
    WeightIndex,
    /// `config.json` and `generation_config.json` of a model.
    Config,
    /// The files of a tokenizer.
    Tokenizer,
    /// A chat template, rendered for a short conversation.
    ChatTemplate,
    /// The files of a PEFT adapter.
    Adapter,
    /// A recipe.
    Recipe,
    /// Files of a run: metrics, results and a checkpoint's state.
    Metrics,
    /// Rows of `collimate objective-values`.
    ObjectiveRows,
}

impl Target {
    /// Every parser.
    pub const ALL: [Self; 11] = [
        Self::Jsonl,
        Self::RowFile,
        Self::Safetensors,
        Self::WeightIndex,
        Self::Config,
        Self::Tokenizer,
        Self::ChatTemplate,
        Self::Adapter,
        Self::Recipe,
        Self::Metrics,
        Self::ObjectiveRows,
    ];

    /// Its name, which is also its fuzz target's and its folder's in `fuzz/corpus`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::RowFile => "row_file",
            Self::Safetensors => "safetensors",
            Self::WeightIndex => "weight_index",
            Self::Config => "config",
            Self::Tokenizer => "tokenizer",
            Self::ChatTemplate => "chat_template",
            Self::Adapter => "adapter",
            Self::Recipe => "recipe",
            Self::Metrics => "metrics",
            Self::ObjectiveRows => "objective_rows",
        }
    }

    /// The memory it may use.
    pub fn limit(self) -> Limit {
        let limit = |base_mib: usize, per_byte| Limit { base_bytes: base_mib << 20, per_byte };
        match self {
            Self::Jsonl => limit(1, 256),
            // Pages of 128 MiB and 8 million values, unpacked and decoded, and a line while its buffer doubles.
            Self::RowFile => limit(512, 3000),
            Self::Safetensors | Self::WeightIndex | Self::Metrics => limit(1, 64),
            // The names of ten thousand layers' tensors.
            Self::Config => limit(24, 64),
            Self::Adapter => limit(1, 64),
            // Events of a YAML reader, some 300 bytes each.
            Self::Recipe => limit(2, 512),
            // Tables that its regular expressions are compiled to.
            Self::Tokenizer => limit(64, 512),
            // Work and output of a rendering.
            Self::ChatTemplate => limit(256, 512),
            // Tensors of the largest batch that objectives take.
            Self::ObjectiveRows => limit(512, 256),
        }
    }

    /// Feeds an input to the parser, and the result to the code that uses it.
    pub fn run(self, places: &Places, input: &[u8]) -> Answer {
        match self {
            Self::Jsonl => jsonl(input),
            Self::RowFile => places.with("rows", "input", input, |folder| row_file(&folder.join("input"))),
            Self::Safetensors => places
                .with("weights", "model.safetensors", input, |folder| answer(read_weights(WeightFiles::open(folder)))),
            Self::WeightIndex => places.with("index", "model.safetensors.index.json", input, |folder| {
                answer(read_weights(WeightFiles::open(folder)))
            }),
            Self::Config => config(places, input),
            Self::Tokenizer => tokenizer(places, input),
            Self::ChatTemplate => chat_template(places, input),
            Self::Adapter => {
                let (file, bytes) = named(input, &["adapter_config.json", "adapter_model.safetensors"]);
                places.with("adapter", file, bytes, |folder| answer(Adapter::read(folder, &places.model)))
            }
            Self::Recipe => places.with("recipe", "recipe.yaml", input, |folder| {
                let loaded = load_recipe_from(Some(&folder.join("recipe.yaml")), &[], &places.hub);
                answer(loaded.and_then(|LoadedRecipe { recipe, .. }| {
                    let counts = recipe.step_counts(1000);
                    let _ = (recipe.schedule(&counts), recipe.saves_after(counts.total_steps, &counts));
                    Ok(recipe.resolved_yaml()?)
                }))
            }),
            Self::Metrics => metrics(places, input),
            Self::ObjectiveRows => match std::str::from_utf8(input) {
                Ok(text) => answer(evaluate_rows(text)),
                Err(error) => Answer::Refused(error.to_string()),
            },
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|target| target.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            format!("no target is called \"{name}\"; there are {}", names.join(", "))
        })
    }
}

fn answer<T, E: fmt::Display>(result: Result<T, E>) -> Answer {
    match result {
        Ok(_) => Answer::Parsed,
        Err(error) => Answer::Refused(error.to_string()),
    }
}

/// The file that an input stands for: its first line may name it, else it is the first of `files`.
fn named<'a>(input: &'a [u8], files: &[&'static str]) -> (&'static str, &'a [u8]) {
    let found = files.iter().find_map(|file| Some((*file, input.strip_prefix(file.as_bytes())?.strip_prefix(b"\n")?)));
    found.unwrap_or((files[0], input))
}

/// Reads every row with its layout's rewards, and with one of the conversions.
fn jsonl(input: &[u8]) -> Answer {
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

/// Reads every row with a layout, and as it is.
fn row_file(path: &Path) -> Answer {
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

fn read_weights(files: Result<WeightFiles, HfError>) -> Result<(), HfError> {
    let files = files?;
    let mut first_error = None;
    for name in files.names() {
        if let Err(error) = files.read(name) {
            first_error.get_or_insert(error);
        }
    }
    let spec = |name| Some(collimate_hf::TensorSpec::new(name, files.shape(name)?));
    let specs: Vec<_> = files.names().filter_map(spec).collect();
    if let Err(error) = files.check(&specs) {
        first_error.get_or_insert(error);
    }
    first_error.map_or(Ok(()), Err)
}

fn config(places: &Places, input: &[u8]) -> Answer {
    let (file, bytes) = named(input, &["config.json", "generation_config.json"]);
    let read = |folder: &Path| {
        answer(ModelConfig::from_dir(folder).map(|config| {
            let modules = linear_modules(&config).len();
            (config.num_parameters(), modules)
        }))
    };
    if file == "config.json" {
        return places.with("config", file, bytes, read);
    }
    let sound = crate::places::model_config().to_string();
    places.with("config", file, bytes, |_| places.with("config", "config.json", sound.as_bytes(), read))
}

fn tokenizer(places: &Places, input: &[u8]) -> Answer {
    const FILES: [&str; 5] = [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "generation_config.json",
        "chat_template.jinja",
    ];
    let (file, bytes) = named(input, &FILES);
    places.with("tokenizer", file, bytes, |folder| {
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
    // A file left behind would be refused the next time.
    export_gguf(folder, None, &output, &options).is_ok() && std::fs::remove_file(&output).is_ok()
}

/// Templates are text, so invalid UTF-8 is replaced as a decoder does.
fn chat_template(places: &Places, input: &[u8]) -> Answer {
    if let ("tokenizer_config.json", bytes) = named(input, &["chat_template.jinja", "tokenizer_config.json"]) {
        let template = |folder: &Path| ChatTemplate::from_model_dir(folder);
        return answer(places.with("config", "tokenizer_config.json", bytes, template));
    }
    let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let tokens = tokens.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let turns = [("system", "Be brief."), ("user", "What is 7 * 8?"), ("assistant", "56"), ("user", "Thanks.\n")];
    let turns = turns.map(|(role, content)| Message { role: role.to_owned(), content: content.to_owned() });
    let template = ChatTemplate::new(&String::from_utf8_lossy(input), tokens);
    answer(template.and_then(|template| template.render(&turns, true)))
}

fn metrics(places: &Places, input: &[u8]) -> Answer {
    let (file, bytes) = named(input, &["metrics.jsonl", "results.json", "trainer_state.json", "recipe.yaml"]);
    places.with("run", file, bytes, |folder| match file {
        "trainer_state.json" => answer(collimate_train::read_trainer_state(&folder.join(file))),
        "metrics.jsonl" => answer(read_metrics(&folder.join(file)).and_then(|rows| write_report(folder).map(|_| rows))),
        _ => answer(write_report(folder)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokenizers_of_the_corpus_are_exported_to_gguf() {
        let places = Places::new().expect("folders");
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/tokenizer");
        for name in ["byte-level.json", "fallback.json"] {
            let bytes = std::fs::read(corpus.join(name)).expect("a seed");
            assert!(places.with("tokenizer", "tokenizer.json", &bytes, exported), "{name}");
        }
    }
}
