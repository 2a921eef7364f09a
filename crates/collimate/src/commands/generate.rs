//! `collimate generate`: continues a few prompts.

use std::path::PathBuf;

use collimate_data::{ChatInputs, Message, Prompt};
use collimate_rounds::encode_prompt;
use collimate_text::EncodedPrompt;
use collimate_train::TrainError;
use serde_json::json;

use super::model_options::{ModelOptions, SamplingOptions, open_model};
use crate::error::CliError;
use crate::io::Io;

/// Continue prompts with a model
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  collimate generate --model models/base --adapter runs/nca --prompt \"What is 2 + 3?\""
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelOptions,
    /// A prompt; may be repeated
    #[arg(long, value_name = "TEXT", required = true)]
    prompt: Vec<String>,
    /// Format each prompt as a user message with the model's chat template
    #[arg(long)]
    chat: bool,
    /// An image before each prompt's text; may be repeated; implies --chat
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// Sampling temperature; 0 decodes greedily
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,
    #[command(flatten)]
    sampling: SamplingOptions,
    /// Print one JSON object per prompt, with token ids
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(mut self, io: &mut Io<'_>) -> Result<(), CliError> {
        self.model.locate(io)?;
        let tokenizer = self.model.tokenizer(io)?;
        let options = self.sampling.resolve(self.temperature, 1, &tokenizer)?;
        let prompts =
            self.prompt.iter().map(|text| encode_prompt(&self.as_prompt(text), &ChatInputs::default(), &tokenizer));
        let prompts = prompts.collect::<Result<Vec<_>, _>>()?;
        if let Some(empty) = prompts.iter().position(EncodedPrompt::is_empty) {
            return Err(CliError::usage(format!("prompt {} is empty", empty + 1)));
        }
        let outputs = open_model(self.model.check()?, io)?.generate(&prompts, &options, &mut |_| {});
        let outputs =
            outputs.map_err(|error| TrainError::from(error).at_prompt(|prompt| format!("prompt {}", prompt + 1)))?;
        for ((text, prompt), samples) in self.prompt.iter().zip(&prompts).zip(outputs) {
            let ids = samples.into_iter().next().unwrap_or_default();
            let response = tokenizer.answer(&ids)?;
            if self.json {
                let row = json!({"prompt": text, "response": response, "prompt_ids": prompt.ids, "response_ids": ids});
                io.line(format_args!("{row}"))?;
            } else {
                io.line(format_args!("{response}"))?;
            }
        }
        Ok(())
    }
}

impl Args {
    fn as_prompt(&self, text: &str) -> Prompt {
        if !self.chat && self.image.is_empty() {
            return Prompt::Text(text.to_owned());
        }
        let mut message = Message::new("user", text);
        message.put_before(&self.image.iter().map(|path| path.to_string_lossy().into()).collect::<Vec<_>>());
        Prompt::Messages(vec![message])
    }
}
