//! Groups laid out as one list of tokens, without padding.

use std::ops::Range;

use collimate_images::PromptImage;

use crate::placed_image::axes_of_prompt;
use crate::{EncodedPrompt, PlacedImage, TokenizedGroup};

/// The tokens of one response in a [`GroupBatch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseSpan {
    /// Its prompt's tokens, as a range of the batch.
    pub prompt: Range<usize>,
    /// Its own tokens, as a range of the batch.
    pub tokens: Range<usize>,
    /// Index among the responses of its group, from 0.
    pub number: usize,
    /// Whether its prompt's tokens may belong to other responses of its group too, here or in another part of it.
    pub shares_prompt: bool,
}

/// An image in a [`GroupBatch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchImage {
    /// The image.
    pub image: PromptImage,
    /// Its tokens, as a range of the batch.
    pub tokens: Range<usize>,
}

/// The different images of a [`GroupBatch`], and where their tokens stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRows<'a> {
    /// Each image once, however often its tokens stand in the batch.
    pub images: Vec<&'a PromptImage>,
    /// Tokens of all of these together.
    pub num_tokens: usize,
    /// Tokens of the batch that are images'.
    pub rows: Vec<u32>,
    /// For each of them its number among the tokens of `images`.
    pub from: Vec<u32>,
}

/// Groups as one list of tokens: a prompt, its responses, the next prompt, and so on.
///
/// The positions of each response continue those of the prompt, and it may attend only to the prompt and to itself.
///
/// # Shapes
/// `tokens` and `positions` are \[N\], N = Σ over groups of P + Σ R.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupBatch {
    /// Token ids, \[N\].
    pub tokens: Vec<u32>,
    /// Position of each token in its own sequence (prompt + one response), \[N\].
    pub positions: Vec<u32>,
    /// The responses of each group, B lists of K.
    pub groups: Vec<Vec<ResponseSpan>>,
    /// Index of each group in the data, \[B\].
    pub indices: Vec<usize>,
    /// The tokens of each group as a range of the batch, \[B\].
    pub spans: Vec<Range<usize>>,
    /// The images of all prompts, as often as their tokens stand in the batch.
    pub images: Vec<BatchImage>,
    /// Positions in time, row and column, \[N\]; empty without images, where all three are those of `positions`.
    pub axes: Vec<[u32; 3]>,
}

impl GroupBatch {
    /// Lays out groups with each prompt stored once for its K responses.
    pub fn shared<'a>(groups: impl IntoIterator<Item = &'a TokenizedGroup>) -> Self {
        Self::parts(groups.into_iter().map(|group| (group, 0..group.responses.len())), true)
    }

    /// Lays out each response with a copy of its prompt, as K separate sequences: the plain path, for comparison.
    pub fn separate<'a>(groups: impl IntoIterator<Item = &'a TokenizedGroup>) -> Self {
        Self::parts(groups.into_iter().map(|group| (group, 0..group.responses.len())), false)
    }

    /// Lays out a range of each group's responses, with the prompt stored once (`share_prompt`) or for each response.
    pub fn parts<'a>(parts: impl IntoIterator<Item = (&'a TokenizedGroup, Range<usize>)>, share_prompt: bool) -> Self {
        let mut batch = Self::empty();
        let parts: Vec<_> = parts.into_iter().collect();
        let has_images = parts.iter().any(|(group, _)| !group.images.is_empty());
        for (group, numbers) in parts {
            let (prompt_axes, next) = match has_images {
                true => axes_of_prompt(group.prompt_ids.len(), &group.images),
                false => (Vec::new(), 0),
            };
            let mut start = batch.tokens.len();
            let mut prompt = start..start;
            let mut responses = Vec::with_capacity(numbers.len());
            let shares_prompt = share_prompt && group.responses.len() > 1;
            for number in numbers {
                if responses.is_empty() || !share_prompt {
                    start = batch.tokens.len();
                    prompt = batch.push(&group.prompt_ids, 0);
                    batch.place(&group.images, prompt.start);
                    batch.axes.extend_from_slice(&prompt_axes);
                }
                let tokens = batch.push(&group.responses[number].ids, group.prompt_ids.len());
                if has_images {
                    batch.axes.extend((next..).take(tokens.len()).map(|position| [position; 3]));
                }
                responses.push(ResponseSpan { prompt: prompt.clone(), tokens, number, shares_prompt });
                if !share_prompt {
                    batch.spans.push(start..batch.tokens.len());
                }
            }
            if share_prompt && !responses.is_empty() {
                batch.spans.push(start..batch.tokens.len());
            }
            batch.groups.push(responses);
            batch.indices.push(group.index);
        }
        batch
    }

    /// Lays out prompts without responses, one span each: the start of generation.
    pub fn prompts(prompts: &[EncodedPrompt]) -> Self {
        let mut batch = Self::empty();
        let has_images = prompts.iter().any(|prompt| !prompt.images.is_empty());
        for EncodedPrompt { ids, images } in prompts {
            let span = batch.push(ids, 0);
            batch.place(images, span.start);
            if has_images {
                batch.axes.extend(axes_of_prompt(ids.len(), images).0);
            }
            batch.spans.push(span);
        }
        batch
    }

    /// Number of tokens, N.
    pub fn num_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// The different images of the batch, and where their tokens stand.
    pub fn image_rows(&self) -> ImageRows<'_> {
        let mut all = ImageRows { images: Vec::new(), num_tokens: 0, rows: Vec::new(), from: Vec::new() };
        let mut starts = Vec::new();
        for BatchImage { image, tokens } in &self.images {
            let known = all.images.iter().position(|known| *known == image);
            let number = known.unwrap_or_else(|| {
                all.images.push(image);
                starts.push(all.num_tokens);
                all.num_tokens += tokens.len();
                starts.len() - 1
            });
            all.rows.extend(tokens.clone().map(|row| row as u32));
            all.from.extend((starts[number]..).take(tokens.len()).map(|row| row as u32));
        }
        all
    }

    /// Number of responses over all groups.
    pub fn num_responses(&self) -> usize {
        self.groups.iter().map(Vec::len).sum()
    }

    /// The responses of all groups, group by group.
    pub fn responses(&self) -> impl Iterator<Item = &ResponseSpan> {
        self.groups.iter().flatten()
    }

    fn empty() -> Self {
        Self {
            tokens: Vec::new(),
            positions: Vec::new(),
            groups: Vec::new(),
            indices: Vec::new(),
            spans: Vec::new(),
            images: Vec::new(),
            axes: Vec::new(),
        }
    }

    /// Adds the images of a prompt that begins at a token of the batch.
    fn place(&mut self, images: &[PlacedImage], start: usize) {
        let placed = |placed: &PlacedImage| {
            let tokens = start + placed.tokens.start..start + placed.tokens.end;
            BatchImage { image: placed.image.clone(), tokens }
        };
        self.images.extend(images.iter().map(placed));
    }

    fn push(&mut self, ids: &[u32], first_position: usize) -> Range<usize> {
        let start = self.tokens.len();
        self.tokens.extend_from_slice(ids);
        self.positions.extend((first_position..first_position + ids.len()).map(|p| p as u32));
        start..self.tokens.len()
    }
}

#[cfg(test)]
mod tests {
    use collimate_images::{Grid, ImageSource};

    use super::*;
    use crate::TokenizedResponse;

    fn group() -> TokenizedGroup {
        let response = |ids: &[u32]| TokenizedResponse { ids: ids.to_vec(), reward: 0.0, num_cut: 0 };
        TokenizedGroup {
            index: 0,
            line: 1,
            prompt_ids: vec![10, 11, 12],
            num_prompt_cut: 0,
            images: Vec::new(),
            responses: vec![response(&[20, 2]), response(&[30, 31, 2])],
        }
    }

    #[test]
    fn the_prompt_is_stored_once_and_responses_continue_its_positions() {
        let batch = GroupBatch::shared([&group()]);
        assert_eq!(batch.tokens, [10, 11, 12, 20, 2, 30, 31, 2]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 4, 3, 4, 5]);
        assert_eq!(batch.groups[0][1], ResponseSpan { prompt: 0..3, tokens: 5..8, number: 1, shares_prompt: true });
        assert_eq!(batch.spans, std::slice::from_ref(&(0..8)));
    }

    #[test]
    fn a_part_of_a_group_holds_its_prompt_and_those_responses() {
        let batch = GroupBatch::parts([(&group(), 1..2)], true);
        assert_eq!(batch.tokens, [10, 11, 12, 30, 31, 2]);
        let alone = ResponseSpan { prompt: 0..3, tokens: 3..6, number: 1, shares_prompt: true };
        assert_eq!(batch.groups[0], [alone]);
        assert_eq!(batch.spans, std::slice::from_ref(&(0..6)));
    }

    #[test]
    fn an_image_stands_with_its_prompt_and_is_one_however_often_it_does() {
        let grid = Grid { rows: 1, columns: 2 };
        let source = ImageSource::Bytes([0].into());
        let image = PromptImage::known(source, [0; 32], Grid { rows: 2, columns: 4 }, [28, 56]);
        let images = vec![PlacedImage { image: image.clone(), tokens: 1..3, grid }];
        let pictured = TokenizedGroup { images, ..group() };
        let batch = GroupBatch::shared([&group(), &pictured]);
        assert_eq!(batch.images, [BatchImage { image: image.clone(), tokens: 9..11 }]);
        // Text alone has the same position on all axes; after the image, two tokens wide, responses go on at 3.
        let first = [0, 1, 2, 3, 4, 3, 4, 5].map(|position| [position; 3]);
        let second = [[0; 3], [1, 1, 1], [1, 1, 2], [3; 3], [4; 3], [3; 3], [4; 3], [5; 3]];
        assert_eq!(batch.axes, [first, second].concat());
        let separate = GroupBatch::separate([&pictured]);
        let rows = separate.image_rows();
        assert_eq!((rows.images, rows.num_tokens), (vec![&image], 2));
        assert_eq!((rows.rows, rows.from), (vec![1, 2, 6, 7], vec![0, 1, 0, 1]));
        assert!(GroupBatch::shared([&group()]).axes.is_empty());
    }

    #[test]
    fn separate_sequences_repeat_the_prompt() {
        let batch = GroupBatch::separate([&group()]);
        assert_eq!(batch.tokens, [10, 11, 12, 20, 2, 10, 11, 12, 30, 31, 2]);
        assert_eq!(batch.spans, [0..5, 5..11]);
        assert_eq!(batch.groups[0][1], ResponseSpan { prompt: 5..8, tokens: 8..11, number: 1, shares_prompt: false });
    }
}
