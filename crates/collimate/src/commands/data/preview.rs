//! `collimate data preview`: what the model sees and which tokens are scored.

use std::path::PathBuf;

use collimate_data::{Prompt, PromptGroup};
use collimate_files::write_output;
use collimate_report::{Picture, PreviewedGroup, PreviewedResponse, preview_page};
use collimate_text::{
    TextChecks, TextError, TextTokenizer, TokenizedGroup, preview, shown_prompt, text_prompt_note, tokenize_checked,
};
use collimate_train::TrainError;

use super::check::show_texts;
use crate::commands::by_recipe::{Given, Reading};
use crate::commands::data_options::{DataOptions, LengthOptions, in_files, take};
use crate::error::CliError;
use crate::io::Io;

/// Most groups to show, which are in memory together.
const MAX_SHOWN: usize = 1000;

/// Show groups as the model sees them, with the tokens that are scored
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate data preview rewards.jsonl --model models/base --num 2")]
pub(crate) struct Args {
    /// Files of groups, folders or patterns
    #[arg(value_name = "FILE", required_unless_present = "recipe")]
    files: Vec<PathBuf>,
    /// Recipe whose data, model, chat template, lengths and rules for rows apply where no option says otherwise
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Model folder with the tokenizer
    #[arg(long, value_name = "DIR", required_unless_present = "recipe")]
    model: Option<PathBuf>,
    /// Number of groups to show
    #[arg(long, value_name = "N", default_value_t = 1)]
    num: usize,
    /// Also write the groups as a page, with small forms of their images
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    read: DataOptions,
    #[command(flatten)]
    lengths: LengthOptions,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        if self.num > MAX_SHOWN {
            return Err(CliError::usage(format!("--num must be at most {MAX_SHOWN}")));
        }
        let Self { files, recipe, model, num, html, read, lengths } = self;
        let Reading { files, read, tokenizer, options } =
            Given { recipe, files, model, read, lengths }.resolve(1, io)?;
        let tokenizer = tokenizer.ok_or_else(|| CliError::usage("the recipe names no model: give it with --model"))?;
        let mut reader = read.open(&files, 1, io)?;
        let groups = take(&mut reader, num)?;
        io.line(format_args!("{}", reader.describe()))?;
        let is_text = |group: &&PromptGroup| matches!(group.prompt, Prompt::Text(_));
        let num_texts = groups.iter().filter(is_text).count();
        if num_texts > 0 && tokenizer.chat_template().is_some() {
            io.line(format_args!("{}", text_prompt_note(num_texts)))?;
        }
        let mut checks = TextChecks::default();
        let mut page = Vec::new();
        for group in &groups {
            let (tokenized, checked) =
                tokenize_checked(group, &tokenizer, &options).map_err(|error| in_files(reader.files(), error))?;
            checks.merge(checked);
            let shown = preview(&tokenized, &tokenizer, io.out_color)?;
            io.line(format_args!("\n{}", shown.trim_end()))?;
            if html.is_some() {
                let location = reader.files().location(group.index, group.line);
                page.push(on_page(&tokenized, location, &tokenizer)?);
            }
        }
        if let Some(path) = &html {
            write_output(path, preview_page(&page).as_bytes()).map_err(TrainError::from)?;
        }
        io.line(format_args!(""))?;
        show_texts(&checks, reader.files(), io)
    }
}

/// Longest side of an image on the page, in pixels.
const LONGEST_SIDE: usize = 256;

fn on_page(group: &TokenizedGroup, location: String, tokenizer: &TextTokenizer) -> Result<PreviewedGroup, TextError> {
    let picture = |placed: &collimate_text::PlacedImage| {
        let png = placed.image.thumbnail(LONGEST_SIDE).ok()?;
        Some((Picture::from_png(&png, &placed.describe())?, placed.describe()))
    };
    let response = |response: &collimate_text::TokenizedResponse| {
        let (text, tokens) = (tokenizer.pieces(&response.ids)?.concat(), response.ids.len());
        Ok::<_, TextError>(PreviewedResponse { reward: response.reward, tokens, text })
    };
    Ok(PreviewedGroup {
        location,
        prompt_tokens: group.prompt_ids.len(),
        images: group.images.iter().filter_map(picture).collect(),
        prompt: shown_prompt(group, tokenizer)?,
        responses: group.responses.iter().map(response).collect::<Result<_, _>>()?,
    })
}
