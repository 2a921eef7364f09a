//! `collimate objectives`: the registered objectives.

use collimate_objective::registry::{self, ObjectivePlugin};
use serde_json::{Value, json};

use crate::error::CliError;
use crate::io::Io;

/// List the objectives, or show one with its formula, source and parameters
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  collimate objectives nca")]
pub(crate) struct Args {
    /// Name of one objective
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self, io: &mut Io<'_>) -> Result<(), CliError> {
        match &self.name {
            Some(name) => {
                let plugin = registry::find(name)?;
                if self.json { io.json(&describe(plugin)) } else { show(plugin, io) }
            }
            None if self.json => io.json(&registry::all().into_iter().map(describe).collect()),
            None => {
                let plugins = registry::all();
                let width = plugins.iter().map(|plugin| plugin.name.len()).max().unwrap_or(0);
                plugins
                    .iter()
                    .try_for_each(|plugin| io.line(format_args!("{:width$}  {}", plugin.name, plugin.summary)))
            }
        }
    }
}

fn describe(plugin: &ObjectivePlugin) -> Value {
    json!({
        "name": plugin.name,
        "summary": plugin.summary,
        "formula": plugin.formula,
        "paper": plugin.paper,
        "defaults": plugin.defaults(),
    })
}

fn show(plugin: &ObjectivePlugin, io: &mut Io<'_>) -> Result<(), CliError> {
    io.line(format_args!("{}\n  {}\n", plugin.name, plugin.summary))?;
    io.line(format_args!("  loss   {}\n  paper  {}", plugin.formula, plugin.paper))?;
    let defaults = plugin.defaults();
    let Some(parameters) = defaults.as_object().filter(|parameters| !parameters.is_empty()) else {
        return Ok(());
    };
    io.line(format_args!("\n  parameters and their defaults"))?;
    parameters.iter().try_for_each(|(name, value)| io.line(format_args!("    {name}: {value}")))
}
