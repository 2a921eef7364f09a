//! Results told apart by the type of their numbers, which no table mixes.

use crate::result::WorkResult;

/// What `write` makes of the results of each type of numbers, in the order of the types' first results.
pub(crate) fn by_type(results: &[&WorkResult], write: impl Fn(&str, &[&WorkResult]) -> String) -> String {
    let mut names: Vec<String> = Vec::new();
    for name in results.iter().map(|result| result.number_type()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let of_type = |name: &String| {
        let same: Vec<&WorkResult> = results.iter().copied().filter(|result| result.number_type() == *name).collect();
        write(name, &same)
    };
    names.iter().map(of_type).collect::<Vec<_>>().join("\n")
}

/// The shape, and the backend unless it is the default.
pub(crate) fn model(result: &WorkResult) -> String {
    match result.backend.as_str() {
        "flex" => result.shape.clone(),
        backend => format!("{}, {backend}", result.shape),
    }
}
