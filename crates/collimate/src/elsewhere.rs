//! What other trainers' command lines have, and what there is here instead.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Verbs of TRL, axolotl and LLaMA-Factory.
const VERBS: &[(&[&str], &str)] = &[
    (
        &["grpo", "rloo", "ppo", "online_dpo", "gkd", "distillation"],
        "draws answers at every step, which is not done here; `collimate loop` samples, rewards and trains in rounds",
    ),
    (&["chat", "cli", "webchat", "inference"], "`collimate generate --chat --prompt TEXT` answers a prompt"),
    (&["env", "doctor", "version"], "`collimate backends` lists the devices, and `collimate --version` the version"),
    (
        &["eval", "evaluate"],
        "`collimate score` writes the log-probs of responses; a recipe's eval_data is evaluated in a run",
    ),
    (&["preprocess", "fetch"], "nothing is prepared beforehand; `collimate data preview` shows what is trained on"),
    (&["merge-lora", "merge_lora"], "`collimate merge --model DIR --adapter DIR --output DIR`"),
    (&["pretrain", "pt", "rm"], "is not done here; `collimate objectives` lists what is"),
];

/// A hint for a command line that was not understood.
pub(crate) fn hint(error: &clap::Error) -> Option<String> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let verb = context(ContextKind::InvalidSubcommand)?;
            let (_, what) = VERBS.iter().find(|(verbs, _)| verbs.contains(&verb))?;
            Some(format!("{verb}: {what}"))
        }
        ErrorKind::UnknownArgument if context(ContextKind::InvalidArg)?.contains('_') => Some(
            "keys of a recipe are options of `train`, `plan`, `loop` and the names of objectives; --help lists this verb's"
                .to_owned(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn hint_of(words: &str) -> Option<String> {
        hint(&Cli::try_parse_from(words.split(' ')).expect_err("a mistake"))
    }

    #[test]
    fn verbs_of_other_trainers_are_answered() {
        assert!(hint_of("collimate grpo --model m").is_some_and(|text| text.contains("collimate loop")));
        assert!(
            hint_of("collimate reward --model_name_or_path m").is_some_and(|text| text.contains("keys of a recipe"))
        );
        assert_eq!(hint_of("collimate trane"), None);
        assert_eq!(hint_of("collimate reward --modle m"), None);
    }

    #[test]
    fn no_verb_of_ours_is_listed() {
        use clap::CommandFactory;
        let cli = Cli::command();
        for verb in VERBS.iter().flat_map(|(verbs, _)| *verbs) {
            assert!(cli.find_subcommand(verb).is_none(), "{verb}");
        }
    }
}
