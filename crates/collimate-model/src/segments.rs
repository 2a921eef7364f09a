//! The attention segments of a pack.

use collimate_backend::Segment;
use collimate_text::GroupBatch;

/// One segment per prompt and per response; a response with a prompt of its own forms a single segment with it.
///
/// A response that is alone because its group is divided keeps its two segments: sums of attention are divided by segments,
/// and a response has the same bits in every part of its group.
pub(crate) fn segments(batch: &GroupBatch) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut responses = batch.responses().peekable();
    for span in &batch.spans {
        let start = segments.len();
        while let Some(response) = responses.next_if(|response| span.contains(&response.prompt.start)) {
            if !response.shares_prompt {
                segments.push(Segment { context: 0..0, rows: response.prompt.start..response.tokens.end });
                continue;
            }
            if segments.len() == start {
                segments.push(Segment { context: 0..0, rows: response.prompt.clone() });
            }
            segments.push(Segment { context: response.prompt.clone(), rows: response.tokens.clone() });
        }
        if segments.len() == start {
            segments.push(Segment { context: 0..0, rows: span.clone() });
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use collimate_text::{TokenizedGroup, TokenizedResponse};

    use super::*;

    fn group(lengths: &[usize]) -> TokenizedGroup {
        let response = |&len: &usize| TokenizedResponse { ids: vec![1; len], reward: 0.0, num_cut: 0 };
        TokenizedGroup {
            index: 0,
            line: 1,
            prompt_ids: vec![1; 3],
            responses: lengths.iter().map(response).collect(),
            ..TokenizedGroup::default()
        }
    }

    fn segment(context: std::ops::Range<usize>, rows: std::ops::Range<usize>) -> Segment {
        Segment { context, rows }
    }

    #[test]
    fn a_shared_prompt_is_the_context_of_its_responses() {
        let batch = GroupBatch::shared([&group(&[2, 4]), &group(&[1, 1])]);
        let first = [segment(0..0, 0..3), segment(0..3, 3..5), segment(0..3, 5..9)];
        let second = [segment(0..0, 9..12), segment(9..12, 12..13), segment(9..12, 13..14)];
        assert_eq!(segments(&batch), [first, second].concat());
    }

    #[test]
    fn a_response_with_its_own_prompt_is_one_segment() {
        let separate = GroupBatch::separate([&group(&[2, 4])]);
        assert_eq!(segments(&separate), [segment(0..0, 0..5), segment(0..0, 5..12)]);
        assert_eq!(segments(&GroupBatch::shared([&group(&[2])])), [segment(0..0, 0..5)]);
        let prompts = GroupBatch::prompts(&[vec![1, 2].into(), vec![3].into()]);
        assert_eq!(segments(&prompts), [segment(0..0, 0..2), segment(0..0, 2..3)]);
    }

    #[test]
    fn a_response_of_a_divided_group_has_the_segments_that_it_has_with_the_others() {
        let alone = GroupBatch::parts([(&group(&[2, 4]), 1..2)], true);
        assert_eq!(segments(&alone), [segment(0..0, 0..3), segment(0..3, 3..7)]);
    }
}
