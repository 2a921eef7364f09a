//! TRL's preference pairs: `{"prompt"?, "chosen", "rejected", "score_chosen"?, "score_rejected"?}`.

use serde_json::Value;

use super::conversation;
use super::node::{Node, RowError, Signal};
use super::raw::{RawGroup, RawResponse, Reply};
use super::spec::{LayoutSpec, Numbers, has};

/// In rows without scores the chosen response has reward 1, the rejected one 0.
pub(super) const UNSCORED: &str = "chosen 1, rejected 0";

/// Columns of scores, of which a row has one pair at most.
const SCORES: [[&str; 3]; 7] = [
    ["score_chosen", "score_rejected", "score_chosen, score_rejected"],
    ["chosen_score", "rejected_score", "chosen_score, rejected_score"],
    ["reward_chosen", "reward_rejected", "reward_chosen, reward_rejected"],
    ["chosen_reward", "rejected_reward", "chosen_reward, rejected_reward"],
    ["chosen_rating", "rejected_rating", "chosen_rating, rejected_rating"],
    ["chosen-rating", "rejected-rating", "chosen-rating, rejected-rating"],
    ["rating_chosen", "rating_rejected", "rating_chosen, rating_rejected"],
];
/// Scores within the responses' messages.
const SCORES_IN_MESSAGES: [(&str, &str); 2] =
    [("score", "chosen[].score, rejected[].score"), ("reward", "chosen[].reward, rejected[].reward")];
const EXPECTED_SCORE: &str = "a finite number, like the other response's";

pub(super) static SPEC: LayoutSpec = LayoutSpec {
    name: "preference",
    fields: "prompt (or implicit in conversations), chosen, rejected",
    prompt: "`prompt`, or the messages that both begin with",
    responses: "`chosen`, `rejected`",
    rewards: "`score_chosen`, `score_rejected` (or `chosen_score`, `chosen_reward`, `chosen_rating`, `rating_chosen` and \
              their counterparts), else 1 and 0",
    numbers: Numbers::Scores,
    reads: &[],
    matches: |row| has(row, &["chosen", "rejected"]),
    parse,
};

fn parse(row: &Node) -> Result<RawGroup, RowError> {
    let expected = "a string or a list of messages";
    let completions = [row.require("chosen", expected)?, row.require("rejected", expected)?];
    let conversation = conversation::split(row, &completions)?;
    let (scores, signal_name) = scores(row, &conversation.replies, &completions)?;
    let responses = conversation.replies.into_iter().zip(&completions).zip(scores);
    let responses =
        responses.map(|((reply, node), (signal, field))| RawResponse::new(reply, &node.path, signal, field));
    let group = RawGroup::new(conversation.prompt, responses.collect(), signal_name);
    let is_labeled = signal_name == UNSCORED;
    Ok(RawGroup { chosen: Some(0), is_labeled, signal_expected: Some(EXPECTED_SCORE), ..group })
}

/// The scores of chosen and rejected with their fields, and where they come from.
type Scores = ([(Signal, String); 2], &'static str);

fn scores(row: &Node, replies: &[Reply], completions: &[Node; 2]) -> Result<Scores, RowError> {
    let has = |key: &&str| row.get(key).is_some_and(|node| !node.value.is_null());
    if let Some([chosen, rejected, name]) = SCORES.iter().find(|[chosen, rejected, _]| has(chosen) || has(rejected)) {
        let score = |key: &str| Ok((row.signal(key)?, key.to_owned()));
        return Ok(([score(chosen)?, score(rejected)?], name));
    }
    let is_given = |value: &Value| value.is_number();
    let in_messages =
        |(key, _): &&(&str, &str)| replies.iter().any(|reply| reply.last.fields.get(*key).is_some_and(is_given));
    if let (Some((key, name)), [chosen, rejected]) = (SCORES_IN_MESSAGES.iter().find(in_messages), replies) {
        let score = |reply: &Reply, node: &Node| {
            let path = format!("{}[].{key}", node.path);
            let value = reply.last.fields.get(*key).unwrap_or(&Value::Null);
            Ok((Node { value, path: path.clone() }.as_signal()?, path))
        };
        return Ok(([score(chosen, &completions[0])?, score(rejected, &completions[1])?], name));
    }
    let field = |key: &str| key.to_owned();
    Ok(([(Ok(1.0), field("score_chosen")), (Ok(0.0), field("score_rejected"))], UNSCORED))
}
