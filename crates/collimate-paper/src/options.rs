//! Command-line options: which experiments, how large, and where.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::falling::FallingSize;
use crate::pictures::PicturesSize;
use crate::sensitivity::SensitivitySize;
use crate::task::TaskSize;
use crate::theory::TheorySize;

/// One of the paper's claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Experiment {
    /// Tabular policies in float64.
    Theory,
    /// The falling likelihood.
    Falling,
    /// K responses with rewards against pairs.
    Ablation,
    /// Objectives on the reasoning task.
    Reasoning,
    /// α and β.
    Sensitivity,
    /// Pictures without guidance, on a page of its own.
    Pictures,
}

impl Experiment {
    /// Heading on the page.
    pub fn title(self) -> &'static str {
        match self {
            Self::Theory => "Theory",
            Self::Falling => "The falling likelihood",
            Self::Ablation => "Rewards against pairs",
            Self::Reasoning => "Reasoning",
            Self::Sensitivity => "Sensitivity to α and β",
            Self::Pictures => "Pictures without guidance",
        }
    }
}

/// Measure what the paper claims, and write the page.
#[derive(Debug, Parser)]
#[command(name = "collimate-paper")]
pub struct Options {
    /// Experiments to run [default: all].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME")]
    pub only: Vec<Experiment>,
    /// Folder with gsm8k_model_solutions.jsonl; without it the falling likelihood is measured on generated problems.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// A small version of everything, in a few minutes: shows that it works, not what is true.
    #[arg(long)]
    pub quick: bool,
    /// Folder for the page.
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Folder of finished stages, which are not repeated.
    #[arg(long, value_name = "DIR")]
    pub work: PathBuf,
    /// The checkout, to name the commit.
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
}

/// The size of each experiment.
#[derive(Debug, Clone)]
pub struct Size {
    /// Size of the theory.
    pub theory: TheorySize,
    /// Size of the falling likelihood.
    pub falling: FallingSize,
    /// Size of all experiments on the quickstart's task.
    pub task: TaskSize,
    /// Size of the grid.
    pub sensitivity: SensitivitySize,
    /// Size of the experiment with pictures.
    pub pictures: PicturesSize,
}

impl Options {
    /// The selected experiments, in the page's order.
    pub fn experiments(&self) -> Vec<Experiment> {
        let all = Experiment::value_variants().iter().copied();
        all.filter(|experiment| self.only.is_empty() || self.only.contains(experiment)).collect()
    }

    /// The size of the experiment.
    pub fn size(&self) -> Size {
        match self.quick {
            false => Size {
                theory: TheorySize::full(),
                falling: FallingSize::full(),
                task: TaskSize::full(),
                sensitivity: SensitivitySize::full(),
                pictures: PicturesSize::full(),
            },
            true => Size {
                theory: TheorySize::quick(),
                falling: FallingSize::quick(),
                task: TaskSize::quick(),
                sensitivity: SensitivitySize::quick(),
                pictures: PicturesSize::quick(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experiments_come_in_the_pages_order_whatever_order_they_are_named_in() {
        let args = ["paper", "--only", "ablation,theory", "--output", "o", "--work", "w", "--root", "r"];
        let options = Options::try_parse_from(args).expect("valid options");
        assert_eq!(options.experiments(), [Experiment::Theory, Experiment::Ablation]);
    }
}
