//! The objective as the flat keys of other trainers give it: `loss_type`, `beta`, `simpo_gamma`, ….

mod parts;
mod unread;
mod values;

use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use crate::foreign::Notes;
use crate::objective::ObjectiveSpec;
use crate::objective_terms::{default_of, has_parameter};
use crate::trainer::Trainer;
use crate::values::KeyType as _;
use parts::{Parameter, Parts};
use unread::{asks_for_nothing, unread};
use values::{Numbers, our_name, texts};

/// Keys of other trainers that set a parameter of the objective, with our name for it.
const PARAMETERS: &[(&str, &str)] = &[
    ("beta", "beta"),
    ("alpha", "alpha"),
    ("temperature_alpha", "alpha"),
    ("label_smoothing", "label_smoothing"),
    ("simpo_gamma", "gamma"),
    ("gamma", "gamma"),
    ("discopop_tau", "tau"),
    ("desirable_weight", "desirable_weight"),
    ("undesirable_weight", "undesirable_weight"),
    ("f_alpha_divergence_coef", "f_alpha_divergence_coef"),
];

/// Keys of other trainers that set a parameter of the objective to a name.
const NAMED_PARAMETERS: &[&str] = &["f_divergence_type"];

/// Flat keys other than [`PARAMETERS`].
const OTHERS: &[&str] = &["loss_type", "loss_weights", "rpo_alpha", "cpo_alpha", "sft_weight", "gamma_beta_ratio"];

/// Parameters that TRL's recipes set for any loss; objectives without them ignore them.
const OFTEN_IDLE: &[&str] = &["gamma", "tau", "f_alpha_divergence_coef"];

/// The flat keys read so far. They are folded into the objective after the file and after each argument, so their order
/// matters only where one key is given twice.
#[derive(Debug, Default)]
pub(crate) struct FlatObjective {
    /// The losses that were named last, until another key names the objective.
    names: Option<Vec<String>>,
    weights: Option<Vec<f64>>,
    /// Whether names or weights have not been folded yet.
    losses_changed: bool,
    /// What is wrong with the weights so far.
    unsettled: Option<String>,
    /// Whether the keys have named a loss.
    names_a_loss: bool,
    /// TRL's trainer, if the user named it.
    trainer: Option<Trainer>,
    /// What has not been folded yet.
    new: Parts,
    /// What has been, for an objective that takes the place of the present one.
    folded: Parts,
    /// The keys that the present objective does not read, as the user is told.
    unread: Vec<(&'static str, String)>,
    /// How many supervised terms these keys have added at the objective's end.
    num_supervised: usize,
    /// SimPO's `gamma_beta_ratio`, which sets γ from a β that may change later.
    gamma_beta_ratio: Option<f64>,
    /// Whether the recipe is one of SimPO's trainer, which has a `gamma` or a `gamma_beta_ratio`.
    is_simpos: bool,
}

impl FlatObjective {
    /// Every flat key with its documentation.
    pub(crate) fn keys() -> impl Iterator<Item = (&'static str, String)> {
        let parameters = PARAMETERS.iter().map(|(key, name)| (*key, format!("The objective's parameter `{name}`.")));
        let named = NAMED_PARAMETERS.iter().map(|key| (*key, format!("The objective's parameter `{key}`.")));
        parameters.chain(named).chain(OTHERS.iter().map(|key| (*key, describe(key).to_owned())))
    }

    /// Sets a flat key. The error is what was expected; `None` means that it is another kind of key.
    pub(crate) fn set(&mut self, key: &str, value: &Value) -> Option<Result<(), &'static str>> {
        if let Some((key, name)) = PARAMETERS.iter().find(|(name, _)| *name == key) {
            let set = f64::from_yaml(value).map(|value| self.parameter(key, name, json!(value)));
            return Some(set.ok_or(f64::EXPECTED));
        }
        if let Some(key) = NAMED_PARAMETERS.iter().find(|name| **name == key) {
            // Written as `FDivergenceType.REVERSE_KL` too.
            let name = String::from_yaml(value).map(|name| name.rsplit('.').next().unwrap_or_default().to_lowercase());
            return Some(name.map(|name| self.parameter(key, key, json!(name))).ok_or(String::EXPECTED));
        }
        let number = || Option::<f64>::from_yaml(value);
        let taken = match key {
            "loss_type" => {
                (self.names_a_loss, self.losses_changed) = (true, true);
                texts(value).map(|names| self.names = Some(names.iter().map(|name| our_name(name)).collect()))
            }
            "loss_weights" => {
                self.losses_changed = true;
                Option::<Numbers>::from_yaml(value).map(|list| self.weights = list.map(|list| list.0))
            }
            "rpo_alpha" => number().map(|weight| self.new.supervised = weight),
            "cpo_alpha" | "sft_weight" => number().map(|weight| self.new.cpo_supervised = weight),
            "gamma_beta_ratio" => number().map(|ratio| {
                self.gamma_beta_ratio = ratio;
                self.is_simpos |= ratio.is_some();
            }),
            _ => return None,
        };
        Some(taken.ok_or(match key {
            "loss_type" => "the name of an objective or a list of names",
            "loss_weights" => "a list of numbers",
            _ => f64::EXPECTED,
        }))
    }

    fn parameter(&mut self, key: &'static str, name: &'static str, value: Json) {
        if name == "gamma" {
            self.gamma_beta_ratio = None;
            self.is_simpos |= key == "gamma";
        }
        let is_idle = OFTEN_IDLE.contains(&name) || asks_for_nothing(name, &value);
        self.new.params.push(Parameter { key, name, value, is_idle });
    }

    /// Sets TRL's trainer. Returns whether the keys name a loss, which is one of this trainer's.
    pub(crate) fn set_trainer(&mut self, trainer: Trainer) -> bool {
        self.trainer = Some(trainer);
        self.losses_changed = self.names.is_some();
        self.losses_changed
    }

    /// TRL's trainer: the one that the user named, or else the one that has the objective.
    pub(crate) fn trainer(&self, objective: &ObjectiveSpec) -> Trainer {
        let of_objective = || Trainer::for_objective(&objective.name, self.names_a_loss);
        self.trainer.unwrap_or_else(of_objective)
    }

    /// Whether the keys name a loss.
    pub(crate) fn names_a_loss(&self) -> bool {
        self.names_a_loss
    }

    /// The objective of a recipe of TRL's whose keys name no loss: SimPO's trainer has no other one, nor has DPO's.
    pub(crate) fn default_objective(&self) -> ObjectiveSpec {
        ObjectiveSpec::named(if self.is_simpos { "simpo" } else { "dpo" })
    }

    /// Applies all keys but the name of the loss again: another objective has taken the place of the recipe's.
    pub(crate) fn restore(&mut self) {
        (self.names, self.weights, self.unsettled) = (None, None, None);
        (self.losses_changed, self.names_a_loss) = (false, false);
        self.start_afresh();
    }

    /// Folds everything again. What was given for another objective may have no meaning for this one.
    fn start_afresh(&mut self) {
        let mut all = std::mem::take(&mut self.folded);
        all.params.iter_mut().for_each(|parameter| parameter.is_idle = true);
        all.extend(std::mem::take(&mut self.new));
        (self.new, self.num_supervised) = (all, 0);
        self.unread.clear();
    }

    /// The user set γ in another way.
    pub(crate) fn forget_ratio(&mut self) {
        self.gamma_beta_ratio = None;
    }

    /// Folds the keys into the objective; `is_trl` says whether the recipe is one of TRL's. The error is about the key that
    /// it names.
    pub(crate) fn fold(&mut self, objective: &mut ObjectiveSpec, is_trl: bool) -> Result<(), (&'static str, String)> {
        if self.losses_changed {
            match self.name_losses(objective) {
                // Another argument may bring the losses to the weights, or the weights to the losses.
                Err(("loss_weights", problem)) => self.unsettled = Some(problem),
                result => {
                    result?;
                    (self.losses_changed, self.unsettled) = (false, None);
                }
            }
        }
        let new = std::mem::take(&mut self.new);
        new.params.iter().for_each(|parameter| self.set_parameter(objective, parameter, is_trl));
        if let Some(ratio) = self.gamma_beta_ratio {
            for (name, params) in objective.terms_mut().into_iter().filter(|(name, _)| name != "sft") {
                let beta = params.get("beta").and_then(Json::as_f64).or_else(|| default_of(&name, "beta"));
                // An objective without the parameter refuses it.
                params.insert("gamma".to_owned(), json!(ratio * beta.unwrap_or_default()));
            }
        }
        let is_supervised_anew = new.supervised.is_some() || new.cpo_supervised.is_some();
        self.folded.extend(new);
        if is_supervised_anew {
            self.supervise(objective);
        }
        Ok(())
    }

    /// Sets a parameter on the losses that read it.
    fn set_parameter(&mut self, objective: &mut ObjectiveSpec, parameter: &Parameter, is_trl: bool) {
        let Parameter { key, name, ref value, is_idle } = *parameter;
        self.unread.retain(|(other, _)| *other != key);
        let trainer = self.trainer(objective);
        let is_passed_over = |loss: &str| is_trl && trainer.passes_over(name, loss);
        if !objective.set_parameter(name, value, is_idle, &is_passed_over) && !asks_for_nothing(name, value) {
            let losses: Vec<String> = objective.terms_mut().into_iter().map(|(loss, _)| loss).collect();
            self.unread.push((key, unread(key, name, value, &losses, &is_passed_over)));
        }
    }

    /// Notes the keys that the objective does not read.
    pub(crate) fn note_unread(&self, notes: &mut Notes) {
        self.unread.iter().for_each(|(_, line)| notes.without_effect(line));
    }

    /// What is wrong with `loss_weights`, once every key is read.
    pub(crate) fn weights_problem(&self) -> Option<&str> {
        self.unsettled.as_deref()
    }

    /// Makes the objective the losses that the keys name, with their weights.
    fn name_losses(&mut self, objective: &mut ObjectiveSpec) -> Result<(), (&'static str, String)> {
        let weights = self.weights.as_deref().filter(|weights| *weights != [1.0]);
        let Some(names) = self.names.clone() else {
            return match weights {
                None => Ok(()),
                Some(_) => Err(("loss_weights", "weights the losses of loss_type, which is not there".to_owned())),
            };
        };
        match (self.of_trainer(names)?.as_slice(), weights) {
            ([name], None) if objective.name == *name => return Ok(()),
            // This objective would refuse the parameters of another.
            ([name], None) => *objective = ObjectiveSpec::named(name),
            (names, _) => {
                let sum = ObjectiveSpec::sum(names, self.weights.as_deref());
                *objective = sum.map_err(|problem| ("loss_weights", problem))?;
            }
        }
        self.start_afresh();
        Ok(())
    }

    /// Adds the supervised terms, in place of those that were added before.
    fn supervise(&mut self, objective: &mut ObjectiveSpec) {
        objective.remove_supervised(self.num_supervised);
        let Parts { supervised, cpo_supervised, .. } = self.folded;
        let cpo = cpo_supervised.filter(|weight| {
            !(has_parameter(&objective.name, "sft_weight")
                && objective.set_parameter("sft_weight", &json!(weight), false, &|_| false))
        });
        let weights: Vec<f64> = [supervised, cpo].into_iter().flatten().filter(|weight| *weight != 0.0).collect();
        weights.iter().for_each(|weight| objective.add_supervised(*weight));
        self.num_supervised = weights.len();
    }

    /// Fills in what a recipe of TRL's leaves out.
    pub(crate) fn set_trl_defaults(&self, objective: &mut ObjectiveSpec) {
        // SimPO's own trainer has the defaults that the objective has here.
        if self.is_simpos {
            return;
        }
        objective.set_trl_defaults();
        // With TRL, SimPO is a loss of the CPO trainer, which adds the likelihood of the better response.
        if objective.name == "simpo" && self.folded.cpo_supervised.is_none() {
            objective.add_supervised(1.0);
        }
    }

    /// The objectives of these losses, as the recipe's trainer has them.
    fn of_trainer(&self, names: Vec<String>) -> Result<Vec<String>, (&'static str, String)> {
        if let Some(trainer) = self.trainer.filter(|trainer| *trainer != Trainer::Dpo) {
            let names = names.iter().map(|name| trainer.loss(name)).collect::<Result<_, _>>();
            return names.map_err(|problem| ("loss_type", problem));
        }
        match (self.is_simpos, names.as_slice()) {
            // SimPO's trainer has the losses `sigmoid` and `hinge`, both with its margin.
            (true, [name]) if name == "dpo" => Ok(vec!["simpo".to_owned()]),
            (true, [name]) if name == "hinge" => {
                Err(("loss_type", "SimPO's hinge loss is not supported; its sigmoid loss is".to_owned()))
            }
            _ => Ok(names),
        }
    }
}

fn describe(key: &str) -> &'static str {
    match key {
        "gamma_beta_ratio" => "Sets SimPO's `gamma` to this multiple of `beta`; alone it names the objective `simpo`.",
        "loss_type" => "The objective by its name in TRL or the published trainer, or a list of objectives to add up.",
        "loss_weights" => "Weights of the objectives in `loss_type`.",
        _ => "Weight of a supervised term on the best response.",
    }
}

#[cfg(test)]
mod tests;
