//! Build profiles.

use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// A profile of cargo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// Quick to build, with assertions; dependencies are optimized.
    Dev,
    /// Quick to run.
    Release,
}

impl Profile {
    /// The profile that `COLLIMATE_PROFILE` names, if it is set.
    pub(crate) fn from_environment() -> Result<Option<Self>> {
        let name = std::env::var("COLLIMATE_PROFILE").ok().filter(|name| !name.is_empty());
        name.map(|name| name.parse()).transpose().context("COLLIMATE_PROFILE")
    }

    /// Its folder under the target folder.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }

    /// Its name for cargo's `--profile`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }
}

impl FromStr for Profile {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "dev" => Ok(Self::Dev),
            "release" => Ok(Self::Release),
            _ => bail!("a profile is dev or release, found \"{name}\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_have_cargos_names() {
        assert_eq!("dev".parse::<Profile>().expect("known").folder(), "debug");
        assert_eq!("release".parse::<Profile>().expect("known").name(), "release");
        let error = "fast".parse::<Profile>().expect_err("unknown");
        assert_eq!(error.to_string(), "a profile is dev or release, found \"fast\"");
    }
}
