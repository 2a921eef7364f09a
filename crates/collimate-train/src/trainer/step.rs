//! One optimizer step over its batches.

use collimate_backend::give_back_memory;
use collimate_model::{DropoutKey, ForwardOptions, RouterLoad, TokenLogps};
use collimate_objective::{Evaluation, GroupScores};
use collimate_report::GroupOutcome;
use collimate_text::TokenizedGroup;

use super::nonfinite::{Culprit, in_evaluation, in_logps};
use super::run::Run;
use crate::batches::{ask, group_scores, outcomes, response_logps, score_batch};
use crate::error::TrainError;
use crate::optimizer::StepOptions;
use crate::packs::{Pack, of_pack};
use crate::session::{Session, dropout_key};

/// Nats by which policy and reference may differ before the first step, per response.
///
/// Both are computed by the same kernels; other packing changes float32 sums by some 1e-6 of their size.
const SELF_CHECK_NATS: f64 = 1e-3;

pub(super) struct StepInput<'a> {
    /// Step, from 0.
    pub(super) step: usize,
    pub(super) learning_rate: f64,
    /// Indices of the step's groups.
    pub(super) visits: &'a [usize],
}

/// Groups that the objective sees together.
struct Batch<'a> {
    step: usize,
    indices: &'a [usize],
    groups: &'a [&'a TokenizedGroup],
    /// What the objective said of them where it saw the whole step.
    known: Option<Evaluation>,
    /// Factor of their coefficients.
    share: f64,
    /// The part of the step's groups that they are.
    part: f64,
}

pub(super) struct StepOutcome {
    /// Mean over the step's groups, and with it the weighted balance loss.
    pub(super) loss: f64,
    /// The balance loss without its weight, where it counts.
    pub(super) aux_loss: Option<f64>,
    pub(super) grad_norm: f64,
    /// Whether parameters were changed; if not, `culprit` says why.
    pub(super) applied: bool,
    pub(super) culprit: Option<Culprit>,
    pub(super) groups: Vec<GroupOutcome>,
    pub(super) num_tokens: u64,
    /// The c_k of the step's groups, in their order.
    coefficients: Vec<Vec<f64>>,
}

impl StepOutcome {
    /// Makes it a step that is not taken.
    fn stop_at(&mut self, culprit: Culprit) {
        self.loss = f64::NAN;
        self.culprit = Some(culprit);
    }
}

impl Run<'_> {
    pub(super) fn take_step(
        &self,
        session: &mut dyn Session,
        input: &StepInput<'_>,
    ) -> Result<StepOutcome, TrainError> {
        let mut outcome = StepOutcome {
            loss: 0.0,
            aux_loss: None,
            grad_norm: f64::NAN,
            applied: false,
            culprit: None,
            groups: Vec::new(),
            num_tokens: 0,
            coefficients: Vec::new(),
        };
        // An objective that couples the batch must see the whole step before any coefficient is known.
        let coupled = match self.objective.needs().couples_batch {
            true => self.evaluate_whole_step(session, input, &mut outcome)?,
            false => None,
        };
        let mut seen = 0;
        for indices in input.visits.chunks(self.recipe.per_device_train_batch_size.max(1)) {
            // What is wrong with one group is wrong with the step.
            if outcome.culprit.is_some() {
                break;
            }
            let groups: Vec<&TokenizedGroup> = indices.iter().map(|&i| &self.groups[i]).collect();
            let known = coupled.as_ref().map(|whole| part(whole, seen, groups.len()));
            // The objective's coefficients are of the mean over its groups, the step's mean is over all of them.
            let part = groups.len() as f64 / input.visits.len() as f64;
            let share = if known.is_some() { 1.0 } else { part };
            let batch = Batch { step: input.step, indices, groups: &groups, known, share, part };
            self.take_batch(session, batch, input.visits.len(), &mut outcome)?;
            seen += groups.len();
        }
        let options = self.step_options(input.learning_rate, outcome.loss);
        let stepped = session.step(&options);
        outcome.grad_norm = stepped.grad_norm;
        outcome.applied = stepped.applied;
        if !stepped.applied && outcome.culprit.is_none() {
            outcome.culprit = Some(self.in_gradients(session, input, &outcome.coefficients)?);
        }
        Ok(outcome)
    }

    /// One batch: its log-probs, the objective's word on them, and the way back.
    fn take_batch(
        &self,
        session: &mut dyn Session,
        batch: Batch<'_>,
        num_groups: usize,
        outcome: &mut StepOutcome,
    ) -> Result<(), TrainError> {
        let Batch { step, indices, groups, .. } = batch;
        let packs = self.memory.packs(groups)?;
        session.take_router_load();
        // One pack waits for its coefficients; of several only the log-probs are kept, and each is computed again.
        let policy = match packs.as_slice() {
            [pack] => response_logps(&self.forward(session, step, groups, pack)?),
            _ => {
                let logps = score_batch(session, &self.memory, groups, true, self.dropout(step))?;
                give_back_memory();
                logps
            }
        };
        // Every token of the batch has been routed once by now, so what the loss divides by is known before any way back.
        let balance = self.balance(session, batch.part, outcome);
        let scores = self.scores(indices, groups, policy);
        if let Some(culprit) = in_logps(indices, &scores) {
            outcome.stop_at(culprit);
            return Ok(());
        }
        let evaluation = match batch.known {
            Some(known) => known,
            None => ask(self.objective, &self.files, groups, &scores)?,
        };
        if step == 0 && self.checks_itself() {
            self.self_check(groups, &scores, &evaluation)?;
        }
        outcome.loss += evaluation.losses.iter().sum::<f64>() / num_groups as f64;
        outcome.groups.extend(outcomes(&scores, &evaluation.implicit_rewards));
        if let Some(culprit) = in_evaluation(indices, &evaluation) {
            outcome.stop_at(culprit);
            return Ok(());
        }
        let coefficients = scaled(evaluation.coefficients, batch.share);
        for pack in &packs {
            if packs.len() > 1 {
                self.forward(session, step, groups, pack)?;
            }
            outcome.num_tokens += self.memory.batch(groups, pack).num_tokens() as u64;
            if let Some((load, weight)) = &balance {
                session.balance(load, *weight);
            }
            session.backward(&of_pack(&coefficients, pack));
            if packs.len() > 1 {
                give_back_memory();
            }
        }
        outcome.coefficients.extend(coefficients);
        Ok(())
    }

    /// The load of a batch that was just routed and the weight of its balance loss, which is added to the step's loss.
    fn balance(&self, session: &mut dyn Session, part: f64, outcome: &mut StepOutcome) -> Option<(RouterLoad, f64)> {
        let load = session.take_router_load()?;
        let of_model = session.config().experts.map_or(0.0, |experts| experts.balance_weight);
        let weight = self.recipe.router_aux_loss_coef.unwrap_or(of_model);
        if weight == 0.0 {
            return None;
        }
        let loss = part * load.loss();
        outcome.loss += weight * loss;
        *outcome.aux_loss.get_or_insert(0.0) += loss;
        Some((load, weight * part))
    }

    /// A forward pass that waits for its coefficients, keeping as many activations as the memory allows.
    pub(super) fn forward(
        &self,
        session: &mut dyn Session,
        step: usize,
        groups: &[&TokenizedGroup],
        pack: &Pack,
    ) -> Result<TokenLogps, TrainError> {
        let batch = self.memory.batch(groups, pack);
        let kept_blocks = match self.recipe.gradient_checkpointing {
            true => 0,
            false => self.memory.kept_blocks(batch.num_tokens()),
        };
        session.forward(&batch, ForwardOptions { kept_blocks, dropout: self.dropout(step) })
    }

    fn scores(&self, indices: &[usize], groups: &[&TokenizedGroup], policy: Vec<Vec<f64>>) -> Vec<GroupScores> {
        let reference = self.reference.as_ref();
        let reference: Option<Vec<_>> = reference.map(|all| indices.iter().map(|&i| all[i].clone()).collect());
        group_scores(groups, &policy, reference.as_deref())
    }

    /// What the objective says of all groups of a step; none where a log-prob is not finite.
    fn evaluate_whole_step(
        &self,
        session: &mut dyn Session,
        input: &StepInput<'_>,
        outcome: &mut StepOutcome,
    ) -> Result<Option<Evaluation>, TrainError> {
        let mut policy = Vec::new();
        for indices in input.visits.chunks(self.recipe.per_device_train_batch_size.max(1)) {
            let groups: Vec<&TokenizedGroup> = indices.iter().map(|&i| &self.groups[i]).collect();
            policy.extend(score_batch(session, &self.memory, &groups, true, self.dropout(input.step))?);
        }
        let groups: Vec<&TokenizedGroup> = input.visits.iter().map(|&i| &self.groups[i]).collect();
        let scores = self.scores(input.visits, &groups, policy);
        if let Some(culprit) = in_logps(input.visits, &scores) {
            outcome.stop_at(culprit);
            return Ok(None);
        }
        ask(self.objective, &self.files, &groups, &scores).map(Some)
    }

    /// The draws of a step; none without an adapter to drop the input of.
    fn dropout(&self, step: usize) -> Option<DropoutKey> {
        let with_dropout = self.recipe.use_peft && self.recipe.lora_dropout > 0.0;
        with_dropout.then(|| dropout_key(self.recipe.seed, step))
    }

    pub(super) fn step_options(&self, learning_rate: f64, loss: f64) -> StepOptions {
        let recipe = self.recipe;
        StepOptions {
            learning_rate,
            max_grad_norm: recipe.max_grad_norm,
            beta1: recipe.adam_beta1,
            beta2: recipe.adam_beta2,
            epsilon: recipe.adam_epsilon,
            weight_decay: recipe.weight_decay,
            apply: loss.is_finite(),
        }
    }

    /// Whether policy and reference must agree at the first step: the reference is the start, and dropout (which acts
    /// where an adapter was given) does not disturb the policy.
    fn checks_itself(&self) -> bool {
        let from_start = matches!(self.recipe.reference.as_deref(), None | Some("start"));
        let undisturbed = self.recipe.adapter.is_none() || self.recipe.lora_dropout == 0.0;
        self.reference.is_some() && from_start && undisturbed
    }

    /// Before anything has changed the log-ratios are zero, and the loss is what it is at zero.
    fn self_check(
        &self,
        groups: &[&TokenizedGroup],
        scores: &[GroupScores],
        evaluation: &Evaluation,
    ) -> Result<(), TrainError> {
        for (group, scores) in groups.iter().zip(scores) {
            let reference = scores.reference_logps.iter().flatten();
            for (k, (policy, reference)) in scores.policy_logps.iter().zip(reference).enumerate() {
                let agrees = (policy - reference).abs() <= SELF_CHECK_NATS.max(1e-5 * reference.abs());
                // Not-a-number agrees with nothing.
                if !agrees {
                    let message = format!(
                        "{}, response {k}: policy {policy:.6} and reference {reference:.6} nats differ before the first step",
                        self.files.place(group.index, group.line)
                    );
                    return Err(TrainError::SelfCheck { message });
                }
            }
        }
        // A coupled loss is of the whole step, which a batch alone cannot tell.
        if self.objective.needs().couples_batch {
            return Ok(());
        }
        let at_start: Vec<GroupScores> = scores
            .iter()
            .map(|s| GroupScores { policy_logps: s.reference_logps.clone().unwrap_or_default(), ..s.clone() })
            .collect();
        let expected = ask(self.objective, &self.files, groups, &at_start)?;
        for ((group, found), expected) in groups.iter().zip(&evaluation.losses).zip(&expected.losses) {
            let agrees = (found - expected).abs() <= 1e-2 * expected.abs().max(1.0);
            if !agrees {
                let place = self.files.place(group.index, group.line);
                let message = format!("{place}: the loss is {found:.6}, and {expected:.6} at zero log-ratios");
                return Err(TrainError::SelfCheck { message });
            }
        }
        Ok(())
    }
}

/// The groups `start..start + len` of a whole step's evaluation.
fn part(whole: &Evaluation, start: usize, len: usize) -> Evaluation {
    let range = start..start + len;
    Evaluation {
        losses: whole.losses[range.clone()].to_vec(),
        implicit_rewards: whole.implicit_rewards[range.clone()].to_vec(),
        coefficients: whole.coefficients[range].to_vec(),
    }
}

fn scaled(mut coefficients: Vec<Vec<f64>>, factor: f64) -> Vec<Vec<f64>> {
    coefficients.iter_mut().flatten().for_each(|c| *c *= factor);
    coefficients
}
