//! Condition contrastive alignment (arXiv 2410.09347) of the quickstart's generator of pictures: quality against λ, and guidance
//! against none.

use std::path::Path;

use anyhow::Result;
use collimate_pictures::pipeline::{Quality, align, measure, recipe};
use collimate_recipe::Recipe;
use collimate_train::progress::Silent;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::stage::Stages;
use crate::stats::Estimate;

/// The size of the experiment.
#[derive(Debug, Clone)]
pub struct PicturesSize {
    /// Weights of the negative term; 0 is supervised training on the same pictures.
    pub lambdas: Vec<f64>,
    /// Scales of guidance of the generator before; 1 is none.
    pub guidance: Vec<f64>,
    /// Seeds of the pictures, of their order and of what is drawn. The generator is one.
    pub seeds: Vec<u64>,
    /// Pictures to align with.
    pub num_pictures: usize,
    /// Scale of the implicit reward.
    pub beta: f64,
}

impl PicturesSize {
    /// The full size, for the page.
    pub fn full() -> Self {
        Self {
            lambdas: vec![0.0, 0.3, 1.0, 3.0],
            guidance: vec![1.0, 1.5, 2.0, 3.0, 5.0],
            seeds: vec![1, 2, 3],
            num_pictures: 1600,
            beta: 0.1,
        }
    }

    /// A quick size, to see that it works.
    pub fn quick() -> Self {
        Self { lambdas: vec![0.0, 3.0], guidance: vec![1.0, 2.0], seeds: vec![1], num_pictures: 64, beta: 0.1 }
    }
}

/// What pictures are worth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Share that shows its class.
    pub accuracy: f64,
    /// Share that shows it cleanly.
    pub clean: f64,
}

impl From<Quality> for Share {
    fn from(quality: Quality) -> Self {
        Self { accuracy: quality.accuracy, clean: quality.clean }
    }
}

/// A setting with its results, by seed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setting {
    /// λ, or the scale of guidance.
    pub value: f64,
    /// Results by seed.
    pub by_seed: Vec<Share>,
}

impl Setting {
    /// The mean of a figure over seeds.
    pub fn estimate(&self, figure: impl Fn(&Share) -> f64) -> Estimate {
        Estimate::from_values(&self.by_seed.iter().map(figure).collect::<Vec<_>>())
    }
}

/// The findings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pictures {
    /// Seeds.
    pub seeds: Vec<u64>,
    /// Scale of the implicit reward.
    pub beta: f64,
    /// Pictures to align with.
    pub num_pictures: usize,
    /// The generator before, by scale of guidance.
    pub guided: Vec<Setting>,
    /// The aligned generator, drawn from without guidance, by λ.
    pub aligned: Vec<Setting>,
}

/// Runs the experiment.
///
/// # Errors
/// A run that failed.
pub fn run(stages: &Stages, size: &PicturesSize) -> Result<Pictures> {
    let by_seed = |what: &str, value: f64, share: &dyn Fn(&Path, u64) -> Result<Share>| -> Result<Setting> {
        let of = |seed: &u64| {
            let settings = json!({
                "value": value, "seed": seed, "pictures": size.num_pictures, "beta": size.beta,
            });
            stages.value(&format!("pictures: {what} {value}, seed {seed}"), &settings, |dir| share(dir, *seed))
        };
        Ok(Setting { value, by_seed: size.seeds.iter().map(of).collect::<Result<_>>()? })
    };
    let guided = |scale: &f64| {
        by_seed("guidance", *scale, &|dir, seed| {
            let guidance = Some(*scale).filter(|scale| *scale != 1.0);
            Ok(measure(&settings(size, 0.0, seed, dir)?, guidance, &mut Silent)?.into())
        })
    };
    let aligned = |lambda: &f64| {
        by_seed("lambda", *lambda, &|dir, seed| {
            Ok(align(&settings(size, *lambda, seed, dir)?, size.num_pictures, &mut Silent)?.into())
        })
    };
    Ok(Pictures {
        seeds: size.seeds.clone(),
        beta: size.beta,
        num_pictures: size.num_pictures,
        guided: size.guidance.iter().map(guided).collect::<Result<_>>()?,
        aligned: size.lambdas.iter().map(aligned).collect::<Result<_>>()?,
    })
}

/// The quickstart's recipe with these settings.
fn settings(size: &PicturesSize, lambda: f64, seed: u64, dir: &Path) -> Result<Recipe> {
    let mut all = vec![
        ("seed", seed.to_string()),
        ("output_dir", dir.join("run").display().to_string()),
        ("reference_cache", "false".to_owned()),
        ("token_cache", "false".to_owned()),
    ];
    match lambda > 0.0 {
        true => all.extend([
            ("objective", "cca".to_owned()),
            ("objective.beta", size.beta.to_string()),
            ("objective.lambda", lambda.to_string()),
        ]),
        false => all.push(("objective", "sft".to_owned())),
    }
    let all: Vec<(String, String)> = all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Ok(recipe(&all)?)
}
