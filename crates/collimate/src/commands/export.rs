//! `collimate export`: GGUF files for llama.cpp.

use collimate_data::counted;
use std::path::PathBuf;

use collimate_gguf::{GgufOptions, GgufType, export_gguf, is_gguf};
use collimate_train::format_bytes;

use super::overwrite::Overwrite;
use crate::error::CliError;
use crate::inputs::{adapter_folder, model_folder};
use crate::io::Io;

/// Write a model as a GGUF file for llama.cpp and programs built on it
///
/// An adapter is merged first. The file includes the tokenizer and the chat template. Models with features that llama.cpp
/// cannot represent are refused, naming the feature.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  collimate export --model models/base --adapter runs/nca --outtype q8_0 --output nca.gguf"
)]
pub(crate) struct Args {
    /// Hugging Face model folder, or a name on the hub
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// PEFT adapter to merge: a folder, or a name on the hub
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Storage type of matrices: f32, f16, bf16, q8_0 or q4_0
    #[arg(long, value_name = "TYPE", alias = "quantization", default_value = "f16")]
    outtype: String,
    /// File to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    /// The model's name in the file [default: its folder's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// llama.cpp's name for the pre-tokenizer, if it is not recognized: llama-bpe, qwen2, gpt-2, …
    #[arg(long, value_name = "NAME")]
    tokenizer_pre: Option<String>,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        let outtype = GgufType::from_name(&self.outtype).ok_or_else(|| CliError::Usage {
            problem: format!("unknown type \"{}\"", self.outtype),
            help: Some(format!("there are {}", GgufType::ALL.map(GgufType::name).join(", "))),
        })?;
        // What is no GGUF file might be the model's own weights: the export refuses to replace it whatever is asked.
        if is_gguf(&self.output) {
            self.overwrite.check(&self.output, &[])?;
        }
        let model = model_folder(&self.model, io)?;
        let adapter = self.adapter.as_ref().map(|adapter| adapter_folder(adapter, io)).transpose()?;
        let options = GgufOptions { outtype, name: self.name, tokenizer_pre: self.tokenizer_pre };
        let summary = export_gguf(&model, adapter.as_deref(), &self.output, &options)?;
        summary.notes.iter().for_each(|note| io.note(format_args!("{note}")));
        let (architecture, count, size) = (summary.architecture, summary.num_tensors, format_bytes(summary.num_bytes));
        io.note(format_args!("{architecture}, {}, {size}", counted(count, "tensor")));
        io.line(format_args!("{}", self.output.display()))
    }
}
