//! Exact duplicates among groups.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::PromptGroup;

/// Groups with the same prompt and responses as an earlier one, whatever their rewards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Duplicates {
    /// Number of groups that repeat an earlier one.
    pub count: usize,
    /// Positions of the first such group and of the one it repeats.
    pub first: Option<(usize, usize)>,
}

impl Duplicates {
    /// Counts exact duplicates: the same prompt with the same responses in the same order.
    pub fn find(groups: &[PromptGroup]) -> Self {
        let mut seen: HashMap<u64, Vec<usize>> = HashMap::with_capacity(groups.len());
        let mut duplicates = Self::default();
        for (position, group) in groups.iter().enumerate() {
            // Hashes may collide, so the texts are compared as well.
            let candidates = seen.entry(text_hash(group)).or_default();
            match candidates.iter().find(|&&earlier| same_text(&groups[earlier], group)) {
                Some(&earlier) => {
                    duplicates.count += 1;
                    duplicates.first = duplicates.first.or(Some((position, earlier)));
                }
                None => candidates.push(position),
            }
        }
        duplicates
    }
}

fn text_hash(group: &PromptGroup) -> u64 {
    let mut hasher = DefaultHasher::new();
    group.prompt.hash(&mut hasher);
    group.chat.hash(&mut hasher);
    group.responses.iter().for_each(|response| response.text().hash(&mut hasher));
    hasher.finish()
}

fn same_text(a: &PromptGroup, b: &PromptGroup) -> bool {
    (&a.prompt, &a.chat) == (&b.prompt, &b.chat)
        && a.responses.len() == b.responses.len()
        && a.responses.iter().zip(&b.responses).all(|(a, b)| a.text() == b.text())
}
