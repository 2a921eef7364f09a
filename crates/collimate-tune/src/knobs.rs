//! What is varied, and the candidates that are drawn.

use std::fmt;
use std::str::FromStr;

use collimate_objective::registry;
use collimate_recipe::Recipe;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::error::TuneError;

/// By how much a value is varied either way, if no range is given.
const FACTOR: f64 = 5.0;

/// A setting that is varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Knob {
    /// `learning_rate`.
    LearningRate,
    /// The objective's `beta`.
    Beta,
    /// The objective's reward temperature `alpha`.
    Alpha,
}

impl Knob {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::LearningRate, Self::Beta, Self::Alpha];

    /// Its key in a recipe, or the name of the objective's parameter.
    pub fn name(self) -> &'static str {
        match self {
            Self::LearningRate => "learning_rate",
            Self::Beta => "beta",
            Self::Alpha => "alpha",
        }
    }

    /// The recipe's value, or the objective's default; `None` if the objective has no such parameter.
    pub fn of(self, recipe: &Recipe) -> Option<f64> {
        let spec = &recipe.objective;
        let default = || registry::find(&spec.name).ok()?.defaults().get(self.name()).and_then(Value::as_f64);
        match self {
            Self::LearningRate => Some(recipe.learning_rate),
            Self::Beta | Self::Alpha => spec.number(self.name()).or_else(default),
        }
    }

    /// The recipe with this value.
    pub fn set(self, recipe: &mut Recipe, value: f64) {
        match self {
            Self::LearningRate => recipe.learning_rate = value,
            Self::Beta | Self::Alpha => {
                recipe.objective.params.insert(self.name().to_owned(), json!(value));
            }
        }
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The range of a knob, from which candidates are drawn evenly by the logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The knob.
    pub knob: Knob,
    /// The smallest value, above 0.
    pub low: f64,
    /// The largest one.
    pub high: f64,
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("\"{text}\": expected KEY=LOW..HIGH, such as learning_rate=1e-6..1e-4");
        let (name, range) = text.split_once('=').ok_or_else(expected)?;
        let knob = Knob::ALL.into_iter().find(|knob| knob.name() == name);
        let names = Knob::ALL.map(Knob::name).join(", ");
        let knob = knob.ok_or_else(|| format!("\"{name}\" is not varied: expected one of {names}"))?;
        let (low, high) = range.split_once("..").filter(|(_, high)| !high.starts_with('.')).ok_or_else(expected)?;
        let [low, high] = [low, high].map(|text| text.parse::<f64>());
        let (low, high) = (low.map_err(|_| expected())?, high.map_err(|_| expected())?);
        match low > 0.0 && low <= high && high.is_finite() {
            true => Ok(Self { knob, low, high }),
            false => Err(format!("\"{text}\": LOW must be above 0, and HIGH not below it")),
        }
    }
}

/// The knobs that a recipe has, with their ranges: those given, and a factor of five either way for the others.
///
/// # Errors
/// A range for a knob that the objective does not have.
pub(crate) fn ranges(recipe: &Recipe, given: &[Range]) -> Result<Vec<Range>, TuneError> {
    if let Some(range) = given.iter().find(|range| range.knob.of(recipe).is_none()) {
        let problem = format!("the objective \"{}\" has no {}", recipe.objective.name, range.knob);
        return Err(TuneError::option("--range", problem));
    }
    let range = |knob: Knob| {
        let own = knob.of(recipe).filter(|value| *value > 0.0)?;
        let given = given.iter().rev().find(|range| range.knob == knob).copied();
        Some(given.unwrap_or(Range { knob, low: own / FACTOR, high: own * FACTOR }))
    };
    Ok(Knob::ALL.into_iter().filter_map(range).collect())
}

/// A setting of all knobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its number; 0 is the recipe as it was given.
    pub number: usize,
    /// Its values, in the order of the knobs.
    pub values: Vec<(Knob, f64)>,
}

impl Candidate {
    /// The recipe with its values.
    pub fn applied_to(&self, recipe: &Recipe) -> Recipe {
        let mut recipe = recipe.clone();
        self.values.iter().for_each(|(knob, value)| knob.set(&mut recipe, *value));
        recipe
    }
}

/// The recipe's own setting and others that are drawn by the seed alone, to two digits.
pub(crate) fn candidates(recipe: &Recipe, ranges: &[Range], count: usize, seed: u64) -> Vec<Candidate> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let own = ranges.iter().map(|range| (range.knob, range.knob.of(recipe).unwrap_or(range.low))).collect();
    let mut all = vec![Candidate { number: 0, values: own }];
    for number in 1..count {
        let draw = |range: &Range| {
            let at: f64 = rng.random();
            (range.knob, two_digits((range.low.ln() + at * (range.high / range.low).ln()).exp()))
        };
        all.push(Candidate { number, values: ranges.iter().map(draw).collect() });
    }
    all
}

/// A number to two significant digits.
fn two_digits(value: f64) -> f64 {
    format!("{value:.1e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn candidates_are_those_of_their_seed_within_their_ranges() {
        let ranges = [
            Range { knob: Knob::LearningRate, low: 1e-6, high: 1e-4 },
            Range { knob: Knob::Beta, low: 0.5, high: 0.5 },
        ];
        let recipe = Recipe { learning_rate: 3e-5, ..Recipe::default() };
        let drawn = candidates(&recipe, &ranges, 40, 7);
        assert_eq!(drawn[0].values[0], (Knob::LearningRate, 3e-5));
        assert_eq!(drawn, candidates(&recipe, &ranges, 40, 7));
        assert_ne!(drawn, candidates(&recipe, &ranges, 40, 8));
        let rates: Vec<f64> = drawn[1..].iter().map(|candidate| candidate.values[0].1).collect();
        assert!(rates.iter().all(|rate| (1e-6..=1e-4).contains(rate)), "{rates:?}");
        // Evenly by the logarithm: about half of them are below the middle of the exponents.
        let low = rates.iter().filter(|rate| **rate < 1e-5).count();
        assert!((10..30).contains(&low), "{rates:?}");
        assert!(drawn[1..].iter().all(|candidate| candidate.values[1].1 == 0.5));
    }

    #[test]
    fn a_candidate_changes_its_knobs_alone() {
        let recipe = Recipe::default();
        let candidate = Candidate { number: 1, values: vec![(Knob::LearningRate, 1e-3), (Knob::Beta, 0.25)] };
        let applied = candidate.applied_to(&recipe);
        assert_eq!((applied.learning_rate, applied.objective.number("beta")), (1e-3, Some(0.25)));
        let back = Recipe { learning_rate: recipe.learning_rate, objective: recipe.objective.clone(), ..applied };
        assert_eq!(back, recipe);
    }

    #[rstest]
    #[case("learning_rate=1e-6..1e-4", Ok(Range { knob: Knob::LearningRate, low: 1e-6, high: 1e-4 }))]
    #[case("alpha=0.1..0.1", Ok(Range { knob: Knob::Alpha, low: 0.1, high: 0.1 }))]
    #[case("lora_r=1..2", Err("is not varied"))]
    #[case("beta=0..1", Err("above 0"))]
    #[case("beta=2..1", Err("above 0"))]
    #[case("beta=1", Err("KEY=LOW..HIGH"))]
    fn ranges_are_read(#[case] text: &str, #[case] expected: Result<Range, &str>) {
        match (text.parse::<Range>(), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => panic!("{found:?}, {expected:?}"),
        }
    }
}
