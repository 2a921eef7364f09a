//! The whole tuning: rungs, finalists with several seeds, the choice.

use std::time::Instant;

use collimate_files::FolderLock;
use collimate_recipe::Recipe;
use collimate_report::RunInfo;
use collimate_train::{Observer, StopFlag, TrainError};

use crate::error::TuneError;
use crate::knobs::{Candidate, candidates, ranges};
use crate::ladder::Ladder;
use crate::options::{TuneOptions, check};
use crate::outcome::Outcome;
use crate::record::Record;
use crate::short_run::{Score, advance, curve, short};

/// A short run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// The setting.
    pub candidate: Candidate,
    /// The seed.
    pub seed: u64,
    /// Its folder, in that of the tuning.
    pub name: String,
    /// Its score at each rung it came to; of a finalist with another seed only the last.
    pub scores: Vec<Score>,
    /// All its evaluations, from step 0.
    pub curve: Vec<Score>,
    /// Whether it ended by a figure that is not finite.
    pub has_failed: bool,
}

/// A finished tuning.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    /// The recipe's objective.
    pub objective: String,
    /// Steps of the recipe, of which the short runs may be a part.
    pub recipe_steps: usize,
    /// How far candidates went.
    pub ladder: Ladder,
    /// Every run, in the order in which they began.
    pub runs: Vec<RunRecord>,
    /// The choice.
    pub outcome: Outcome,
    /// The recipe with the chosen values.
    pub recipe: Recipe,
    /// Seconds that all of it took, over all resumptions.
    pub seconds: f64,
    /// Whether the score is the reward of sampled answers.
    pub by_reward: bool,
}

/// Runs what is not done yet, and chooses.
///
/// # Errors
/// As [`check`]; the budget is too short; a run cannot start; a stop was requested. What was done stays.
pub fn tune(options: &TuneOptions, stop: &StopFlag, observer: &mut dyn Observer) -> Result<Tuned, TuneError> {
    check(options)?;
    let mut lock = FolderLock::acquire(&options.folder).map_err(TrainError::from)?;
    let begun = Instant::now();
    options.reward.iter().try_for_each(|reward| reward.check(&options.recipe, &options.folder))?;
    let record = Record::open(options, observer)?;
    lock.keep_folder();
    let ladder = Ladder::with_steps(options.candidates, record.total_steps);
    let ladder = ladder.ok_or_else(|| TuneError::option("--work", "tune.json has too few steps"))?;
    let recipe_steps = record.recipe_steps;
    let runs = Vec::new();
    let mut tuning = Tuning { options, ladder, record, begun, runs, stop, is_cut: false };
    tuning.save()?;
    observer.note(&tuning.describe());
    let ranges = ranges(&options.recipe, &options.ranges)?;
    let drawn = candidates(&options.recipe, &ranges, options.candidates, options.recipe.seed);
    let finalists = tuning.climb(drawn, observer)?;
    let scored = tuning.with_seeds(finalists, observer)?;
    let num_held_out = tuning.runs.iter().find_map(|run| RunInfo::read(&options.folder.join(&run.name)));
    let num_held_out = num_held_out.map_or(0, |info| info.num_held_out);
    let failed = || TuneError::AllFailed(options.candidates);
    let outcome = Outcome::of(scored, num_held_out, tuning.is_cut).ok_or_else(failed)?;
    tuning.save()?;
    Ok(Tuned {
        objective: options.recipe.objective.name.clone(),
        recipe_steps,
        recipe: outcome.chosen.applied_to(&options.recipe),
        outcome,
        seconds: tuning.seconds(),
        ladder: tuning.ladder,
        runs: tuning.runs,
        by_reward: options.reward.is_some(),
    })
}

/// A tuning under way.
struct Tuning<'a> {
    options: &'a TuneOptions,
    ladder: Ladder,
    record: Record,
    begun: Instant,
    runs: Vec<RunRecord>,
    stop: &'a StopFlag,
    /// Whether the time was up before everything was run.
    is_cut: bool,
}

impl Tuning<'_> {
    fn seconds(&self) -> f64 {
        self.record.seconds + self.begun.elapsed().as_secs_f64()
    }

    /// Whether no further run is begun.
    fn is_over(&mut self) -> bool {
        self.is_cut |= self.seconds() >= self.options.budget;
        self.is_cut
    }

    /// Writes the time that was used so far.
    fn save(&self) -> Result<(), TuneError> {
        self.record.write(&self.options.folder, self.seconds())
    }

    fn describe(&self) -> String {
        let rungs = self.ladder.sizes.iter().zip(&self.ladder.steps);
        let rungs: Vec<String> = rungs.map(|(size, steps)| format!("{size} to step {steps}")).collect();
        format!(
            "candidates: {}; the finalists by {} seeds; {} steps in all, of the recipe's {} each run has {}",
            rungs.join(", then "),
            self.options.seeds,
            self.ladder.all_steps(self.options.seeds),
            self.record.recipe_steps,
            self.ladder.total_steps(),
        )
    }

    /// Takes all candidates to the first rung, the better half of them to the second, and so on; returns those of the last rung
    /// that was completed, the best first.
    fn climb(
        &mut self,
        mut standing: Vec<Candidate>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<(Candidate, Score)>, TuneError> {
        let mut ranked: Vec<(Candidate, Score)> = Vec::new();
        for rung in 0..self.ladder.sizes.len() {
            let until = self.ladder.steps[rung];
            let mut scored = Vec::new();
            for candidate in &standing {
                if self.is_over() {
                    break;
                }
                let seed = self.options.recipe.seed;
                let score = self.run(candidate, seed, until, observer)?;
                scored.extend(score.map(|score| (candidate.clone(), score)));
            }
            scored.sort_by(|a, b| a.1.rank(&b.1));
            // Scores after different steps cannot be compared, so a rung that is cut decides nothing, unless it is the first.
            if self.is_cut && rung > 0 {
                break;
            }
            ranked = scored;
            let size = self.ladder.sizes.get(rung + 1).copied().unwrap_or(usize::MAX);
            standing = ranked.iter().take(size).map(|(candidate, _)| candidate.clone()).collect();
        }
        Ok(ranked)
    }

    /// Runs the finalists with further seeds as far as time allows; returns each with its scores by seed.
    fn with_seeds(
        &mut self,
        ranked: Vec<(Candidate, Score)>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<(Candidate, Vec<Score>)>, TuneError> {
        let mut finalists: Vec<(Candidate, Vec<Score>)> =
            ranked.into_iter().take(2).map(|(candidate, score)| (candidate, vec![score])).collect();
        for further in 1..self.options.seeds as u64 {
            let seed = self.options.recipe.seed.wrapping_add(further);
            let mut scores = Vec::new();
            for (candidate, _) in &finalists {
                if self.is_over() {
                    return Ok(finalists);
                }
                scores.push(self.run(candidate, seed, self.ladder.total_steps(), observer)?);
            }
            // A seed counts if all finalists have it.
            if scores.iter().all(Option::is_some) {
                finalists.iter_mut().zip(scores).for_each(|((_, all), score)| all.extend(score));
            }
        }
        Ok(finalists)
    }

    /// Takes a candidate with a seed to a rung.
    fn run(
        &mut self,
        candidate: &Candidate,
        seed: u64,
        until: usize,
        observer: &mut dyn Observer,
    ) -> Result<Option<Score>, TuneError> {
        let name = run_name(candidate, seed, self.options.recipe.seed);
        let given = Recipe { seed, ..candidate.applied_to(&self.options.recipe) };
        let recipe = short(&given, &self.ladder, &self.options.folder, &name);
        let values: Vec<String> = candidate.values.iter().map(|(knob, value)| format!("{knob} {value:e}")).collect();
        observer.note(&format!("{name} to step {until}: {}", values.join(", ")));
        let mut score = advance(&recipe, until, self.stop, observer)?;
        if let (Some(score), Some(reward)) = (&mut score, &self.options.reward) {
            score.reward = Some(reward.of(&recipe, until, self.stop, observer)?);
        }
        let curve = curve(&recipe.output_dir)?;
        let known = self.runs.iter().position(|run| run.name == name);
        let place = known.unwrap_or_else(|| {
            let (candidate, scores) = (candidate.clone(), Vec::new());
            let run = RunRecord { candidate, seed, name: name.clone(), scores, curve: Vec::new(), has_failed: false };
            self.runs.push(run);
            self.runs.len() - 1
        });
        let run = &mut self.runs[place];
        (run.curve, run.has_failed) = (curve, score.is_none());
        run.scores.extend(score);
        self.save()?;
        match score {
            Some(score) => observer.note(&format!("{name}: {}", describe(&score))),
            None => observer.note(&format!("{name}: a figure is not finite; it is left out")),
        }
        Ok(score)
    }
}

fn describe(score: &Score) -> String {
    let reward = score.reward.map(|reward| format!("reward {reward:.4}, ")).unwrap_or_default();
    format!("{reward}accuracy {:.4}, chosen {:.3} nats", score.accuracy, score.chosen_logp)
}

/// The folder of a run.
fn run_name(candidate: &Candidate, seed: u64, first_seed: u64) -> String {
    let number = candidate.number;
    if seed == first_seed { format!("run-{number:02}") } else { format!("run-{number:02}-seed-{seed}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_another_seed_has_a_folder_of_its_own() {
        let candidate = Candidate { number: 3, values: Vec::new() };
        assert_eq!(run_name(&candidate, 42, 42), "run-03");
        assert_eq!(run_name(&candidate, 43, 42), "run-03-seed-43");
        assert!(!run_name(&candidate, 43, 42).contains('/'));
    }
}
