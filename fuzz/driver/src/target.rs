//! The parsers and their limits.

use std::fmt;
use std::str::FromStr;

use collimate_objective::values::evaluate_rows;
use collimate_objectives as _;
use collimate_peft::Adapter;
use collimate_train::{LoadedRecipe, load_recipe_from};
use collimate_weights::WeightFiles;
use serde::Serialize;

use crate::answer::{Answer, answer};
use crate::input_folders::InputFolders;
use crate::parsers::{chat_template, config, image, jsonl, metrics, named, packed, read_weights, row_file, tokenizer};

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
    /// A file of weights packed in a format that its first line names.
    PackedWeights,
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
    /// An image of a prompt.
    Image,
}

impl Target {
    /// Every parser.
    pub const ALL: [Self; 13] = [
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
        Self::PackedWeights,
        Self::Image,
    ];

    /// Its name, which is also its fuzz target's and its folder's in `fuzz/corpus`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::RowFile => "row_file",
            Self::Safetensors => "safetensors",
            Self::PackedWeights => "packed_weights",
            Self::WeightIndex => "weight_index",
            Self::Config => "config",
            Self::Tokenizer => "tokenizer",
            Self::ChatTemplate => "chat_template",
            Self::Adapter => "adapter",
            Self::Recipe => "recipe",
            Self::Metrics => "metrics",
            Self::ObjectiveRows => "objective_rows",
            Self::Image => "image",
        }
    }

    /// The memory it may use.
    pub fn limit(self) -> Limit {
        let limit = |base_mib: usize, per_byte| Limit { base_bytes: base_mib << 20, per_byte };
        match self {
            Self::Jsonl => limit(1, 256),
            // Pages of 128 MiB and 8 million values, decompressed and decoded, and a line while its buffer doubles.
            Self::RowFile => limit(512, 3000),
            Self::Safetensors | Self::WeightIndex | Self::Metrics => limit(1, 64),
            // Of a byte, sixteen numbers and a copy of the byte.
            Self::PackedWeights => limit(1, 128),
            // The names of ten thousand layers' tensors.
            Self::Config => limit(24, 64),
            Self::Adapter => limit(1, 64),
            // Events of a YAML reader, 300 bytes or so each.
            Self::Recipe => limit(2, 512),
            // The tables that its regular expressions compile to.
            Self::Tokenizer => limit(64, 512),
            // Work and output of a rendering.
            Self::ChatTemplate => limit(256, 512),
            // The most pixels, as the decoder holds them and as bytes of three channels.
            Self::Image => limit(2048, 4096),
            // The tensors of the largest batch that objectives accept.
            Self::ObjectiveRows => limit(512, 256),
        }
    }

    /// Feeds an input to the parser, and its result to the code that uses it.
    pub fn run(self, folders: &InputFolders, input: &[u8]) -> Answer {
        match self {
            Self::Jsonl => jsonl(input),
            Self::RowFile => folders.with("rows", "input", input, |folder| row_file(&folder.join("input"))),
            Self::Safetensors => folders
                .with("weights", "model.safetensors", input, |folder| answer(read_weights(WeightFiles::open(folder)))),
            Self::PackedWeights => packed(folders, input),
            Self::WeightIndex => folders.with("index", "model.safetensors.index.json", input, |folder| {
                answer(read_weights(WeightFiles::open(folder)))
            }),
            Self::Config => config(folders, input),
            Self::Tokenizer => tokenizer(folders, input),
            Self::ChatTemplate => chat_template(folders, input),
            Self::Adapter => {
                let (file, bytes) = named(input, &["adapter_config.json", "adapter_model.safetensors"]);
                folders.with("adapter", file, bytes, |folder| answer(Adapter::read(folder, &folders.model)))
            }
            Self::Recipe => folders.with("recipe", "recipe.yaml", input, |folder| {
                let loaded = load_recipe_from(Some(&folder.join("recipe.yaml")), &[], &folders.hub);
                answer(loaded.and_then(|LoadedRecipe { recipe, .. }| {
                    let counts = recipe.step_counts(1000);
                    let _ = (recipe.schedule(&counts), recipe.checkpoints(&counts).count(counts.total_steps));
                    Ok(recipe.resolved_yaml()?)
                }))
            }),
            Self::Metrics => metrics(folders, input),
            Self::Image => image(input),
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
