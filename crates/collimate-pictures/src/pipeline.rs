//! `collimate train --quickstart visual`: draw, align, draw again.

use std::path::{Path, PathBuf};
use std::time::Instant;

use collimate_files::{FolderLock, write_atomically};
use collimate_model::{GenerateOptions, Guidance};
use collimate_recipe::Recipe;
use collimate_report::{PictureFile, PictureList};
use collimate_text::EncodedPrompt;
use collimate_train::{
    Observer, RunControl, Session, SessionOptions, StopFlag, TrainError, TrainSummary, check_folder, load_recipe,
    open_session, train, train_in, write_documents,
};
use collimate_vq::Image;
use serde_json::json;

use crate::assets::{Rows, write_base};
use crate::classifier::Classifier;
use crate::codebook::{PatchCodebook, TOKENS};
use crate::shapes::{CLASSES, NAMES, Picture};

/// Pictures that are drawn of each class to measure with.
const PER_CLASS: usize = 40;
/// Pictures of each class in the grid.
const SHOWN: usize = 8;
/// Scale of the guidance that is compared with.
const GUIDANCE: f64 = 2.0;
/// Pixels that a picture may be off the nearest shape and still show it cleanly.
const CLEAN: u32 = 40;
/// The generator in the run's folder, and the data beside it.
const BASE: &str = "base";
const DATA: &str = "pictures.jsonl";
/// The grid of pictures.
pub const GRID: &str = "pictures.png";
/// Pixels of the grid for a pixel of a picture.
const ZOOM: usize = 2;
/// The token of a condition is its number after the entries of the codebook.
const FIRST_CONDITION: u32 = crate::codebook::ENTRIES as u32;

/// What a generator's pictures are worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Share of the pictures that show their class: the nearest shape is of it.
    pub accuracy: f64,
    /// Share of the pictures that show it cleanly: few pixels differ from that shape.
    pub clean: f64,
}

/// Results of the quickstart.
#[derive(Debug, Clone, PartialEq)]
pub struct PicturesSummary {
    /// Folder with everything it wrote.
    pub output_dir: PathBuf,
    /// The generator before, without guidance.
    pub before: Quality,
    /// The generator before, with guidance.
    pub guided: Quality,
    /// The aligned generator, without guidance.
    pub after: Quality,
    /// Wall-clock time.
    pub seconds: f64,
}

/// The quickstart's recipe, overridden by the user's settings.
///
/// # Errors
/// An unknown setting, or an invalid value.
pub fn recipe(settings: &[(String, String)]) -> Result<Recipe, TrainError> {
    let defaults = [
        ("objective", "cca"),
        ("learning_rate", "2e-4"),
        ("per_device_train_batch_size", "32"),
        ("num_train_epochs", "1"),
        ("lr_scheduler_type", "cosine"),
        ("warmup_ratio", "0.05"),
        ("adam_beta2", "0.95"),
        ("sample_prompts", "0"),
    ];
    let own = [("objective.beta", "0.1"), ("objective.lambda", "3")];
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let given = load_recipe(None, &[owned(&defaults), settings.to_vec()].concat())?;
    let is_open =
        |key: &str| key.strip_prefix("objective.").is_some_and(|name| !given.objective.params.contains_key(name));
    let own: Vec<(&str, &str)> =
        own.into_iter().filter(|(key, _)| given.objective.name == "cca" && is_open(key)).collect();
    load_recipe(None, &[owned(&defaults), settings.to_vec(), owned(&own)].concat())
}

/// `runs/visual-NAME`, or the first of `-2`, `-3`, … that holds no run yet.
pub fn free_folder(objective: &str) -> PathBuf {
    let first = PathBuf::from(format!("runs/visual-{objective}"));
    let further = (2..).map(|n| PathBuf::from(format!("runs/visual-{objective}-{n}")));
    std::iter::once(first.clone()).chain(further).find(|path| !path.exists()).unwrap_or(first)
}

/// Draws with the generator, aligns it on `num_pictures` random shapes, and draws again.
///
/// # Errors
/// The folder holds a run already or cannot be written, training fails, or `stop` was requested.
pub fn run(
    mut recipe: Recipe,
    num_pictures: usize,
    observer: &mut dyn Observer,
    stop: &StopFlag,
) -> Result<PicturesSummary, TrainError> {
    let begun = Instant::now();
    let out = recipe.output_dir.clone();
    let mut lock = FolderLock::acquire(&out)?;
    check_folder(&recipe, false)?;
    lock.keep_folder();
    let (base, data) = (out.join(BASE), out.join(DATA));
    write_base(&base)?;
    let codebook = PatchCodebook::read(&base)?;
    observer.note("quickstart: a generator of 0.17 million parameters learns to draw what it is asked for");
    let studio = Studio { codebook: &codebook, classifier: Classifier::new(), seed: recipe.seed };
    let mut session = open(&base, &recipe)?;
    let before = studio.draw(session.as_mut(), None, "before, without guidance", observer)?;
    let guided = studio.draw(session.as_mut(), Some(GUIDANCE), "before, with guidance", observer)?;
    drop(session);
    Rows { seed: recipe.seed ^ 0xda7a, count: num_pictures, without_class: 0.0 }.write(&codebook, &data)?;
    recipe.model_name_or_path = Some(base);
    recipe.data = Some(data.into());
    let trained = train_in(&mut lock, &recipe, observer, &RunControl { resume: false, stop: stop.clone() })?;
    let mut session = open(&out, &recipe)?;
    let after = studio.draw(session.as_mut(), None, "after, without guidance", observer)?;
    finish(&recipe, &trained, [&before, &guided, &after])?;
    let seconds = begun.elapsed().as_secs_f64();
    let [before, guided, after] = [before, guided, after].map(|drawn| drawn.quality);
    Ok(PicturesSummary { output_dir: out, before, guided, after, seconds })
}

/// What the committed generator's pictures are worth, drawn with this guidance as a run of the recipe would draw them. Its files are
/// written into the run's folder.
///
/// # Errors
/// The folder cannot be written, or the model cannot be run.
pub fn measure(recipe: &Recipe, guidance: Option<f64>, observer: &mut dyn Observer) -> Result<Quality, TrainError> {
    let base = recipe.output_dir.join(BASE);
    write_base(&base)?;
    quality_of(&base, &base, recipe, guidance, observer)
}

/// Aligns the committed generator on `num_pictures` random shapes, as [`run`] does, and says what its pictures are worth, drawn
/// without guidance.
///
/// # Errors
/// As [`run`].
pub fn align(recipe: &Recipe, num_pictures: usize, observer: &mut dyn Observer) -> Result<Quality, TrainError> {
    let out = recipe.output_dir.clone();
    let (base, data) = (out.join(BASE), out.join(DATA));
    write_base(&base)?;
    let codebook = PatchCodebook::read(&base)?;
    Rows { seed: recipe.seed ^ 0xda7a, count: num_pictures, without_class: 0.0 }.write(&codebook, &data)?;
    let recipe = Recipe { model_name_or_path: Some(base.clone()), data: Some(data.into()), ..recipe.clone() };
    train(&recipe, observer, &RunControl::default())?;
    quality_of(&out, &base, &recipe, None, observer)
}

fn quality_of(
    model: &Path,
    base: &Path,
    recipe: &Recipe,
    guidance: Option<f64>,
    observer: &mut dyn Observer,
) -> Result<Quality, TrainError> {
    let codebook = PatchCodebook::read(base)?;
    let studio = Studio { codebook: &codebook, classifier: Classifier::new(), seed: recipe.seed };
    let mut session = open(model, recipe)?;
    Ok(studio.draw(session.as_mut(), guidance, "to measure", observer)?.quality)
}

/// Writes results, the grid of pictures, report and card.
fn finish(recipe: &Recipe, trained: &TrainSummary, drawn: [&Drawn; 3]) -> Result<(), TrainError> {
    let out = &recipe.output_dir;
    let [before, guided, after] = drawn.map(|drawn| drawn.quality);
    let results = json!({
        "accuracy": { "before": before.accuracy, "after": after.accuracy },
        "accuracy_with_guidance": { "before": guided.accuracy },
        "clean_rate": { "before": before.clean, "after": after.clean },
        "clean_rate_with_guidance": { "before": guided.clean },
        "guidance": GUIDANCE, "pictures": CLASSES * PER_CLASS, "most_wrong_pixels": CLEAN,
    });
    write_atomically(&out.join("results.json"), format!("{results:#}\n").as_bytes())?;
    let image = |picture: &Picture| Image::gray(picture);
    let block = |drawn: &Drawn| drawn.shown.iter().map(|row| row.iter().map(image).collect()).collect();
    write_atomically(&out.join(GRID), &Image::grid(&drawn.map(block)).zoomed(ZOOM).png())?;
    let caption = format!(
        "A row for each of {}: {SHOWN} pictures before training, before it with guidance of scale {GUIDANCE}, and after it \
         without guidance",
        NAMES.join(", ")
    );
    let alt = "Grid of pictures: before, before with guidance, after".to_owned();
    let pictures = vec![PictureFile { file: GRID.to_owned(), alt, caption }];
    PictureList { title: "Pictures before and after".to_owned(), pictures }.write(out)?;
    write_documents(recipe, trained)
}

/// Pictures of every class, and what they are worth.
struct Drawn {
    quality: Quality,
    /// The first of each class.
    shown: Vec<Vec<Picture>>,
}

/// What draws and judges.
struct Studio<'a> {
    codebook: &'a PatchCodebook,
    classifier: Classifier,
    seed: u64,
}

impl Studio<'_> {
    fn draw(
        &self,
        session: &mut dyn Session,
        guidance: Option<f64>,
        what: &str,
        observer: &mut dyn Observer,
    ) -> Result<Drawn, TrainError> {
        let options = GenerateOptions {
            max_new_tokens: TOKENS * TOKENS,
            num_samples: PER_CLASS,
            temperature: 1.0,
            seed: self.seed,
            guidance: guidance.map(|scale| Guidance { scale, null_prompt: FIRST_CONDITION + CLASSES as u32 }),
            ..GenerateOptions::default()
        };
        let prompts = (0..CLASSES as u32).map(|class| EncodedPrompt::from(vec![FIRST_CONDITION + class]));
        let prompts: Vec<EncodedPrompt> = prompts.collect();
        observer.stage(&format!("drawing {what}"), Some(CLASSES as u64));
        let drawn = session.generate(&prompts, &options, &mut |_| {})?;
        observer.finish();
        let decode = |samples: &Vec<Vec<u32>>| samples.iter().map(|tokens| self.codebook.decode(tokens)).collect();
        let pictures: Vec<Vec<Picture>> = drawn.iter().map(decode).collect();
        let (mut right, mut clean) = (0, 0);
        for (class, picture) in
            pictures.iter().enumerate().flat_map(|(class, all)| all.iter().map(move |one| (class, one)))
        {
            let seen = self.classifier.classify(picture);
            right += usize::from(seen.class == class);
            clean += usize::from(seen.class == class && seen.distance <= CLEAN);
        }
        let share = |count: usize| count as f64 / (CLASSES * PER_CLASS) as f64;
        let quality = Quality { accuracy: share(right), clean: share(clean) };
        observer.note(&format!(
            "pictures {what}: {:.1} % show their class, {:.1} % cleanly ({} pictures)",
            100.0 * quality.accuracy,
            100.0 * quality.clean,
            CLASSES * PER_CLASS
        ));
        let shown = pictures.into_iter().map(|all| all.into_iter().take(SHOWN).collect()).collect();
        Ok(Drawn { quality, shown })
    }
}

/// Opens a generator, or an adapter's folder on its base.
fn open(model: &Path, recipe: &Recipe) -> Result<Box<dyn Session>, TrainError> {
    let is_adapter = model.join("adapter_config.json").is_file();
    let base = if is_adapter { model.join(BASE) } else { model.to_owned() };
    let options = SessionOptions::of_recipe(recipe, base, is_adapter.then(|| model.to_owned()));
    Ok(open_session(&options)?)
}
