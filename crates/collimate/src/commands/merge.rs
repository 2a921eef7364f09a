//! `collimate merge`: merges an adapter into its model.

use std::path::{Path, PathBuf};

use collimate_files::ShardSize;
use collimate_hf::name_ends;
use collimate_peft::{MergeOptions, StagedMerge, stage_merge};
use collimate_text::TextTokenizer;
use collimate_weights::StorageDtype;

use crate::error::CliError;
use crate::inputs::{adapter_folder, model_folder};
use crate::io::Io;

/// Merge an adapter into its model and write the result
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate merge --model models/base --adapter runs/nca --output models/aligned")]
pub(crate) struct Args {
    /// Model folder that the adapter was trained on
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// PEFT adapter folder
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Number type to write: float32, bfloat16 or float16 [default: the model's own, or bfloat16 if its weights are packed]
    #[arg(long, value_name = "NAME")]
    dtype: Option<String>,
    /// Largest file of weights; larger models are split into several files with an index
    #[arg(long, value_name = "SIZE", default_value_t)]
    max_shard_size: ShardSize,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        let unknown = |name: &String| CliError::Usage {
            problem: format!("unknown precision \"{name}\""),
            help: Some("there are float32, bfloat16 and float16".to_owned()),
        };
        let parse = |name: &String| StorageDtype::from_name(name).ok_or_else(|| unknown(name));
        let dtype = self.dtype.as_ref().map(parse).transpose()?;
        let options = MergeOptions { dtype, max_shard_size: self.max_shard_size };
        let (model, adapter) = (model_folder(&self.model, io)?, adapter_folder(&self.adapter, io)?);
        let merged = stage_merge(&model, &adapter, &self.output, options)?;
        commit(merged, &model, io)?;
        io.line(format_args!("{}", self.output.display()))
    }
}

/// Names the ends of turns in a merged model, and puts it into its place.
pub(super) fn commit(merged: StagedMerge, model: &Path, io: &mut Io<'_>) -> Result<(), CliError> {
    // An adapter of another program may not say where the turns end that it was trained on. A model without a readable
    // tokenizer keeps what its files name.
    if let Ok(tokenizer) = TextTokenizer::from_model_dir(merged.folder()) {
        name_ends(merged.folder(), model, tokenizer.turn_ends().ids())?;
    }
    let summary = merged.commit()?;
    summary.notes.iter().for_each(|note| io.note(format_args!("warning: {note}")));
    Ok(())
}
