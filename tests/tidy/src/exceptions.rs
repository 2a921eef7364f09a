//! `exceptions.toml`: permitted violations, with reasons.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::findings::{Finding, Rule};

/// The subjects of each rule's exceptions, with their reasons.
#[derive(Debug)]
pub(crate) struct Exceptions(BTreeMap<String, BTreeMap<String, String>>);

/// The result of subtracting the exceptions.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) failures: Vec<Finding>,
    pub(crate) num_excepted: usize,
    /// Exceptions that are no longer needed.
    pub(crate) stale: Vec<String>,
}

/// Reads the list.
///
/// # Errors
/// It cannot be read, is malformed, or names an unknown rule.
pub(crate) fn read(path: &Path) -> Result<Exceptions> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let exceptions: BTreeMap<String, BTreeMap<String, String>> =
        toml::from_str(&text).with_context(|| path.display().to_string())?;
    for (name, subjects) in &exceptions {
        if !Rule::ALL.iter().any(|rule| rule.name() == name) {
            bail!("{}: no rule is called {name:?}", path.display());
        }
        if let Some((subject, _)) = subjects.iter().find(|(_, reason)| reason.trim().is_empty()) {
            bail!("{}: {name}: {subject:?} has no reason", path.display());
        }
    }
    Ok(Exceptions(exceptions))
}

impl Exceptions {
    /// Subtracts the exceptions.
    pub(crate) fn judge(&self, findings: Vec<Finding>) -> Outcome {
        let is_excepted = |finding: &Finding| {
            self.0.get(finding.rule.name()).is_some_and(|subjects| subjects.contains_key(&finding.subject))
        };
        let needs = |name: &str, subject: &str| {
            findings.iter().any(|finding| finding.rule.name() == name && finding.subject == subject)
        };
        let subjects = self.0.iter().flat_map(|(name, subjects)| subjects.keys().map(move |subject| (name, subject)));
        let stale = subjects
            .filter(|(name, subject)| !needs(name, subject))
            .map(|(name, subject)| format!("exceptions.toml: {name}: {subject:?} is not needed any more; remove it"))
            .collect();
        let (excepted, failures): (Vec<Finding>, Vec<Finding>) = findings.into_iter().partition(is_excepted);
        Outcome { failures, num_excepted: excepted.len(), stale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(subject: &str) -> Finding {
        Finding { rule: Rule::Unsafe, subject: subject.to_owned(), message: String::new() }
    }

    #[test]
    fn an_exception_that_nothing_needs_is_named() {
        let exceptions: BTreeMap<_, BTreeMap<_, _>> =
            toml::from_str("[unsafe]\n\"a.rs\" = \"why\"\n\"b.rs\" = \"why\"\n").expect("TOML");
        let outcome = Exceptions(exceptions).judge(vec![finding("a.rs"), finding("c.rs")]);
        assert_eq!(outcome.failures.iter().map(|one| one.subject.as_str()).collect::<Vec<_>>(), ["c.rs"]);
        assert_eq!((outcome.num_excepted, outcome.stale.len()), (1, 1));
        assert!(outcome.stale[0].contains("b.rs"), "{:?}", outcome.stale);
    }
}
