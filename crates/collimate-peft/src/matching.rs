//! Which modules a name, a pattern or a layer stands for, as PEFT decides it.

use std::fmt;

use fancy_regex::{Regex, RegexBuilder};

/// Longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 10_000;
/// Largest compiled pattern, in bytes.
const MAX_COMPILED_BYTES: usize = 1 << 20;
/// Most steps back that a match may take. Patterns of files are not trusted.
const MAX_BACKTRACKS: usize = 100_000;

/// A regular expression, as Python's `re` reads it.
#[derive(Debug, Clone)]
pub struct ModulePattern {
    text: String,
    /// `None` if it is not understood here.
    regex: Option<Regex>,
}

impl PartialEq for ModulePattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for ModulePattern {}

impl ModulePattern {
    /// A pattern for the whole name of a module: `re.fullmatch`.
    pub fn new(text: &str) -> Self {
        Self::wrapped(text, &format!(r"\A(?:{text})\z"))
    }

    /// A pattern for the name of a module, or for what follows a dot in it: a key of `rank_pattern`.
    pub(crate) fn ending(text: &str) -> Self {
        Self::wrapped(text, &format!(r"\A(?:.*\.)?(?:{text})\z"))
    }

    /// A pattern before the number of a layer: `layers`.
    pub fn before_number(text: &str) -> Self {
        Self::wrapped(text, &format!(r"\A(?:|.*?\.){text}\.(?P<idx>\d+)\."))
    }

    fn wrapped(text: &str, whole: &str) -> Self {
        let regex = (text.len() <= MAX_PATTERN_BYTES).then(|| {
            let mut builder = RegexBuilder::new(whole);
            builder.delegate_size_limit(MAX_COMPILED_BYTES).backtrack_limit(MAX_BACKTRACKS).build().ok()
        });
        Self { text: text.to_owned(), regex: regex.flatten() }
    }

    /// The pattern itself.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it could be compiled.
    pub fn is_understood(&self) -> bool {
        self.regex.is_some()
    }

    /// Whether it matches a module's name.
    pub fn matches(&self, module: &str) -> bool {
        self.regex.as_ref().is_some_and(|regex| regex.is_match(module).unwrap_or(false))
    }

    fn layer(&self, module: &str) -> Option<usize> {
        let found = self.regex.as_ref()?.captures(module).ok()??;
        found.name("idx")?.as_str().parse().ok()
    }
}

/// Modules by their names or by a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleNames {
    /// Modules whose full name, or a part of it after a dot up to its end, is listed: `q_proj`, `self_attn.q_proj`.
    Names(Vec<String>),
    /// Modules whose full name the pattern matches.
    Pattern(ModulePattern),
}

impl ModuleNames {
    /// Whether a module is among them.
    pub fn matches(&self, module: &str) -> bool {
        match self {
            Self::Names(names) => names.iter().any(|name| ends_in(module, name)),
            Self::Pattern(pattern) => pattern.matches(module),
        }
    }
}

impl fmt::Display for ModuleNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names(names) => f.write_str(&names.join(", ")),
            Self::Pattern(pattern) => f.write_str(pattern.text()),
        }
    }
}

/// A value for the modules that a pattern matches (`rank_pattern`, `alpha_pattern`).
#[derive(Debug, Clone, PartialEq)]
pub struct ByPattern<T>(pub(crate) Vec<(ModulePattern, T)>);

impl<T> Default for ByPattern<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy> ByPattern<T> {
    /// Values by pattern; the first pattern that matches decides. A pattern matches the whole name of a module, or what
    /// follows a dot in it.
    ///
    /// # Errors
    /// The first pattern that is not understood.
    pub fn new(values: impl IntoIterator<Item = (String, T)>) -> Result<Self, String> {
        let compiled = values.into_iter().map(|(text, value)| {
            let pattern = ModulePattern::ending(&text);
            if pattern.is_understood() { Ok((pattern, value)) } else { Err(text) }
        });
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// The patterns and their values, in order.
    pub fn values(&self) -> Vec<(String, T)> {
        self.0.iter().map(|(pattern, value)| (pattern.text().to_owned(), *value)).collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value for a module, if any pattern matches it.
    pub fn get(&self, module: &str) -> Option<T> {
        self.0.iter().find(|(pattern, _)| pattern.matches(module)).map(|(_, value)| *value)
    }
}

/// Some of a model's layers, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerChoice {
    /// The layers (`layers_to_transform`).
    pub layers: Vec<usize>,
    /// What stands before a layer's number in a module's name (`layers_pattern`); if empty, any one name.
    pub before: Vec<ModulePattern>,
}

impl LayerChoice {
    /// Whether a module is in one of the layers.
    pub(crate) fn contains(&self, module: &str) -> bool {
        let layer = match self.before.is_empty() {
            true => first_number(module),
            false => self.before.iter().find_map(|pattern| pattern.layer(module)),
        };
        layer.is_some_and(|layer| self.layers.contains(&layer))
    }
}

/// The first part of a name that is a number and has two parts before it: PEFT's `.*?\.[^.]*\.(\d+)\.`.
fn first_number(module: &str) -> Option<usize> {
    let parts: Vec<&str> = module.split('.').collect();
    let inner = parts.len().checked_sub(1)?;
    let is_number = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    parts[..inner].iter().skip(2).find(|part| is_number(part))?.parse().ok()
}

/// Whether `module` is `name` or ends in a dot and `name`.
pub(crate) fn ends_in(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const QUERIES: &str = "model.layers.1.self_attn.q_proj";

    #[rstest]
    #[case(r"model\.layers\.1\..*\.(q_proj|up_proj)", true)]
    #[case(r".*\.(?:q_proj|v_proj)", true)]
    #[case(r"(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:q_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|v_proj)))", true)]
    #[case(r".*\.(?!k_proj)\w_proj", true)]
    #[case(r".*\.(?!q_proj)\w_proj", false)]
    #[case("q_proj", false)]
    #[case(r"(.*", false)]
    fn patterns_match_whole_names(#[case] pattern: &str, #[case] expected: bool) {
        assert_eq!(ModulePattern::new(pattern).matches(QUERIES), expected);
    }

    #[rstest]
    #[case("q_proj", true)]
    #[case(r"layers\.1\.self_attn\.\w_proj", true)]
    #[case("^model.layers.1.self_attn.q_proj", true)]
    #[case("v_proj|q_proj", true)]
    #[case("proj", false)]
    fn keys_of_rank_pattern_match_what_follows_a_dot(#[case] pattern: &str, #[case] expected: bool) {
        assert_eq!(ModulePattern::ending(pattern).matches(QUERIES), expected);
    }

    #[rstest]
    #[case(&[], QUERIES, true)]
    #[case(&[], "model.layers.2.mlp.experts.1.w1", false)]
    #[case(&["layers"], QUERIES, true)]
    #[case(&["h", "layers"], QUERIES, true)]
    #[case(&["blocks"], QUERIES, false)]
    #[case(&[], "lm_head", false)]
    fn layers_are_found_by_the_first_number(#[case] before: &[&str], #[case] module: &str, #[case] expected: bool) {
        let before = before.iter().map(|text| ModulePattern::before_number(text)).collect();
        assert_eq!(LayerChoice { layers: vec![1], before }.contains(module), expected);
    }

    #[test]
    fn a_pattern_that_would_never_end_matches_nothing() {
        let pattern = ModulePattern::new(r"(?=(a+)+b)(a|aa)+c\1");
        assert!(!pattern.matches(&"a".repeat(60)));
        assert!(!ModulePattern::new(&"a".repeat(MAX_PATTERN_BYTES + 1)).is_understood());
    }
}
