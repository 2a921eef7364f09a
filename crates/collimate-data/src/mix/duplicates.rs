//! Groups that are there twice.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::PromptGroup;

/// Groups with the prompt and the responses of an earlier one, whatever their rewards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Duplicates {
    /// How many groups repeat an earlier one.
    pub count: usize,
    /// Places in the list of the first that does, and of what it repeats.
    pub first: Option<(usize, usize)>,
}

impl Duplicates {
    /// Counts exact duplicates: the same prompt with the same responses in the same order.
    pub fn of(groups: &[PromptGroup]) -> Self {
        let mut seen: HashMap<u64, Vec<usize>> = HashMap::with_capacity(groups.len());
        let mut duplicates = Self::default();
        for (place, group) in groups.iter().enumerate() {
            let alike = seen.entry(text_hash(group)).or_default();
            match alike.iter().find(|&&earlier| same_text(&groups[earlier], group)) {
                Some(&earlier) => {
                    duplicates.count += 1;
                    duplicates.first = duplicates.first.or(Some((place, earlier)));
                }
                None => alike.push(place),
            }
        }
        duplicates
    }
}

fn text_hash(group: &PromptGroup) -> u64 {
    let mut hasher = DefaultHasher::new();
    group.prompt.hash(&mut hasher);
    group.responses.iter().for_each(|response| response.content.hash(&mut hasher));
    hasher.finish()
}

/// Hashes may agree by chance.
fn same_text(a: &PromptGroup, b: &PromptGroup) -> bool {
    a.prompt == b.prompt
        && a.responses.len() == b.responses.len()
        && a.responses.iter().zip(&b.responses).all(|(a, b)| a.content == b.content)
}
