//! `collimate schema`: a JSON schema of recipes.

use std::path::PathBuf;

use collimate_data::Layout;
use collimate_files::write_output;
use collimate_objective::registry;
use collimate_recipe::{ObjectiveSchema, Recipe};
use serde_json::{Value, json};

use super::overwrite::Overwrite;
use crate::error::CliError;
use crate::io::Io;

/// Print a JSON schema of recipes, for editors that complete and check YAML
///
/// Editors then check a recipe that starts with `# yaml-language-server: $schema=recipe.schema.json` while you write it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate schema --output recipe.schema.json")]
pub(crate) struct Args {
    /// File to write [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    overwrite: Overwrite,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        let schema = schema();
        match self.output {
            None => io.json(&schema),
            Some(path) => {
                self.overwrite.check(&path, &[])?;
                write_output(&path, format!("{schema:#}\n").as_bytes())?;
                io.line(format_args!("{}", path.display()))
            }
        }
    }
}

/// The schema with this program's objectives, layouts and backends.
fn schema() -> Value {
    let objectives = registry::all().into_iter().map(|plugin| ObjectiveSchema {
        name: plugin.name.to_owned(),
        summary: plugin.summary.to_owned(),
        defaults: plugin.defaults(),
    });
    let mut schema = Recipe::schema(&objectives.collect::<Vec<_>>());
    let layouts = Layout::ALL.iter().map(|layout| json!(layout.to_string()));
    let backends = collimate_backend::BACKENDS.iter().map(|backend| json!(backend.name));
    for (key, names) in [("data_layout", layouts.collect::<Vec<_>>()), ("backend", backends.collect())] {
        let described = &mut schema["properties"][key];
        let description = described["description"].take();
        let names = [vec![Value::Null], names].concat();
        *described = json!({"enum": names, "description": description});
    }
    schema
}
