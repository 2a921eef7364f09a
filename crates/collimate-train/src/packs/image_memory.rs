//! The memory of a prompt's images, in tokens.

use collimate_text::GroupLengths;

use super::PassBudget;
use crate::dataset::DataSet;
use crate::error::TrainError;

impl PassBudget {
    /// Tokens whose memory is that of the vision tower for a prompt's images.
    pub(super) fn image_charge(&self, group: &impl GroupLengths) -> usize {
        self.charge_of(group.image_tokens())
    }

    pub(super) fn charge_of(&self, image_tokens: usize) -> usize {
        let bytes = (image_tokens as u64).saturating_mul(self.costs.per_image_token);
        usize::try_from(bytes.div_ceil(self.costs.per_token.max(1))).unwrap_or(usize::MAX)
    }

    /// Tokens that the longest response with its prompt counts as in memory.
    pub(crate) fn longest_charge(&self, data: &DataSet) -> Result<usize, TrainError> {
        let longest = data.longest();
        if self.costs.per_image_token == 0 {
            return Ok(longest);
        }
        (0..data.len()).try_fold(longest, |longest, index| {
            let head = data.head(index)?;
            let response = head.responses.iter().map(|response| response.tokens as usize).max().unwrap_or(0);
            Ok(longest.max(head.prompt_tokens + self.image_charge(&head) + response))
        })
    }
}
