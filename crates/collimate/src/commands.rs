//! One file per verb, with its options, help and code.

pub(crate) mod backends;
pub(crate) mod completions;
pub(crate) mod data;
pub(crate) mod data_options;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod man;
pub(crate) mod merge;
pub(crate) mod model_options;
pub(crate) mod objective_values;
pub(crate) mod objectives;
pub(crate) mod overwrite;
pub(crate) mod plan;
pub(crate) mod quickstart_assets;
pub(crate) mod quickstart_task;
pub(crate) mod quickstart_verifier;
pub(crate) mod recipe_keys;
pub(crate) mod recipe_options;
pub(crate) mod report;
pub(crate) mod reward;
pub(crate) mod rounds;
pub(crate) mod sample;
pub(crate) mod schema;
pub(crate) mod score;
pub(crate) mod train;
pub(crate) mod trl_options;
