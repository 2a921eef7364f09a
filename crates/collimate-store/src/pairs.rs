//! Groups with the prompt of another one, for objectives that compare a response under two prompts.

use std::collections::HashMap;

use blake3::Hasher;
use collimate_text::TokenizedGroup;

use crate::error::StoreError;
use crate::groups::GroupStore;
use crate::head::GroupHead;

/// A group's responses after another prompt. They are numbered from the number of groups on, so that a group and a pair are
/// told apart by their numbers.
#[derive(Debug, Clone, Copy)]
struct Pair {
    /// The group with the responses.
    group: u32,
    /// The group with the prompt; `None` for the null prompt.
    prompt: Option<u32>,
    /// Number of the first response among those of all groups and pairs.
    first_response: u64,
}

/// The pairs of a run: every combination of responses and prompt that one of its micro-batches has, once.
#[derive(Debug)]
pub struct Pairs {
    /// The null prompt, if the model has one.
    null_prompt: Option<Vec<u32>>,
    /// A hash of each group's prompt.
    prompts: Vec<u64>,
    pairs: Vec<Pair>,
    by_key: HashMap<(u32, u64), u32>,
    num_responses: u64,
    /// Tokens of the longest response with its prompt.
    longest: usize,
}

impl Pairs {
    /// Reads the prompts of all groups.
    ///
    /// # Errors
    /// The groups cannot be read.
    pub fn new(store: &GroupStore, null_prompt: Option<u32>) -> Result<Self, StoreError> {
        let prompts = store.groups().map(|group| Ok(hash(&group?.prompt_ids))).collect::<Result<_, StoreError>>()?;
        Ok(Self {
            null_prompt: null_prompt.map(|token| vec![token]),
            prompts,
            pairs: Vec::new(),
            by_key: HashMap::new(),
            num_responses: store.totals().num_responses as u64,
            longest: store.totals().longest,
        })
    }

    /// Number of groups and pairs.
    pub fn len(&self) -> usize {
        self.prompts.len() + self.pairs.len()
    }

    /// Whether there is neither a group nor a pair.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Responses of all groups and pairs.
    pub fn num_responses(&self) -> usize {
        self.num_responses as usize
    }

    /// Tokens of the longest response with its prompt, of all groups and pairs.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Adds the pairs of a micro-batch of `groups`, some of which are taken under the null prompt alone.
    ///
    /// # Errors
    /// A group cannot be read.
    pub fn add(&mut self, store: &GroupStore, groups: &[usize], masked: &[bool]) -> Result<(), StoreError> {
        for (own, other) in self.prompts_of(groups, masked).collect::<Vec<_>>() {
            for (group, prompt) in [own, other] {
                let key = (group as u32, self.hash_of(prompt));
                let is_known = prompt == Some(group) || self.prompts[group] == key.1 || self.by_key.contains_key(&key);
                if is_known {
                    continue;
                }
                let head = store.head(group)?;
                let prompt_tokens = match prompt {
                    Some(other) => store.head(other)?.prompt_tokens,
                    None => 1,
                };
                let response = head.responses.iter().map(|response| response.tokens as usize).max().unwrap_or(0);
                self.longest = self.longest.max(prompt_tokens + response);
                self.by_key.insert(key, self.pairs.len() as u32);
                let prompt = prompt.map(|prompt| prompt as u32);
                self.pairs.push(Pair { group: group as u32, prompt, first_response: self.num_responses });
                self.num_responses += head.responses.len() as u64;
            }
        }
        Ok(())
    }

    /// The numbers of a micro-batch's groups, each under its own prompt or the null one, and after all of them those under
    /// their other prompts: the next group's, the first one's for the last, the null prompt for the masked. Where both prompts
    /// are the same, both numbers are.
    ///
    /// The micro-batch was [added](Self::add).
    pub fn numbers(&self, groups: &[usize], masked: &[bool]) -> Vec<usize> {
        let number = |(group, prompt): (usize, Option<usize>)| {
            let hash = self.hash_of(prompt);
            let pair = self.by_key.get(&(group as u32, hash)).filter(|_| self.prompts[group] != hash);
            pair.map_or(group, |pair| self.prompts.len() + *pair as usize)
        };
        let pairs: Vec<_> = self.prompts_of(groups, masked).collect();
        pairs.iter().map(|(own, _)| number(*own)).chain(pairs.iter().map(|(_, other)| number(*other))).collect()
    }

    /// Each group with its own prompt, and with the other one.
    fn prompts_of<'a>(
        &self,
        groups: &'a [usize],
        masked: &'a [bool],
    ) -> impl Iterator<Item = ((usize, Option<usize>), (usize, Option<usize>))> + 'a {
        let next = |at: usize| groups[(at + 1) % groups.len()];
        groups.iter().enumerate().map(move |(at, group)| match masked.get(at) {
            Some(true) => ((*group, None), (*group, None)),
            _ => ((*group, Some(*group)), (*group, Some(next(at)))),
        })
    }

    fn hash_of(&self, prompt: Option<usize>) -> u64 {
        match prompt {
            Some(group) => self.prompts[group],
            None => hash(self.null_prompt.as_deref().unwrap_or_default()),
        }
    }

    /// The group or pair with a number.
    ///
    /// # Errors
    /// As [`GroupStore::group`].
    pub fn group(&self, store: &GroupStore, number: usize) -> Result<TokenizedGroup, StoreError> {
        let Some(pair) = self.pair(number) else { return store.group(number) };
        let group = store.group(pair.group as usize)?;
        let (prompt_ids, images) = match pair.prompt {
            Some(prompt) => {
                let other = store.group(prompt as usize)?;
                (other.prompt_ids, other.images)
            }
            None => (self.null_prompt.clone().unwrap_or_default(), Vec::new()),
        };
        Ok(TokenizedGroup { prompt_ids, images, num_prompt_cut: 0, ..group })
    }

    /// The same without its tokens.
    ///
    /// # Errors
    /// As [`GroupStore::head`].
    pub fn head(&self, store: &GroupStore, number: usize) -> Result<GroupHead, StoreError> {
        let Some(pair) = self.pair(number) else { return store.head(number) };
        let head = store.head(pair.group as usize)?;
        let (prompt_tokens, image_tokens) = match pair.prompt {
            Some(prompt) => {
                let other = store.head(prompt as usize)?;
                (other.prompt_tokens, other.image_tokens)
            }
            None => (self.null_prompt.as_ref().map_or(0, Vec::len), 0),
        };
        Ok(GroupHead { prompt_tokens, image_tokens, num_prompt_cut: 0, first_response: pair.first_response, ..head })
    }

    /// The group that a number's responses are of.
    pub fn group_of(&self, number: usize) -> usize {
        self.pair(number).map_or(number, |pair| pair.group as usize)
    }

    fn pair(&self, number: usize) -> Option<Pair> {
        self.pairs.get(number.checked_sub(self.prompts.len())?).copied()
    }
}

fn hash(prompt: &[u32]) -> u64 {
    let mut hasher = Hasher::new();
    prompt.iter().for_each(|id| _ = hasher.update(&id.to_le_bytes()));
    u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().unwrap_or(&[0; 8]))
}

#[cfg(test)]
mod tests {
    use collimate_data::DataFiles;
    use collimate_text::TokenizedResponse;

    use super::*;
    use crate::store_of;

    /// Groups with these prompts, one token each, and a response of two tokens.
    fn store(prompts: &[u32]) -> GroupStore {
        let group = |(index, prompt): (usize, &u32)| TokenizedGroup {
            index,
            line: index + 1,
            prompt_ids: vec![*prompt],
            responses: vec![TokenizedResponse { ids: vec![index as u32, 99], reward: 1.0, num_cut: 0 }],
            ..TokenizedGroup::default()
        };
        store_of(&prompts.iter().enumerate().map(group).collect::<Vec<_>>(), &DataFiles::default()).expect("a store")
    }

    #[test]
    fn each_response_stands_under_its_own_prompt_and_the_next_ones() {
        let store = store(&[5, 5, 7, 8]);
        let mut pairs = Pairs::new(&store, Some(40)).expect("readable groups");
        let (rows, masked) = ([0, 1, 2, 3], [false, false, true, false]);
        pairs.add(&store, &rows, &masked).expect("readable groups");
        let numbers = pairs.numbers(&rows, &masked);
        let group = |number: usize| pairs.group(&store, number).expect("a group");
        let prompts: Vec<u32> = numbers.iter().map(|number| group(*number).prompt_ids[0]).collect();
        // A masked row's own prompt stays the other one of the row before.
        assert_eq!(prompts, [5, 5, 40, 8, 5, 7, 40, 5]);
        let responses: Vec<u32> = numbers.iter().map(|number| group(*number).responses[0].ids[0]).collect();
        assert_eq!(responses, [0, 1, 2, 3, 0, 1, 2, 3]);
        // Where both prompts are the same, the numbers are.
        let same: Vec<bool> = (0..4).map(|row| numbers[row] == numbers[row + 4]).collect();
        assert_eq!(same, [true, false, true, false]);
        assert_eq!(numbers.iter().map(|number| pairs.group_of(*number)).collect::<Vec<_>>(), [0, 1, 2, 3, 0, 1, 2, 3]);
    }

    #[test]
    fn a_pair_that_comes_again_keeps_its_number_and_has_responses_of_its_own() {
        let store = store(&[5, 7]);
        let mut pairs = Pairs::new(&store, None).expect("readable groups");
        for rows in [[0, 1], [1, 0], [0, 1]] {
            pairs.add(&store, &rows, &[]).expect("readable groups");
        }
        assert_eq!((pairs.len(), pairs.num_responses(), pairs.longest()), (4, 4, 3));
        assert_eq!(pairs.numbers(&[0, 1], &[]), [0, 1, 2, 3]);
        assert_eq!(pairs.numbers(&[1, 0], &[]), [1, 0, 3, 2]);
        let heads = [0, 1, 2, 3].map(|number| pairs.head(&store, number).expect("a head"));
        assert_eq!(heads.map(|head| head.first_response), [0, 1, 2, 3]);
    }
}
