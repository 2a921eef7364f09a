//! The command line of `cargo xtask`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::bench::BenchOptions;
use crate::fuzz::FuzzOptions;
use crate::launch::LaunchOptions;
use crate::libtorch::LibtorchOptions;
use crate::paper::PaperOptions;
use crate::profile::Profile;
use crate::python_check::PythonCheckOptions;
use crate::test_options::TestOptions;

/// Builds, tests, checks, benchmarks and scaffolding of Collimate.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// How to build what is run: `release` for training, `dev` for tests, unless said otherwise [env: COLLIMATE_PROFILE].
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<Profile>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask train --objective nca
  cargo xtask train recipe.yaml --set learning_rate=1e-5
  cargo xtask train --plugin ../my-objective --objective my
  cargo xtask run data check rewards.jsonl
  cargo xtask test";

/// Help of a verb that passes its arguments on: what is taken out, then the examples.
macro_rules! forwarding_help {
    ($own_help:literal, $examples:literal) => {
        concat!(
            "Taken here, anywhere before a `--`; all else goes to collimate (",
            $own_help,
            " lists it):\n",
            "  --plugin PATH      link a plugin crate into the program; may be repeated\n",
            "  --backend NAME     build with this backend, which collimate then uses [default: flex]\n",
            "  --profile PROFILE  dev or release [default: release]\n\n",
            "Examples:\n",
            $examples
        )
    };
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Build collimate with the backend and plugins that the arguments need, and train.
    #[command(after_help = forwarding_help!(
        "cargo xtask train -- --help",
        "  cargo xtask train --objective nca\n  cargo xtask train recipe.yaml --output runs/first\n  \
         cargo xtask train --plugin ../my-objective --objective my"
    ))]
    Train {
        /// Arguments of `collimate train`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Build collimate likewise and run it with any arguments.
    #[command(after_help = forwarding_help!(
        "cargo xtask run -- --help",
        "  cargo xtask run objectives\n  cargo xtask run score --model DIR --data FILE --output scores.jsonl"
    ))]
    Run {
        /// Arguments of `collimate`: its verb first.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Build collimate with MPI and run it as several processes on this machine, or on those that mpirun is told of.
    ///
    /// The processes of a machine divide its cores and its memory. SIGTERM lets them finish their step and save. In the
    /// arguments, --plugin, --backend and --profile are as for `train`.
    #[command(after_help = "Examples:\n  cargo xtask launch -n 2 -- train recipe.yaml\n  \
        cargo xtask launch -n 16 --mpirun=--hostfile=hosts -- train recipe.yaml --backend cuda")]
    Launch(LaunchOptions),
    /// Test everything that CI tests: workspace, plugins end to end, lints.
    #[command(after_help = concat!("Examples:\n  cargo xtask test\n",
        "  cargo xtask test --no-lints -- -p collimate-text truncation"))]
    Test(TestOptions),
    /// Formatting, clippy with warnings as errors, spelling, licenses, advisories, documentation.
    Check,
    /// Check the source for what CONTRIBUTING promises: sizes, circles of files, panics, writes in place, `unsafe`.
    ///
    /// Shows the lines of every crate and the longest functions too. What may break a rule is listed with its reason in
    /// tests/tidy/exceptions.toml.
    #[command(after_help = "Examples:\n  cargo xtask tidy\n  cargo xtask tidy crates/collimate-model xtask")]
    Tidy {
        /// Show findings in these folders or files only, as paths from the root of the checkout.
        paths: Vec<String>,
    },
    /// Measure kernels and training steps, or with --peer the same steps in PyTorch too.
    #[command(after_help = "Examples:\n  cargo xtask bench --peer --work gsm8k-lora --write-docs\n  \
        cargo xtask bench -- --bench step nca")]
    Bench(BenchOptions),
    /// Take models and adapters to transformers and PEFT and back: they must give the same numbers.
    ///
    /// Trains the golden models, one an architecture, whole and with adapters, merges them, and loads all of it with PyTorch;
    /// takes adapters that PEFT made, and compares token ids. The first run installs PyTorch and what else
    /// tests/python/requirements.txt names, some GB, into an environment in the target folder.
    #[command(after_help = "Examples:\n  cargo xtask python-check\n  cargo xtask python-check --only llama,phi3\n  \
        cargo xtask python-check --python ~/venv/bin/python --models models")]
    PythonCheck(PythonCheckOptions),
    /// Test the GPU kernels on a Vulkan driver, and record that they passed: CI runs them only after a change.
    Kernels,
    /// Measure what the NCA paper claims, and write docs/paper; continuing a run that was stopped.
    #[command(after_help = "Examples:\n  cargo xtask paper\n  cargo xtask paper --only theory,falling\n  \
        cargo xtask paper --quick")]
    Paper(PaperOptions),
    /// Kill short runs at random moments and resume them: they must end with the bytes of a run that was left alone.
    #[command(after_help = "Options: cargo xtask chaos -- --help\n\nExamples:\n  cargo xtask chaos --kills 300\n  \
        cargo xtask chaos --kills 50 --signals false --program target/release/collimate")]
    Chaos {
        /// Options of the harness, tests/chaos.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Train for long and fail where memory, handles or files grow (Linux).
    #[command(after_help = "Options: cargo xtask soak -- --help\n\nExamples:\n  cargo xtask soak --minutes 60\n  \
        cargo xtask soak --minutes 10 --work lora --threads 2")]
    Soak {
        /// Options of the harness, tests/chaos.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Give hostile input to every parser: no panic, no hang, no memory beyond what the input's size allows.
    #[command(after_help = "Examples:\n  cargo xtask fuzz --inputs 1000000\n  \
        cargo xtask fuzz --target chat_template --seconds 600\n  cargo xtask fuzz --target recipe --file odd.yaml")]
    Fuzz(FuzzOptions),
    /// Write a plugin crate with an objective, its tests and a README.
    #[command(after_help = "Example:\n  cargo xtask new-objective focal_margin --path ../focal-margin")]
    NewObjective {
        /// Name that recipes will use: small letters, digits and `_`.
        name: String,
        /// Folder to create [default: NAME-objective in the current folder].
        #[arg(long, value_name = "DIR")]
        path: Option<PathBuf>,
    },
    /// Make the quickstart's base model again (`collimate quickstart-assets`).
    #[command(after_help = "Example:\n  cargo xtask quickstart-assets --output runs/base")]
    QuickstartAssets {
        /// Arguments of `collimate quickstart-assets`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Install the libtorch that the backend of that name needs, in an environment of its own, and remember it.
    #[command(after_help = "Examples:\n  cargo xtask libtorch\n  cargo xtask libtorch --python venv/bin/python\n  \
        cargo xtask train --backend libtorch --objective nca")]
    Libtorch(LibtorchOptions),
    /// Install what the cuda backend needs beside NVIDIA's driver, the compiler NVRTC and CUDA's headers, in the target folder.
    #[command(after_help = "Example:\n  cargo xtask cuda\n  cargo xtask train --backend cuda --objective nca")]
    Cuda,
    /// Say whether this machine has what building and training need.
    Doctor,
}

/// Parses the process's arguments; a verb of collimate given to xtask gets the hint it needs.
pub(crate) fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        let unknown_verb = error.kind() == ErrorKind::InvalidSubcommand;
        let code = error.exit_code();
        // Nothing is left to do when the terminal is gone.
        let _ = error.print();
        if unknown_verb {
            eprintln!("\nVerbs of collimate itself run as: cargo xtask run VERB ...");
        }
        std::process::exit(code)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn train_takes_unknown_options_as_arguments_of_collimate() {
        let cli = Cli::try_parse_from(["xtask", "train", "--objective", "nca", "--plugin", "p"]).expect("valid");
        let Verb::Train { args } = cli.verb else { panic!("expected train, found {:?}", cli.verb) };
        assert_eq!(args, ["--objective", "nca", "--plugin", "p"]);
    }

    #[test]
    fn the_profile_stands_before_the_verb() {
        let cli = Cli::try_parse_from(["xtask", "--profile", "dev", "run", "objectives"]).expect("valid");
        assert_eq!(cli.profile, Some(Profile::Dev));
    }

    #[test]
    fn test_arguments_stand_after_two_dashes() {
        let cli = Cli::try_parse_from(["xtask", "test", "--", "-p", "collimate-data"]).expect("valid");
        let Verb::Test(options) = cli.verb else { panic!("expected test, found {:?}", cli.verb) };
        assert_eq!((options.backend.as_str(), options.args.len()), ("flex", 2));
    }
}
