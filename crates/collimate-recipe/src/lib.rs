//! Recipes: the YAML description of a training run, its defaults, and what follows from it.
//!
//! Start at [`Recipe`], whose keys, types, defaults and documentation are in one table. [`Recipe::parse`] reads a file
//! and `key=value` pairs into a [`ParsedRecipe`]: every key typed, checked against its range and traced to the line
//! that set it. [`RecipeError`] points at that line.
//!
//! Keys have TRL's names where TRL has them. Keys of other trainers that mean nothing here are known by name, so that
//! their recipes load as they are.
//!
//! ```
//! # use collimate_recipe::Recipe;
//! let settings = [("learning_rate", "1e-5"), ("max_steps", "100")].map(|(key, value)| (key.to_owned(), value.to_owned()));
//! let recipe = Recipe::parse(None, &settings)?.recipe;
//! let counts = recipe.step_counts(1000);
//! assert_eq!((counts.total_steps, counts.warmup_steps), (100, 10));
//! assert_eq!(recipe.schedule(&counts).lr(10), 1e-5);
//! # Ok::<(), collimate_recipe::RecipeError>(())
//! ```
//!
//! This crate reads no file but the recipe: paths and names on the hub stay as they were written, but for those of a run whose
//! folder was moved, and `collimate-resolve` turns them into files. It must not know files of models, devices or the network.

mod best;
mod cache;
mod check;
mod due_steps;
mod error;
mod figure_limits;
mod flat_objective;
mod foreign;
mod frozen;
mod interval;
mod keys;
mod limits;
mod locate;
mod lora_keys;
mod memory_budget;
mod mixture;
mod moved;
mod objective;
mod objective_terms;
mod parse;
mod recipe;
mod report_to;
mod results;
mod router_loss;
mod rows;
mod schedule;
mod schema;
mod sources;
mod steps;
mod strategy;
mod target_modules;
#[cfg(test)]
mod tests;
mod trainer;
mod trl;
#[cfg(test)]
mod trl_defaults_tests;
#[cfg(test)]
mod trl_tests;
mod values;
mod weight_place;

pub use best::BestBy;
pub use cache::CacheFolder;
pub use due_steps::DueSteps;
pub use error::{Location, Origin, RecipeError};
pub use figure_limits::FigureLimits;
pub use frozen::FrozenParts;
pub use interval::NumSteps;
pub use keys::RecipeKey;
pub use limits::MAX_RECIPE_BYTES;
pub use lora_keys::{ExcludedModules, LayerList, ModuleList, PatternValues};
pub use memory_budget::MemoryBudget;
pub use mixture::{DataMixture, MixtureSet};
pub use objective::ObjectiveSpec;
pub use parse::ParsedRecipe;
pub use recipe::{COMPUTE_DTYPES, MATMUL_PRECISIONS, MODEL_DROPOUTS, QUANTIZATIONS, Recipe};
pub use report_to::Trackers;
pub use router_loss::RouterLoss;
pub use rows::{FieldNames, TemplateVariables};
pub use schedule::{Schedule, ScheduleArguments, ScheduleKind};
pub use schema::ObjectiveSchema;
pub use sources::DataSources;
pub use steps::StepCounts;
pub use strategy::{IntervalStrategy, OnNonfinite};
pub use target_modules::TargetModules;
pub use trainer::VERB;
pub use trl::{DifferentDefault, TRL_VERSION, TrlDefaults};
pub use weight_place::{WEIGHT_PLACES, WeightPlace};
