//! `collimate export`: a model for llama.cpp.

use std::path::PathBuf;

use collimate_gguf::{GgufOptions, GgufType, export_gguf};
use collimate_train::format_bytes;

use crate::error::CliError;
use crate::inputs::{adapter_folder, model_folder};
use crate::io::Io;

/// Write a model as a GGUF file, which llama.cpp and what is built on it load
///
/// An adapter is put into the weights first. Tokenizer and chat template are in the file; what llama.cpp cannot be told of a
/// model is refused by name.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  collimate export --model models/base --adapter runs/nca --outtype q8_0 --output nca.gguf"
)]
pub(crate) struct Args {
    /// Model folder in the Hugging Face layout, or the name of a model on the hub
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// PEFT adapter folder on top of it
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// How matrices are stored: f32, f16, bf16, q8_0 or q4_0
    #[arg(long, value_name = "TYPE", alias = "quantization", default_value = "f16")]
    outtype: String,
    /// File to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Name of the model in the file [default: that of its folder]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// llama.cpp's name of how text is split before byte-level BPE, where it is not found out: llama-bpe, qwen2, gpt-2, …
    #[arg(long, value_name = "NAME")]
    tokenizer_pre: Option<String>,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        let outtype = GgufType::from_name(&self.outtype).ok_or_else(|| CliError::Usage {
            problem: format!("unknown type \"{}\"", self.outtype),
            help: Some(format!("there are {}", GgufType::ALL.map(GgufType::name).join(", "))),
        })?;
        let model = model_folder(&self.model, io)?;
        let adapter = self.adapter.as_ref().map(|adapter| adapter_folder(adapter, io)).transpose()?;
        let options = GgufOptions { outtype, name: self.name, tokenizer_pre: self.tokenizer_pre };
        let summary = export_gguf(&model, adapter.as_deref(), &self.output, &options)?;
        summary.notes.iter().for_each(|note| io.note(format_args!("{note}")));
        let (architecture, count, size) = (summary.architecture, summary.num_tensors, format_bytes(summary.num_bytes));
        io.note(format_args!("{architecture}, {count} tensors, {size}"));
        io.line(format_args!("{}", self.output.display()))
    }
}
