//! Arguments for collimate, including the few that decide how it is built.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::profile::Profile;

/// The arguments of `cargo xtask train` and `run`, split up.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Forwarded {
    /// Plugin crates to link, in order.
    pub(crate) plugins: Vec<PathBuf>,
    /// The profile, if the arguments name one.
    pub(crate) profile: Option<Profile>,
    /// The backend, if arguments or recipe name one.
    pub(crate) backend: Option<String>,
    /// Whether it is to be one of several processes.
    pub(crate) mpi: bool,
    /// Arguments for collimate.
    pub(crate) args: Vec<OsString>,
}

impl Forwarded {
    /// Extracts `--plugin` and `--profile`, and finds the backend: `--backend`, `--set backend=`, or the recipe's
    /// `backend:`, in this order.
    pub(crate) fn parse(args: Vec<OsString>) -> Result<Self> {
        let mut split = Self::default();
        let (mut set, mut recipe) = (None, None);
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let text = arg.to_string_lossy().into_owned();
            if text == "--" {
                split.args.extend(args);
                break;
            }
            let (flag, inline) = match text.split_once('=') {
                Some((flag, value)) if flag.starts_with("--") => (flag, Some(OsString::from(value))),
                _ => (text.as_str(), None),
            };
            let consumed = matches!(flag, "--plugin" | "--profile");
            if !consumed && !matches!(flag, "--backend" | "--set") {
                recipe = recipe.or_else(|| Some(PathBuf::from(&arg)).filter(|path| is_recipe(path)));
                split.args.push(arg);
                continue;
            }
            let separate = inline.is_none();
            let Some(value) = inline.or_else(|| args.next()) else { bail!("{flag} needs a value after it") };
            let words = value.to_string_lossy().into_owned();
            match flag {
                "--plugin" => split.plugins.push(PathBuf::from(&value)),
                "--profile" => split.profile = Some(words.parse()?),
                "--backend" => split.backend = Some(words),
                _ => set = words.strip_prefix("backend=").map(str::to_owned).or(set),
            }
            if !consumed {
                split.args.push(arg);
                split.args.extend(separate.then_some(value));
            }
        }
        split.backend = split.backend.or(set).or_else(|| recipe.as_deref().and_then(backend_of_recipe));
        Ok(split)
    }

    /// Whether the arguments ask for help.
    pub(crate) fn asks_for_help(&self) -> bool {
        self.args.iter().any(|arg| arg == "--help" || arg == "-h")
    }
}

fn is_recipe(path: &Path) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|extension| matches!(extension, "yaml" | "yml"))
}

/// The `backend` of a recipe. An unreadable recipe is reported by collimate.
fn backend_of_recipe(path: &Path) -> Option<String> {
    let recipe: serde_yaml_ng::Value = serde_yaml_ng::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    let backend = recipe.get("backend")?.as_str()?;
    (!backend.is_empty()).then(|| backend.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Forwarded {
        Forwarded::parse(args.iter().map(OsString::from).collect()).expect("valid arguments")
    }

    #[test]
    fn plugins_and_profile_are_taken_out_anywhere() {
        let split = parse(&["--objective", "my", "--plugin", "a", "--profile=dev", "--plugin=b", "--resume"]);
        assert_eq!(split.plugins, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(split.profile, Some(Profile::Dev));
        assert_eq!(split.args, ["--objective", "my", "--resume"]);
    }

    #[test]
    fn the_backend_is_read_and_passed_on() {
        let split = parse(&["--backend", "cuda", "--seed=1"]);
        assert_eq!(split.backend.as_deref(), Some("cuda"));
        assert_eq!(split.args, ["--backend", "cuda", "--seed=1"]);
        assert_eq!(parse(&["--backend=wgpu"]).args, ["--backend=wgpu"]);
        assert_eq!(parse(&["--set", "backend=wgpu", "--set", "seed=1"]).backend.as_deref(), Some("wgpu"));
        assert_eq!(parse(&["--set", "backend=wgpu", "--backend", "cuda"]).backend.as_deref(), Some("cuda"));
    }

    #[test]
    fn the_recipes_backend_counts_if_no_argument_names_one() {
        let path = std::env::temp_dir().join(format!("xtask-forward-{}.yaml", std::process::id()));
        std::fs::write(&path, "seed: 1\nbackend: \"cuda\" # fast\n").expect("temporary file");
        let name = path.to_str().expect("a plain path");
        let from_recipe = parse(&[name]);
        let overridden = parse(&[name, "--backend", "flex"]);
        std::fs::remove_file(&path).expect("temporary file");
        assert_eq!(from_recipe.backend.as_deref(), Some("cuda"));
        assert_eq!(overridden.backend.as_deref(), Some("flex"));
    }

    #[test]
    fn after_two_dashes_everything_is_collimates() {
        assert_eq!(parse(&["--", "--plugin", "x"]).args, ["--plugin", "x"]);
    }

    #[test]
    fn an_option_without_its_value_is_refused() {
        let error = Forwarded::parse(vec!["--plugin".into()]).expect_err("no value");
        assert_eq!(error.to_string(), "--plugin needs a value after it");
    }
}
