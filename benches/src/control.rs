//! Tables of the control: what sharing the prompt brings, and what else.

use crate::by_type::{by_type, model};
use crate::figures::{gigabytes, median, table};
use crate::result::{CONTROL, EntrantResult, OURS, PEER, WorkResult};

/// Ours, the control and the recipe, of one work.
struct Contest<'a> {
    result: &'a WorkResult,
    ours: &'a EntrantResult,
    control: &'a EntrantResult,
    recipe: Option<&'a EntrantResult>,
}

impl<'a> Contest<'a> {
    fn of(result: &'a WorkResult) -> Option<Self> {
        let (ours, control) = (result.entrant(OURS)?, result.entrant(CONTROL)?);
        Some(Self { result, ours, control, recipe: result.entrant(PEER) })
    }

    /// The median ratio of single steps: how many times as fast `ours` is.
    fn ratio(&self, ours: &[f64], other: &[f64]) -> String {
        format!("{:.2}×", median(&self.result.step_ratios(ours, other)))
    }

    /// A ratio to the recipe, if it took part.
    fn to_recipe(&self, ours: &[f64]) -> String {
        self.recipe.map_or_else(|| "–".to_owned(), |recipe| self.ratio(ours, &recipe.cold()))
    }

    /// Seconds of a step as the median, cold or warm.
    fn seconds(&self, steps: &[f64]) -> String {
        format!("{:.2}", median(&steps[self.result.num_warmup..]))
    }

    fn row(&self) -> Vec<String> {
        let Self { result, ours, control, recipe } = self;
        let memory = recipe.iter().chain([control, ours]).map(|entrant| gigabytes(entrant.peak_rss_bytes));
        vec![
            result.title.clone(),
            model(result),
            recipe.map_or_else(|| "–".to_owned(), |recipe| self.seconds(&recipe.cold())),
            format!("{}, {}", self.seconds(&control.cold()), self.seconds(&control.warm())),
            format!("{}, {}", self.seconds(&ours.cold()), self.seconds(&ours.warm())),
            self.to_recipe(&control.cold()),
            self.to_recipe(&control.warm()),
            self.ratio(&ours.cold(), &control.cold()),
            self.ratio(&ours.warm(), &control.warm()),
            memory.collect::<Vec<_>>().join(", "),
            (ours.steps.len() - result.num_warmup).to_string(),
            result.disturbance().map_or_else(|| "?".to_owned(), |part| format!("{:.0} %", 100.0 * part)),
        ]
    }
}

/// Tables of the results in which the control took part, one for each type of numbers; empty without any.
pub fn tables(results: &[&WorkResult]) -> String {
    let results: Vec<&WorkResult> = results.iter().copied().filter(|result| Contest::of(result).is_some()).collect();
    let header = [
        "work",
        "model",
        "step s: recipe",
        "packed, cold and warm",
        "collimate, cold and warm",
        "packing",
        "and cache",
        "ours to packed, cold",
        "warm",
        "peak memory, as the steps",
        "steps",
        "others at most",
    ];
    by_type(&results, |name, results| {
        let rows: Vec<Vec<String>> = results.iter().filter_map(|result| Some(Contest::of(result)?.row())).collect();
        format!("In {name}:\n\n{}", table(&header, &rows))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::{entrant, result};

    #[test]
    fn what_packing_and_what_the_kernels_bring_is_told_apart() {
        // After the warm-up, ours takes 2, 2 and 3 s and 1, 2 and 1 s for the reference, the recipe 12, 8 and 16 s.
        let mut three = result();
        assert_eq!(tables(&[&three]), "", "no control");
        three.entrants.push(entrant(CONTROL, &[9.0, 2.0, 2.0, 2.0], &[9.0, 4.0, 6.0, 6.0], 50));
        let text = tables(&[&three.with_figures()]);
        let cells: Vec<&str> = text.lines().last().expect("a row").split('|').map(str::trim).collect();
        let expected = [
            "",
            "a work",
            "10m",
            "12.00",
            "8.00, 6.00",
            "4.00, 2.00",
            "2.00×",
            "2.67×",
            "2.00×",
            "2.00×",
            "0.00 GB, 0.00 GB, 0.00 GB",
            "3",
            "?",
            "",
        ];
        assert_eq!(cells, expected, "{text}");
    }
}
