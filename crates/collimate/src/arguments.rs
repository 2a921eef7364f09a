//! Turns TRL's command lines into ours: `--KEY VALUE` for any key of a recipe, and an objective's name as verb.

use std::ffi::{OsStr, OsString};

use clap::CommandFactory;
use collimate_objective::registry;
use collimate_recipe::Recipe;

use crate::cli::Cli;

/// Verbs that take a recipe.
const WITH_RECIPE: [&str; 3] = ["train", "plan", "loop"];

/// Keys whose values may be several words, as in `--loss_type sigmoid sft`.
const LISTS: [&str; 7] = [
    "loss_type",
    "loss_weights",
    "lora_target_modules",
    "lora_target_parameters",
    "lora_modules_to_save",
    "report_to",
    "dataset_splits",
];

/// The command line in the form that clap parses; `arguments` start with the program's name.
pub(crate) fn in_our_form(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut rest = arguments.into_iter();
    let mut result: Vec<OsString> = rest.next().into_iter().collect();
    let cli = Cli::command();
    for argument in rest.by_ref() {
        let Some(verb) = argument.to_str().filter(|text| !text.starts_with('-')).map(str::to_owned) else {
            result.push(argument);
            continue;
        };
        let is_objective = cli.find_subcommand(&verb).is_none() && registry::find(&verb).is_ok();
        let known = match is_objective {
            true => {
                result.extend(["train".into(), "--verb".into(), argument]);
                "train"
            }
            false => {
                result.push(argument);
                verb.as_str()
            }
        };
        if let Some(command) = cli.find_subcommand(known).filter(|_| WITH_RECIPE.contains(&known)) {
            let keys = Keys { cli: &cli, command };
            keys.rewrite(rest.collect(), &mut result);
            return result;
        }
        break;
    }
    result.extend(rest);
    result
}

/// The options that a verb has, to tell them from keys.
struct Keys<'a> {
    cli: &'a clap::Command,
    command: &'a clap::Command,
}

impl Keys<'_> {
    fn rewrite(&self, arguments: Vec<OsString>, result: &mut Vec<OsString>) {
        let mut rest = arguments.into_iter().peekable();
        while let Some(argument) = rest.next() {
            if argument == "--" {
                result.push(argument);
                break;
            }
            let Some((key, given)) = argument.to_str().and_then(|text| self.key(text)) else {
                let takes_value = argument.to_str().is_some_and(|text| self.takes_value(text));
                result.push(argument);
                result.extend(takes_value.then(|| rest.next()).flatten());
                continue;
            };
            // As TRL has it for switches that are on by default.
            let negated = key.strip_prefix("no_").filter(|rest| is_key(rest) && !is_key(&key));
            let (key, given) = match negated {
                Some(switch) => (switch.to_owned(), Some("false".to_owned())),
                None => (key, given),
            };
            let mut values: Vec<String> = given.into_iter().collect();
            if values.is_empty() {
                let several = LISTS.contains(&key.as_str());
                while let Some(value) = rest.next_if(|next| (several || values.is_empty()) && is_value(&key, next)) {
                    values.push(value.to_string_lossy().into_owned());
                }
            }
            let value = match values.as_slice() {
                [] => "true".to_owned(),
                [one] => one.clone(),
                several => format!("[{}]", several.join(", ")),
            };
            result.extend(["--argument".into(), format!("{key}={value}").into()]);
        }
        result.extend(rest);
    }

    /// The key of `--KEY` or `--KEY=VALUE`, unless the verb has an option of this name. A word with an underscore is meant as
    /// a key even if there is none.
    fn key(&self, text: &str) -> Option<(String, Option<String>)> {
        let (name, value) = match text.strip_prefix("--")?.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text.strip_prefix("--")?, None),
        };
        if self.option(name).is_some() {
            return None;
        }
        let key = name.replace('-', "_");
        (is_key(&key) || name.contains('_')).then_some((key, value))
    }

    fn option(&self, name: &str) -> Option<&clap::Arg> {
        let all =
            self.command.get_arguments().chain(self.cli.get_arguments().filter(|argument| argument.is_global_set()));
        all.into_iter().find(|argument| argument.get_long() == Some(name))
    }

    /// Whether the word after this option is its value.
    fn takes_value(&self, text: &str) -> bool {
        let name = text.strip_prefix("--").unwrap_or_default();
        self.option(name).is_some_and(|option| option.get_action().takes_values())
    }
}

fn is_key(name: &str) -> bool {
    let objective = name.strip_prefix("objective.").is_some_and(|parameter| !parameter.is_empty());
    objective
        || Recipe::KEYS.iter().any(|key| key.name == name)
        || Recipe::other_keys().iter().any(|(key, _)| *key == name)
}

/// Whether a key of ours is true or false.
fn is_switch(name: &str) -> bool {
    let boolean = |schema: serde_json::Value| schema["type"] == "boolean";
    Recipe::KEYS.iter().any(|key| key.name == name && boolean(key.schema()))
        || matches!(name, "bf16" | "fp16" | "do_eval")
}

/// Whether a word is the value of the key before it, and not the next option or the recipe.
fn is_value(key: &str, word: &OsStr) -> bool {
    let text = word.to_string_lossy();
    if is_switch(key) {
        return matches!(text.to_lowercase().as_str(), "true" | "false");
    }
    let is_number = text.parse::<f64>().is_ok();
    let is_recipe = text.ends_with(".yaml") || text.ends_with(".yml");
    is_number || !(text.starts_with('-') || is_recipe)
}

#[cfg(test)]
mod tests {
    use collimate_objectives as _;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("train --learning_rate 1e-5 r.yaml", "train --argument learning_rate=1e-5 r.yaml")]
    #[case("train r.yaml --beta=0.1 --use_peft", "train r.yaml --argument beta=0.1 --argument use_peft=true")]
    #[case("train --use_peft r.yaml", "train --argument use_peft=true r.yaml")]
    #[case("train --use_peft False r.yaml", "train --argument use_peft=False r.yaml")]
    #[case("train --no_shuffle", "train --argument shuffle=false")]
    #[case("dpo --no_disable_dropout r.yaml", "train --verb dpo --argument disable_dropout=false r.yaml")]
    #[case("train --max_steps -1 --output out", "train --argument max_steps=-1 --output out")]
    #[case("train --learning-rate 1e-5", "train --argument learning_rate=1e-5")]
    #[case("train --loss_type sigmoid sft r.yaml", "train --argument loss_type=[sigmoid, sft] r.yaml")]
    #[case("train --output --odd r.yaml", "train --output --odd r.yaml")]
    #[case("train --eval-data e.jsonl --eval_data f.jsonl", "train --eval-data e.jsonl --argument eval_data=f.jsonl")]
    #[case("train --learning_rat 1", "train --argument learning_rat=1")]
    #[case("train --resum", "train --resum")]
    #[case("train --objective.beta 1", "train --argument objective.beta=1")]
    #[case("train --config r.yaml --set seed=1", "train --config r.yaml --set seed=1")]
    #[case("--offline dpo r.yaml --beta 1", "--offline train --verb dpo r.yaml --argument beta=1")]
    #[case("nca --config r.yaml", "train --verb nca --config r.yaml")]
    #[case("plan r.yaml --max_length 8", "plan r.yaml --argument max_length=8")]
    #[case("report --learning_rate 1", "report --learning_rate 1")]
    #[case("train -- --learning_rate", "train -- --learning_rate")]
    #[case("objectives", "objectives")]
    fn keys_become_settings_and_objectives_verbs(#[case] given: &str, #[case] expected: &str) {
        let words =
            |text: &str| std::iter::once("collimate").chain(text.split(' ')).map(OsString::from).collect::<Vec<_>>();
        let found = in_our_form(words(given)).join(OsStr::new(" "));
        assert_eq!(found.to_string_lossy(), format!("collimate {expected}"));
    }
}
