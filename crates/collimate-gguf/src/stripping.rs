//! Spaces beside special tokens, which llama.cpp keeps or drops depending on the model's name.
//!
//! A tokenizer can drop the spaces after a special token: Phi-3's drops the line break that its template puts there.
//! llama.cpp has no key for that. It drops them if the model's name contains `phi-3` or `phi3`.

use collimate_text::ListedToken;

/// The parts of names that llama.cpp looks for.
const STRIPPED: [&str; 2] = ["phi-3", "phi3"];

/// How a tokenizer treats spaces beside special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stripping {
    /// Some special tokens drop the spaces after them.
    after: bool,
    /// Some drop the spaces before them, which llama.cpp never does.
    before: bool,
}

impl Stripping {
    /// Looks at the tokens that a tokenizer adds.
    pub(crate) fn from_tokens(added: &[ListedToken<'_>]) -> Self {
        let special = || added.iter().filter(|token| token.is_special);
        Self {
            after: special().any(|token| token.takes_space_after),
            before: special().any(|token| token.takes_space_before),
        }
    }

    /// Alters a name so that llama.cpp treats spaces as the tokenizer does.
    pub(crate) fn adapt(self, name: &str, notes: &mut Vec<String>) -> String {
        self.note_before(notes);
        match (self.after, is_stripped(name)) {
            (true, false) => format!("phi-3 {name}"),
            (false, true) => name.to_lowercase().replace("phi-3", "phi 3").replace("phi3", "phi 3"),
            _ => name.to_owned(),
        }
    }

    /// Keeps the requested name; notes if llama.cpp will treat spaces differently.
    pub(crate) fn accept(self, name: &str, notes: &mut Vec<String>) -> String {
        self.note_before(notes);
        let note = match (self.after, is_stripped(name)) {
            (true, false) => {
                "keeps spaces after special tokens, which this tokenizer drops, since it is not in the name"
            }
            (false, true) => "drops spaces after special tokens, which this tokenizer keeps, since it is in the name",
            _ => return name.to_owned(),
        };
        notes.push(format!("llama.cpp goes by \"phi-3\" in a model's name: it {note}"));
        name.to_owned()
    }

    fn note_before(self, notes: &mut Vec<String>) {
        if self.before {
            notes.push(
                "llama.cpp keeps the spaces before special tokens, some of which this tokenizer drops".to_owned(),
            );
        }
    }
}

fn is_stripped(name: &str) -> bool {
    let name = name.to_lowercase();
    STRIPPED.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(true, "Phi-3-mini", "Phi-3-mini", 0)]
    #[case(true, "nca", "phi-3 nca", 1)]
    #[case(false, "nca", "nca", 0)]
    #[case(false, "my-Phi3", "my-phi 3", 1)]
    fn a_name_says_whether_spaces_are_dropped(
        #[case] after: bool,
        #[case] name: &str,
        #[case] adapted: &str,
        #[case] num_notes: usize,
    ) {
        let stripping = Stripping { after, before: false };
        let mut notes = Vec::new();
        assert_eq!((stripping.adapt(name, &mut notes).as_str(), notes.len()), (adapted, 0));
        assert_eq!((stripping.accept(name, &mut notes).as_str(), notes.len()), (name, num_notes));
    }

    #[test]
    fn only_special_tokens_count() {
        let token = |is_special, takes_space_after, takes_space_before| ListedToken {
            id: 0,
            text: "",
            is_special,
            takes_space_before,
            takes_space_after,
        };
        let of = |tokens: [ListedToken<'_>; 2]| Stripping::from_tokens(&tokens);
        let none = of([token(true, false, false), token(false, true, true)]);
        assert_eq!(none, Stripping { after: false, before: false });
        let both = of([token(true, true, false), token(true, false, true)]);
        assert_eq!(both, Stripping { after: true, before: true });
        let mut notes = Vec::new();
        both.adapt("phi3", &mut notes);
        assert_eq!(notes.len(), 1, "spaces before");
    }
}
