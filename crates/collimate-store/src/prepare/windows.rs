//! Tokenizes selected groups in windows that bound memory, on all cores, while the next window is read.

use collimate_data::{Message, Prompt, PromptGroup, counted};
use collimate_progress::Observer;
use collimate_text::{TextChecks, TextError, TokenizeCounts, TokenizedGroup, text_prompt_note};
use rayon::prelude::*;
use serde_json::Value;

use super::{DataRequest, Encoder};
use crate::error::StoreError;
use crate::groups::GroupStore;
use crate::mix::{Part, SelectedGroups, Selection};
use crate::sources::{file_mark, marked_location, name_mark};
use crate::writer::Writer;

/// Groups of a window.
const GROUPS_AT_ONCE: usize = 2048;
/// Bytes of text of a window, more if one group has more.
const MOST_TEXT_BYTES: u64 = 4 << 20;
/// The least bytes of text of a window, however little memory there is.
const LEAST_TEXT_BYTES: u64 = 128 << 10;
/// The share of memory that a window's text may take: its tokens, and the window that is read meanwhile, take more.
const TEXT_SHARE: u64 = 16;

/// The rows of a run on their way to its stores.
pub(super) struct Filling<'a> {
    pub(super) request: &'a DataRequest<'a>,
    pub(super) encoder: &'a Encoder<'a>,
    pub(super) selection: &'a Selection,
}

/// A store that is being filled with one part of the groups.
pub(super) struct Target {
    part: Part,
    writer: Writer,
    counts: TokenizeCounts,
    /// A line about prompts of text.
    text_prompts: Option<String>,
    /// The first error of the held-out part, which is reported after those of the training part.
    failed: Option<StoreError>,
}

type Window = Vec<(Part, PromptGroup)>;
type Encoded = Result<(TokenizedGroup, TextChecks), TextError>;

impl Filling<'_> {
    pub(super) fn target(&self, part: Part, writer: Writer) -> Result<Target, StoreError> {
        let counts = TokenizeCounts::default();
        let mut target = Target { part, writer, counts, text_prompts: None, failed: None };
        match self.text_prompts(part) {
            Err(error) if part == Part::HeldOut => target.failed = Some(error),
            found => target.text_prompts = found?,
        }
        Ok(target)
    }

    /// A line about prompts that are text although the model has a chat template, if there are any.
    fn text_prompts(&self, part: Part) -> Result<Option<String>, StoreError> {
        let Encoder::Tokenizer { tokenizer, has_system_prompt, .. } = self.encoder else { return Ok(None) };
        match self.selection.text_prompts(part)? {
            Some((_, location)) if *has_system_prompt => Err(StoreError::TextPrompt { location }),
            Some((count, _)) => Ok(tokenizer.chat_template().map(|_| format!("  {}", text_prompt_note(count)))),
            None => Ok(None),
        }
    }

    /// Tokenizes the groups of the parts that have a target, in order.
    pub(super) fn fill(
        &mut self,
        targets: &mut [Option<Target>; 2],
        observer: &mut dyn Observer,
    ) -> Result<(), StoreError> {
        let wanted = targets.each_ref().map(|target| target.as_ref().is_some_and(|target| target.failed.is_none()));
        let parts = [Part::Training, Part::HeldOut].into_iter().filter(|part| wanted[*part as usize]);
        let total: usize = parts.map(|part| self.selection.num_groups(part)).sum();
        observer.stage(&format!("tokenizing {}", self.request.name), Some(total as u64));
        let filled = self.fill_windows(wanted, targets, observer);
        observer.finish();
        filled
    }

    fn fill_windows(
        &self,
        wanted: [bool; 2],
        targets: &mut [Option<Target>; 2],
        observer: &mut dyn Observer,
    ) -> Result<(), StoreError> {
        let share = self.request.memory.map_or(MOST_TEXT_BYTES, |memory| memory / TEXT_SHARE);
        let most_bytes = share.clamp(LEAST_TEXT_BYTES, MOST_TEXT_BYTES) as usize;
        let mut groups = self.selection.groups();
        let mut window = read_window(&mut groups, wanted, most_bytes);
        loop {
            let current = window?;
            if current.is_empty() {
                return Ok(());
            }
            let (mut encoded, mut next) = (Vec::<Encoded>::new(), Ok(Window::new()));
            // Always on this thread: what allocators keep of a window for the thread that read it is of no use to another.
            rayon::in_place_scope(|scope| {
                let encode = current.par_iter().map(|(_, group)| self.encoder.encode(group));
                scope.spawn(|_| encoded = encode.collect());
                next = read_window(&mut groups, wanted, most_bytes);
            });
            for ((part, _), result) in current.iter().zip(encoded) {
                if let Some(target) = &mut targets[*part as usize] {
                    self.take(target, result)?;
                }
            }
            observer.advance(current.len() as u64);
            window = next;
        }
    }

    /// Appends a group, or counts it as left out.
    fn take(&self, target: &mut Target, result: Encoded) -> Result<(), StoreError> {
        if target.failed.is_some() {
            return Ok(());
        }
        match result {
            Ok((group, checks)) => {
                target.counts.keep(&group, checks);
                target.writer.push(&group)?;
            }
            Err(error) if self.encoder.skips(&error) => {
                if let TextError::Unusable { reason, .. } = &error {
                    target.counts.skip(reason);
                }
            }
            Err(error) => {
                let error = self.with_path(error);
                match target.part {
                    Part::Training => return Err(error),
                    Part::HeldOut => target.failed = Some(error),
                }
            }
        }
        Ok(())
    }

    fn with_path(&self, error: TextError) -> StoreError {
        match error {
            TextError::Unusable { index, line, reason } => StoreError::Unusable {
                path: self.selection.files().path(index).to_owned(),
                line,
                reason: reason.to_string(),
            },
            error => error.into(),
        }
    }

    /// Lines about the rows of a part before they were tokenized.
    fn row_notes(&self, part: Part) -> Result<Vec<String>, StoreError> {
        let (request, selection, files) = (self.request, self.selection, self.selection.files());
        if part == Part::HeldOut {
            let share = request.hold_out;
            return Ok(vec![format!("held out of {} to evaluate on: eval_fraction {share}", name_mark())]);
        }
        let mut notes = Vec::new();
        for (file, report) in selection.reports().iter().enumerate() {
            notes.push(report.told_of(&file_mark(file)));
            let lines = report.labels.lines(request.mix.load.label_conflicts);
            notes.extend(lines.into_iter().map(|line| format!("  {line}")));
        }
        if let Some(limit) = request.mix.max_samples.filter(|_| selection.num_over_limit() > 0) {
            notes.push(format!("  {} left out: max_samples {limit}", counted(selection.num_over_limit(), "group")));
        }
        let duplicates = selection.duplicates()?;
        if let Some((repeated, earlier)) = duplicates.first {
            let [repeated, earlier] = [repeated, earlier].map(|(index, line)| marked_location(files, index, line));
            let count = duplicates.count;
            notes.push(format!(
                "  {} of an earlier prompt with its responses, the first {repeated} of {earlier}",
                counted(count, "duplicate")
            ));
        }
        Ok(notes)
    }
}

impl Target {
    /// Closes the store, with what is to be said of it.
    pub(super) fn finish(self, filling: &Filling<'_>) -> Result<GroupStore, StoreError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.writer.len() == 0 {
            return Err(StoreError::NoGroups { name: filling.request.name.clone() });
        }
        let mut notes = filling.row_notes(self.part)?;
        if let Encoder::Tokenizer { .. } = filling.encoder {
            let rows_skipped = if self.part == Part::Training { filling.selection.num_skipped() } else { 0 };
            let skipped = rows_skipped + self.counts.num_skipped();
            // The rest is in the lines before the first step.
            if skipped > 0 {
                notes.push(format!("  {} left out as unusable", counted(skipped, "group")));
            }
            let files = filling.selection.files();
            notes.extend(self.text_prompts);
            notes.push(format!("  {}", self.counts.texts.summary()));
            notes.extend(self.counts.texts.warnings(&|index, line| marked_location(files, index, line)));
        }
        self.writer.finish(notes, filling.selection.files(), &filling.request.sources())
    }
}

/// The next groups of the wanted parts; none at the end.
fn read_window(groups: &mut SelectedGroups<'_>, wanted: [bool; 2], most_bytes: usize) -> Result<Window, StoreError> {
    let (mut window, mut bytes) = (Window::new(), 0);
    while window.len() < GROUPS_AT_ONCE && bytes < most_bytes {
        let Some(group) = groups.next() else { break };
        let (part, group) = group?;
        if wanted[part as usize] {
            bytes += text_bytes(&group);
            window.push((part, group));
        }
    }
    Ok(window)
}

/// Bytes of a group's texts, about.
fn text_bytes(group: &PromptGroup) -> usize {
    let message = |message: &Message| message.content.len() + message.fields.values().map(value_bytes).sum::<usize>();
    let prompt = match &group.prompt {
        Prompt::Text(text) => text.len(),
        Prompt::Messages(messages) => messages.iter().map(message).sum(),
    };
    let responses = group.responses.iter().map(|response| {
        let ids = response.token_ids.as_ref().map_or(0, |ids| 4 * ids.len());
        let before: usize = response.before.iter().map(message).sum();
        before + response.content.len() + ids + response.fields.values().map(value_bytes).sum::<usize>()
    });
    let tools = group.chat.tools.iter().flatten().chain(group.chat.kwargs.values()).map(value_bytes);
    prompt + responses.sum::<usize>() + tools.sum::<usize>()
}

fn value_bytes(value: &Value) -> usize {
    let inner: usize = match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(value_bytes).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + value_bytes(value)).sum(),
        _ => 0,
    };
    size_of::<Value>() + inner
}
