//! `collimate recipe-keys`: the keys of a recipe.

use collimate_recipe::Recipe;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::io::Io;

/// List the keys of a recipe, with their defaults and meanings
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate recipe-keys")]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        let defaults = serde_json::to_value(Recipe::default()).unwrap_or_default();
        if self.json {
            let key = |key: &collimate_recipe::RecipeKey| json!({"name": key.name, "default": defaults[key.name], "expected": key.expected, "doc": key.doc.trim()});
            return io.json(&Recipe::KEYS.iter().map(key).collect::<Value>());
        }
        for key in Recipe::KEYS {
            let default = match &defaults[key.name] {
                Value::Null => String::new(),
                Value::String(text) => format!(" = {text}"),
                other => format!(" = {other}"),
            };
            io.line(format_args!("{}{default}\n    {} ({})", key.name, key.doc.trim(), key.expected))?;
        }
        Ok(())
    }
}
