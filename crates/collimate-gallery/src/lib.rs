//! Pictures that a model of token maps draws before and after its training, for the report: a grid each, a row for each of some
//! conditions, with the same draws, so that what differs is the model.
//!
//! It draws if the model's folder has the decoder of its tokens ([`PictureDecoder`]). It must not know rows of data, objectives
//! and steps.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use collimate_files::{WriteError, write_atomically};
use collimate_model::{GenerateOptions, ModelError};
use collimate_progress::Observer;
use collimate_report::{PictureFile, PictureList};
use collimate_session::{Session, SessionError};
use collimate_text::{EncodedPrompt, PictureTokens};
use collimate_vq::{Image, PictureDecoder, VqError};
use thiserror::Error;

/// Most pictures of a condition.
const MOST_COLUMNS: usize = 8;
/// Pixels of a picture's side below which each is shown as a square of several.
const SMALL: usize = 64;

/// Names of the files in a run's folder.
pub const PICTURE_FILES: [&str; 2] = ["pictures-before.png", "pictures-after.png"];

/// When pictures are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the first step.
    Before,
    /// After the last one.
    After,
}

impl When {
    /// The file.
    pub fn file(self) -> &'static str {
        PICTURE_FILES[usize::from(self == Self::After)]
    }

    fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// Why no pictures are shown.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GalleryError {
    /// The decoder cannot be used.
    #[error(transparent)]
    Decoder(#[from] VqError),
    /// The model cannot be run.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Draws pictures of some conditions.
#[derive(Debug)]
pub struct PictureSamples {
    decoder: PictureDecoder,
    /// Tokens of the conditions, and what they are called.
    conditions: Vec<(u32, String)>,
    seed: u64,
    /// The run's folder.
    folder: PathBuf,
    /// Time that drawing has taken.
    spent: Duration,
}

impl PictureSamples {
    /// For the conditions of these prompts, each once; `None` if the model's folder has no decoder or there are none.
    ///
    /// # Errors
    /// The decoder's file is damaged.
    pub fn new(
        model: &Path,
        run: &Path,
        tokens: &PictureTokens,
        prompts: impl IntoIterator<Item = u32>,
        seed: u64,
    ) -> Result<Option<Self>, GalleryError> {
        let mut conditions: Vec<(u32, String)> = Vec::new();
        for prompt in prompts {
            let number = (prompt as usize).checked_sub(tokens.vocab_size);
            let name = match number {
                Some(_) if prompt == tokens.null_condition() => "no class".to_owned(),
                Some(number) => format!("class {number}"),
                None => continue,
            };
            if !conditions.iter().any(|(known, _)| *known == prompt) {
                conditions.push((prompt, name));
            }
        }
        if conditions.is_empty() || !PictureDecoder::is_in(model) {
            return Ok(None);
        }
        let decoder = PictureDecoder::open(model)?;
        Ok(Some(Self { decoder, conditions, seed, folder: run.to_owned(), spent: Duration::ZERO }))
    }

    /// Seconds that drawing has taken.
    pub fn seconds(&self) -> f64 {
        self.spent.as_secs_f64()
    }

    /// Whether the pictures are there, as a run that is resumed finds them.
    pub fn is_drawn(&self, when: When) -> bool {
        self.folder.join(when.file()).is_file()
    }

    /// Draws a picture of each condition, and further ones for as long as `limit` allows, eight at most; writes their grid and
    /// the list of what the report shows. Draws depend on the seed alone; how many there are depends on the time. Logits that
    /// are not finite leave a note: whether such a model may be trained on is for the steps to say.
    ///
    /// # Errors
    /// The model cannot be run, or the files cannot be written.
    pub fn draw(
        &mut self,
        when: When,
        limit: Duration,
        session: &mut dyn Session,
        observer: &mut dyn Observer,
    ) -> Result<(), GalleryError> {
        let begun = Instant::now();
        observer.stage("drawing sample pictures", None);
        let drawn = self.rows(limit, session);
        self.spent += begun.elapsed();
        observer.finish();
        match drawn {
            Ok(rows) => self.write(when, rows),
            Err(GalleryError::Session(SessionError::Model(error @ ModelError::LogitsNotFinite { .. }))) => {
                observer.note(&format!("warning: sample pictures: {error}; there are none"));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Pictures of each condition.
    fn rows(&self, limit: Duration, session: &mut dyn Session) -> Result<Vec<Vec<Image>>, GalleryError> {
        let begun = Instant::now();
        let prompts: Vec<EncodedPrompt> =
            self.conditions.iter().map(|(token, _)| EncodedPrompt::from(vec![*token])).collect();
        let mut rows: Vec<Vec<Image>> = vec![Vec::new(); prompts.len()];
        for column in 0..MOST_COLUMNS {
            let options = GenerateOptions {
                max_new_tokens: self.decoder.num_tokens(),
                temperature: 1.0,
                seed: self.seed,
                // Draws of another column are others.
                first_prompt: column * prompts.len(),
                ..GenerateOptions::default()
            };
            let drawn = session.generate(&prompts, &options, &mut |_| {})?;
            for (row, samples) in rows.iter_mut().zip(drawn) {
                for tokens in samples {
                    row.push(self.decoder.picture(&tokens)?);
                }
            }
            let spent = begun.elapsed();
            if spent + spent / (column as u32 + 1) > limit {
                break;
            }
        }
        Ok(rows)
    }

    fn write(&self, when: When, rows: Vec<Vec<Image>>) -> Result<(), GalleryError> {
        let columns = rows.first().map_or(0, Vec::len);
        let zoom = if self.decoder.side() < SMALL { 2 } else { 1 };
        write_atomically(&self.folder.join(when.file()), &Image::grid(&[rows]).zoomed(zoom).png())?;
        let shown = [When::Before, When::After].into_iter().filter(|other| *other == when || self.is_drawn(*other));
        let pictures = shown.map(|shown| self.entry(shown, columns)).collect();
        Ok(PictureList { title: "Pictures before and after".to_owned(), pictures }.write(&self.folder)?)
    }

    fn entry(&self, when: When, columns: usize) -> PictureFile {
        let names: Vec<&str> = self.conditions.iter().map(|(_, name)| name.as_str()).collect();
        let names = names.join(", ");
        let caption = format!("{}: a row each of {names}", when.name());
        let alt = format!("Grid of pictures {} training, up to {columns} in a row: {names}", when.name());
        PictureFile { file: when.file().to_owned(), alt, caption }
    }
}
