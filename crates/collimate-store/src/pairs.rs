//! Groups with the prompt of another one, for objectives that compare a response under two prompts.

use blake3::Hasher;
use collimate_text::TokenizedGroup;

use crate::error::StoreError;
use crate::groups::GroupStore;
use crate::head::GroupHead;

/// A group's responses after the prompt of another one, as its number says.
#[derive(Debug, Clone, Copy)]
struct Pair {
    /// The group with the responses.
    group: usize,
    /// The group with the prompt; `None` for the null prompt.
    prompt: Option<usize>,
    /// Which pair of the group it is: that of an epoch, counted from 0, or behind all epochs the one with the null prompt.
    which: usize,
}

/// The pairs of a run. None is listed: the number of a pair says what it is, and a micro-batch says which pairs it has, so that
/// memory does not grow with the steps.
///
/// In one epoch a group stands under one prompt besides its own, so there is a pair for each group and epoch. Groups have the
/// numbers before those of pairs.
#[derive(Debug)]
pub struct Pairs {
    /// The null prompt, if the model has one.
    null_prompt: Option<Vec<u32>>,
    /// A hash of each group's prompt.
    prompts: Vec<u64>,
    /// Epochs whose pairs differ.
    num_epochs: usize,
    num_responses: usize,
    /// Tokens of the longest prompt and the longest response together.
    longest: usize,
}

/// Bytes that the pairs of a run hold of each group: a hash, and a bit for each number that may be known.
pub fn pair_bytes(num_groups: usize, num_epochs: usize) -> u64 {
    (num_groups as u64).saturating_mul(size_of::<u64>() as u64 + 1 + (num_epochs as u64).div_ceil(8))
}

impl Pairs {
    /// Reads the prompts of all groups. In each of `num_epochs`, at least 1, groups may have other neighbors.
    ///
    /// # Errors
    /// The groups cannot be read.
    pub fn new(store: &GroupStore, null_prompt: Option<u32>, num_epochs: usize) -> Result<Self, StoreError> {
        let mut prompts = Vec::with_capacity(store.len());
        let (mut longest_prompt, mut longest_response) = (null_prompt.iter().count(), 0);
        for group in store.groups() {
            let group = group?;
            prompts.push(hash(&group.prompt_ids));
            longest_prompt = longest_prompt.max(group.prompt_ids.len());
            let responses = group.responses.iter().map(|response| response.ids.len());
            longest_response = longest_response.max(responses.max().unwrap_or(0));
        }
        Ok(Self {
            null_prompt: null_prompt.map(|token| vec![token]),
            prompts,
            num_epochs: num_epochs.max(1),
            num_responses: store.totals().num_responses,
            longest: longest_prompt + longest_response,
        })
    }

    fn num_groups(&self) -> usize {
        self.prompts.len()
    }

    /// Places for groups and pairs: see [`place`](Self::place).
    pub fn num_places(&self) -> usize {
        self.num_groups() * (self.num_epochs + 2)
    }

    /// Responses of all places.
    pub fn num_responses(&self) -> usize {
        self.num_responses * (self.num_epochs + 2)
    }

    /// Tokens of the longest prompt and the longest response: at least as many as any pair has.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The numbers of a micro-batch's groups, each under its own prompt or the null one, and after all of them those under
    /// their other prompts: the next group's, the first one's for the last, the null prompt for the masked. Where both prompts
    /// are the same, both numbers are.
    ///
    /// A group is in one micro-batch of an epoch.
    pub fn numbers(&self, epoch: usize, groups: &[usize], masked: &[bool]) -> Vec<usize> {
        let is_masked = |at: usize| masked.get(at) == Some(&true);
        let own = |(at, group): (usize, &usize)| if is_masked(at) { self.number(*group, None, epoch) } else { *group };
        let other = |(at, group): (usize, &usize)| {
            let next = groups[(at + 1) % groups.len()];
            match is_masked(at) {
                true => self.number(*group, None, epoch),
                false if self.prompts[next] == self.prompts[*group] => *group,
                false => self.number(*group, Some(next), epoch),
            }
        };
        groups.iter().enumerate().map(own).chain(groups.iter().enumerate().map(other)).collect()
    }

    /// Behind the groups, pairs by epoch, group and prompt, as digits of a number.
    fn number(&self, group: usize, prompt: Option<usize>, epoch: usize) -> usize {
        let count = self.num_groups();
        let which = if prompt.is_some() { epoch.min(self.num_epochs - 1) } else { self.num_epochs };
        count + (which * count + group) * (count + 1) + prompt.unwrap_or(count)
    }

    fn pair(&self, number: usize) -> Option<Pair> {
        let count = self.num_groups();
        let digits = number.checked_sub(count)?;
        let (pair, prompt) = (digits / (count + 1), digits % (count + 1));
        Some(Pair { group: pair % count, prompt: (prompt < count).then_some(prompt), which: pair / count })
    }

    /// The place of a number among [`num_places`](Self::num_places).
    pub fn place(&self, number: usize) -> usize {
        self.pair(number).map_or(number, |pair| self.num_groups() * (pair.which + 1) + pair.group)
    }

    /// The group or pair with a number.
    ///
    /// # Errors
    /// As [`GroupStore::group`].
    pub fn group(&self, store: &GroupStore, number: usize) -> Result<TokenizedGroup, StoreError> {
        let Some(pair) = self.pair(number) else { return store.group(number) };
        let group = store.group(pair.group)?;
        let (prompt_ids, images) = match pair.prompt {
            Some(prompt) => {
                let other = store.group(prompt)?;
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
        let head = store.head(pair.group)?;
        let (prompt_tokens, image_tokens) = match pair.prompt {
            Some(prompt) => {
                let other = store.head(prompt)?;
                (other.prompt_tokens, other.image_tokens)
            }
            None => (self.null_prompt.as_ref().map_or(0, Vec::len), 0),
        };
        let first_response = head.first_response + (self.num_responses * (pair.which + 1)) as u64;
        Ok(GroupHead { prompt_tokens, image_tokens, num_prompt_cut: 0, first_response, ..head })
    }

    /// The group that a number's responses are of.
    pub fn group_of(&self, number: usize) -> usize {
        self.pair(number).map_or(number, |pair| pair.group)
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
        let pairs = Pairs::new(&store, Some(40), 1).expect("readable groups");
        let (rows, masked) = ([0, 1, 2, 3], [false, false, true, false]);
        let numbers = pairs.numbers(0, &rows, &masked);
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
    fn every_pair_of_a_run_has_a_place_and_responses_of_its_own() {
        let store = store(&[5, 7, 9]);
        let pairs = Pairs::new(&store, Some(40), 2).expect("readable groups");
        let mut seen = std::collections::BTreeMap::new();
        for (epoch, rows) in [[0, 1, 2], [2, 1, 0]].iter().enumerate() {
            for masked in [[false; 3], [true; 3]] {
                for number in pairs.numbers(epoch, rows, &masked) {
                    let group = pairs.group(&store, number).expect("a group");
                    let head = pairs.head(&store, number).expect("a head");
                    assert!(pairs.place(number) < pairs.num_places());
                    assert!((head.first_response as usize) < pairs.num_responses());
                    let what = (group.prompt_ids[0], group.responses[0].ids[0], head.first_response);
                    // A place is of one pair, however often it comes.
                    assert_eq!(*seen.entry(pairs.place(number)).or_insert(what), what);
                }
            }
        }
        let responses: std::collections::BTreeSet<u64> = seen.values().map(|(_, _, first)| *first).collect();
        // Three groups, two pairs of each, and each under the null prompt.
        assert_eq!((seen.len(), responses.len(), pairs.longest()), (12, 12, 1 + 2));
    }
}
