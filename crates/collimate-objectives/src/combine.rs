//! A weighted sum of objectives.

use collimate_objective::{
    Needs, NonNegative, Objective, ObjectiveError, ObjectiveOutput, ScoredGroups, StepRows, register_objective,
    registry,
    serde_json::{Map, Value},
};
use serde::{Deserialize, Serialize};

/// A weighted sum of other objectives, such as NCA with a supervised term.
///
/// `L = Σ_i weight_i · L_i`
///
/// It reports the implicit rewards of the first term, and needs whatever any of its terms needs.
///
/// Parameters: `terms`, a list of tables `{name, weight, …parameters of that objective}`; `weight` defaults to 1.
///
/// TRL's keys: `loss_type` as a list of names, `loss_weights` as the list of their weights.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "Terms", into = "Terms")]
pub struct Combine {
    terms: Vec<Term>,
    objectives: Vec<Box<dyn Objective>>,
}

/// A [`Combine`] as written in a recipe.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Terms {
    terms: Vec<Term>,
}

/// One objective of a [`Combine`]: its name, its weight and its own parameters.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Term {
    /// Name of the objective.
    pub name: String,
    /// Factor of its loss.
    #[serde(default = "one")]
    pub weight: NonNegative,
    /// Its parameters; missing ones take their defaults.
    #[serde(flatten)]
    pub params: Map<String, Value>,
}

impl Combine {
    /// Builds every term.
    ///
    /// # Errors
    /// There are no terms, or a term's name or parameters are unknown or invalid.
    pub fn new(terms: Vec<Term>) -> Result<Self, ObjectiveError> {
        if terms.is_empty() {
            return Err(ObjectiveError::Unsupported("expected at least one term, found none".to_owned()));
        }
        let objectives: Result<Vec<_>, _> = terms.iter().map(|t| registry::build(&t.name, &t.params)).collect();
        let objectives = objectives?;
        let is_one = |apart: bool| {
            objectives
                .iter()
                .map(|objective| objective.needs())
                .any(|n| n.mismatched_pairs && n.mismatched_apart == apart)
        };
        if is_one(true) && is_one(false) {
            let problem = "one term contrasts responses under two prompts, and another one sees those under other prompts \
                           only as a point of reference";
            return Err(ObjectiveError::Unsupported(problem.to_owned()));
        }
        Ok(Self { objectives, terms })
    }

    /// The terms as given.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }
}

impl TryFrom<Terms> for Combine {
    type Error = ObjectiveError;

    fn try_from(terms: Terms) -> Result<Self, ObjectiveError> {
        Self::new(terms.terms)
    }
}

impl From<Combine> for Terms {
    fn from(combine: Combine) -> Self {
        Self { terms: combine.terms }
    }
}

impl Clone for Combine {
    fn clone(&self) -> Self {
        // These terms have been built before.
        Self::new(self.terms.clone()).unwrap_or_else(|error| panic!("rebuilding valid terms: {error}"))
    }
}

impl Default for Combine {
    /// NCA plus SFT, both with weight 1.
    fn default() -> Self {
        let term = |name: &str| Term { name: name.to_owned(), weight: one(), params: Map::new() };
        Self::new(vec![term("nca"), term("sft")]).unwrap_or_else(|error| panic!("built-in objectives: {error}"))
    }
}

impl Objective for Combine {
    fn needs(&self) -> Needs {
        let needs: Vec<Needs> = self.objectives.iter().map(|objective| objective.needs()).collect();
        let apart = needs.iter().any(|n| n.mismatched_apart);
        // Columns are counted: two for a response that is scored under two prompts.
        let columns = |n: &Needs| if apart && !n.mismatched_pairs { 2 } else { 1 };
        Needs {
            reference: needs.iter().any(|n| n.reference),
            min_responses: needs.iter().map(|n| n.min_responses * columns(n)).max().unwrap_or(1),
            max_responses: needs.iter().filter_map(|n| Some(n.max_responses? * columns(n))).min(),
            pairs: needs.iter().any(|n| n.pairs),
            couples_batch: needs.iter().any(|n| n.couples_batch),
            holds_constant: needs.iter().any(|n| n.holds_constant),
            mismatched_pairs: needs.iter().any(|n| n.mismatched_pairs),
            mismatched_apart: apart,
        }
    }

    fn unconditional_rows(&self, rows: StepRows) -> Vec<bool> {
        let paired = self.objectives.iter().find(|objective| objective.needs().mismatched_pairs);
        paired.map_or_else(|| vec![false; rows.count], |objective| objective.unconditional_rows(rows))
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let mut parts = self.terms.iter().zip(&self.objectives).map(|(term, objective)| {
            let part = objective.evaluate(groups);
            ObjectiveOutput { loss: part.loss * term.weight.get(), ..part }
        });
        let Some(first) = parts.next() else { unreachable!("Combine::new refuses an empty list") };
        parts.fold(first, |sum, part| ObjectiveOutput { loss: sum.loss + part.loss, ..sum })
    }
}

fn one() -> NonNegative {
    NonNegative::constant(1.0)
}

register_objective! {
    Combine,
    name: "combine",
    summary: "A weighted sum of other objectives",
    formula: "Σ_i weight_i · L_i",
    paper: "none",
}
