//! `collimate train`: trains.

use std::path::{Path, PathBuf};

use collimate_counting::pipeline::{self as counting, Counting};
use collimate_files::check_plain;
use collimate_objective::{ObjectiveError, registry};
use collimate_quickstart::phases::Quickstart;
use collimate_quickstart::pipeline::{self, QuickstartSize};
use collimate_quickstart::task::{Question, Task as QuickstartTask};
use collimate_recipe::{Origin, Recipe, RecipeError, VERB};
use collimate_train::{LoadedRecipe, RunControl, TrainError, load_recipe_with, train_among};

use super::quickstart_visual::{self, Task};
use super::ranks::{Ranks, only_alone};
use super::trl_options::{TrlOptions, key_value};
use super::watch::Serve;
use crate::error::CliError;
use crate::io::Io;

/// Align a model with an objective
///
/// Options override the recipe, and --set overrides other options. Without a recipe, model and data it runs the built-in
/// quickstart.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate train recipe.yaml --set learning_rate=1e-5 --output runs/nca")]
pub(crate) struct Args {
    /// Recipe file (see `collimate recipe-keys`)
    recipe: Option<PathBuf>,
    /// Hugging Face model folder, or a name on the hub
    #[arg(long, value_name = "DIR")]
    model: Option<String>,
    /// File or folder of groups to train on; a recipe may name several
    #[arg(long, value_name = "FILE")]
    data: Option<String>,
    /// File or folder of groups to evaluate on
    #[arg(long, value_name = "FILE")]
    eval_data: Option<String>,
    /// Objective with its default parameters (see `collimate objectives`)
    #[arg(long, value_name = "NAME")]
    objective: Option<String>,
    /// Set any key of the recipe; `objective.NAME=VALUE` sets an objective's parameter
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    #[command(flatten)]
    trl: TrlOptions,
    /// Folder of the run
    #[arg(long, value_name = "DIR")]
    output: Option<String>,
    /// Resume from the last checkpoint in the run's folder
    #[arg(long)]
    resume: bool,
    /// Drop unusable groups and count them instead of refusing the file
    #[arg(long)]
    skip_unusable: bool,
    /// Compute backend (see `collimate backends`)
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Index of the backend's device
    #[arg(long, value_name = "N")]
    device: Option<usize>,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    serve: Serve,
    /// The task of the quickstart
    #[arg(long, value_enum, value_name = "TASK", default_value_t = Task::Problems)]
    quickstart: Task,
    /// Number of pictures in the quickstart of pictures
    #[arg(long, value_name = "N", default_value_t = 1600)]
    quickstart_pictures: usize,
    /// Number of problems in the quickstart; of questions in that of images
    #[arg(long, value_name = "N", default_value_t = QuickstartSize::default().num_problems)]
    quickstart_problems: usize,
}

impl Args {
    pub(crate) fn run(mut self, io: &mut Io<'_>) -> Result<(), CliError> {
        let ranks = Ranks::join()?;
        if !ranks.is_first() {
            self.quiet = true;
            io.log = None;
        }
        let result = self.run_as(&ranks, io);
        ranks.end(result, io)
    }

    fn run_as(mut self, ranks: &Ranks, io: &mut Io<'_>) -> Result<(), CliError> {
        // The first one downloads what is on the hub, and the others then find it.
        let first = ranks.agree(ranks.is_first().then(|| self.recipe(io)).transpose())?;
        let recipe = ranks.agree(first.map_or_else(|| self.recipe(io), Ok))?;
        let Some(LoadedRecipe { recipe, notes }) = recipe else {
            return self.quickstart(io);
        };
        if ranks.is_first() {
            io.log_to(recipe.log_file.as_deref())?;
        }
        if !self.quiet {
            notes.iter().for_each(|note| io.note(format_args!("{note}")));
        }
        let _page = ranks.agree(if ranks.is_first() { self.serve.begin(&recipe.output_dir, io) } else { Ok(None) })?;
        let summary = {
            let signals = if ranks.is_first() { io.signals.clone() } else { io.signals.silent() };
            let mut observer = io.observer(self.quiet);
            let result = signals.after_the_step(|stop| {
                let control = RunControl { resume: self.resume, stop: stop.clone() };
                train_among(&recipe, &mut *observer, &control, ranks.world())
            });
            result.map_err(|error| self.at_key(error))?
        };
        if !ranks.is_first() {
            return Ok(());
        }
        summary.lines().iter().for_each(|line| io.note(format_args!("{line}")));
        io.line(format_args!("{}", summary.output_dir.display()))
    }

    /// The recipe of the run, checked as far as it needs no file but its own; `None` for the quickstart.
    fn recipe(&mut self, io: &mut Io<'_>) -> Result<Option<LoadedRecipe>, CliError> {
        self.recipe = self.trl.recipe(self.recipe.take())?;
        let recipe_file = self.recipe_file(io)?;
        if recipe_file.is_none() && self.is_quickstart() {
            return if self.resume {
                Err(self.nothing_to_resume())
            } else {
                only_alone("the quickstart").map(|()| None)
            };
        }
        let defaults = self.trl.defaults(recipe_file.as_deref(), self.objective.is_some());
        let overrides = self.overrides();
        let loaded = load_recipe_with(recipe_file.as_deref(), &overrides, &defaults, &io.hub)?;
        // Before any model file is read: a mistyped name should fail at once.
        let built = registry::build(&loaded.recipe.objective.name, &loaded.recipe.objective.params);
        built.map_err(|error| self.in_recipe(error))?;
        loaded.recipe.model()?;
        loaded.recipe.data_sources()?;
        Ok(Some(loaded))
    }

    /// Adds the position in the recipe to an objective's error, if the recipe names the objective.
    fn in_recipe(&self, error: ObjectiveError) -> CliError {
        let key = match &error {
            ObjectiveError::UnknownObjective { .. } => "name",
            ObjectiveError::UnknownParameter { key, .. } | ObjectiveError::InvalidParameter { key, .. } => key,
            _ => return error.into(),
        };
        let overridden =
            self.overrides().iter().any(|(name, _)| name == "objective" || name == VERB || name.ends_with(key));
        let find = |path: &PathBuf| {
            let nested = Origin::find(path, "objective", Some(key)).or_else(|| Origin::find(path, key, None));
            let named = || Origin::find(path, "objective", None).or_else(|| Origin::find(path, "loss_type", None));
            nested.or_else(named)
        };
        match self.recipe.as_ref().filter(|_| !overridden).and_then(find) {
            Some(origin) => {
                RecipeError::Value { origin, key: "objective".to_owned(), problem: error.to_string() }.into()
            }
            None => error.into(),
        }
    }

    /// Adds the position in the recipe to an error about a value, unless the command line set the value.
    fn at_key(&self, error: TrainError) -> CliError {
        let TrainError::RecipeValue { key, message } = error else { return error.into() };
        let overridden = self.overrides().iter().any(|(name, _)| name == key);
        let origin = self.recipe.as_ref().filter(|_| !overridden).and_then(|path| Origin::find(path, key, None));
        let origin = origin.unwrap_or(Origin::Unnamed);
        RecipeError::Value { origin, key: key.to_owned(), problem: message }.into()
    }

    /// The recipe given, or when resuming the one in the run's folder, or else in its newest checkpoint.
    fn recipe_file(&self, io: &mut Io<'_>) -> Result<Option<PathBuf>, CliError> {
        let (Some(folder), true, None) = (self.output(), self.resume, &self.recipe) else {
            return Ok(self.recipe.clone());
        };
        let path = Path::new(folder).join("recipe.yaml");
        // A recipe that was named may be a link; one of a run's folder would lead out of it.
        check_plain(&path).map_err(|problem| CliError::usage(format!("{}: {problem}", path.display())))?;
        if path.is_file() {
            return Ok(Some(path));
        }
        let found = collimate_checkpoint::recipe_of(Path::new(folder)).map_err(TrainError::from)?;
        if let Some(found) = &found {
            io.note(format_args!("{} is missing; its copy {} is used", path.display(), found.display()));
        }
        Ok(found)
    }

    /// The folder that the options name.
    fn output(&self) -> Option<&str> {
        let set = self.set.iter().rev().find(|(key, _)| key == "output_dir").map(|(_, folder)| folder.as_str());
        self.trl.value("output_dir").or(set).or(self.output.as_deref())
    }

    /// The error for `--resume` without a recipe, model and data, if the folder has no recipe either.
    fn nothing_to_resume(&self) -> CliError {
        let Some(folder) = self.output() else {
            let problem = "--resume needs the run's folder: give it with --output".to_owned();
            return CliError::Usage { problem, help: None };
        };
        let (path, there) = (Path::new(folder), |name: &str| Path::new(folder).join(name).exists());
        let (what, help) = if there("loop.json") {
            ("it is the folder of a loop", "`collimate loop` with the loop's options and --resume continues it")
        } else if there("metrics.jsonl") {
            (
                "its recipe.yaml is missing, and it has no checkpoint with another",
                "give its recipe, or model and data, with --resume: without a checkpoint it begins again at step 1",
            )
        } else if path.is_dir() {
            ("it has no recipe.yaml", "the run did not begin: give the command that started it, without --resume")
        } else {
            ("it does not exist", "give the run's folder with --output, or its recipe, or model and data")
        };
        let problem = format!("{folder}: there is no run in that folder to resume: {what}");
        CliError::Usage { problem, help: Some(help.to_owned()) }
    }

    fn is_quickstart(&self) -> bool {
        let set = |key: &str| self.set.iter().any(|(k, _)| k == key);
        let is_given = self.trl.sets(&["model_name_or_path", "data", "dataset_name", "dataset_mixer", "datasets"]);
        self.model.is_none() && self.data.is_none() && !set("model_name_or_path") && !set("data") && !is_given
    }

    fn quickstart(&self, io: &mut Io<'_>) -> Result<(), CliError> {
        if self.quickstart == Task::Visual {
            let (settings, has_output) = (self.overrides(), self.output().is_some());
            let num_pictures = self.quickstart_pictures;
            let (quiet, serve) = (self.quiet, self.serve);
            return quickstart_visual::Quickstart { settings, num_pictures, has_output, quiet, serve }.run(io);
        }
        let count = self.quickstart_problems;
        if self.quickstart == Task::Images {
            let recipe = counting::recipe(&self.overrides())?;
            let task = Counting { num_questions: count, ..Counting::default() };
            return self.answering(&task, recipe, counting::free_folder, io);
        }
        let recipe = pipeline::recipe(&self.overrides())?;
        let size = QuickstartSize { num_problems: count, ..QuickstartSize::default() };
        self.answering(&size, recipe, pipeline::free_folder, io)
    }

    /// The quickstart of a task whose answers are verified.
    fn answering<T: QuickstartTask>(
        &self,
        task: &T,
        mut recipe: Recipe,
        free_folder: fn(&str) -> PathBuf,
        io: &mut Io<'_>,
    ) -> Result<(), CliError> {
        if self.output().is_none() {
            recipe.output_dir = free_folder(&recipe.objective.name);
        }
        registry::build(&recipe.objective.name, &recipe.objective.params)?;
        io.log_to(recipe.log_file.as_deref())?;
        let _page = self.serve.begin(&recipe.output_dir, io)?;
        let summary = {
            let signals = io.signals.clone();
            let mut observer = io.observer(self.quiet);
            let mut quickstart = Quickstart::sample(task, recipe, &mut *observer)?;
            let trained = signals.after_the_step(|stop| quickstart.train(&mut *observer, stop))?;
            quickstart.finish(&trained, &mut *observer)?
        };
        let row = |what: &str, before: f64, after: f64| {
            format!("{what:<20} {:>5.1} % -> {:>5.1} %", 100.0 * before, 100.0 * after)
        };
        let (before, after) = (summary.before, summary.after);
        let name = T::Question::NAME;
        io.note(format_args!("held-out {name}s solved, before -> after ({:.0} s in all)", summary.seconds));
        io.note(format_args!("  {}", row("greedy", before.greedy, after.greedy)));
        io.note(format_args!("  {}", row("sampled", before.sampled, after.sampled)));
        let report = summary.output_dir.join("report.html");
        io.note(format_args!("report: {}", report.display()));
        io.line(format_args!("{}", summary.output_dir.display()))
    }

    /// The options as `key=value`, in the order to apply them.
    fn overrides(&self) -> Vec<(String, String)> {
        let device = self.device.map(|device| device.to_string());
        let skip = self.skip_unusable.then(|| "true".to_owned());
        let named = [
            ("model_name_or_path", &self.model),
            ("data", &self.data),
            ("eval_data", &self.eval_data),
            ("objective", &self.objective),
            ("output_dir", &self.output),
            ("backend", &self.backend),
            ("device", &device),
            ("skip_unusable", &skip),
        ];
        let named = named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
        self.trl.around(named.chain(self.set.iter().cloned()).collect())
    }
}
