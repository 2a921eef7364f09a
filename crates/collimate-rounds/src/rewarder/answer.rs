//! Parses what a program printed.

use serde_json::{Map, Value};

use super::Failure;

/// The index of the response that a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) row: usize,
    pub(super) response: usize,
}

/// A response's reward, with any further scores.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Score {
    pub(super) reward: f64,
    /// Further scores by name.
    pub(super) scores: Map<String, Value>,
}

impl Score {
    /// Parses a line: a number, or an object with `reward` and optionally `scores`.
    ///
    /// An object may repeat `index` and `response_index`, which must then match the request.
    pub(super) fn parse(line: &str, request: Request) -> Result<Self, Failure> {
        let no_number = || Failure::of_response("printed no number").printing(line);
        let text = line.trim();
        let value = match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(fields)) => return Self::from_fields(fields, request, line),
            Ok(value) => value.as_f64(),
            // Forms that JSON lacks: `.5`, `1.`, `+1`.
            Err(_) => text.parse::<f64>().ok(),
        };
        let reward = value.filter(|reward| reward.is_finite()).ok_or_else(no_number)?;
        Ok(Self { reward, scores: Map::new() })
    }

    fn from_fields(mut fields: Map<String, Value>, request: Request, line: &str) -> Result<Self, Failure> {
        for (name, asked) in [("index", request.row), ("response_index", request.response)] {
            if fields.get(name).is_some_and(|said| said.as_u64() != Some(asked as u64)) {
                let what = format!("answered another response than it was asked about: \"{name}\" is not {asked}");
                return Err(Failure::of_all(what).printing(line));
            }
        }
        let no_number = || Failure::of_response("printed an object without a number as \"reward\"").printing(line);
        let reward = fields.get("reward").and_then(Value::as_f64).ok_or_else(no_number)?;
        let scores = match fields.remove("scores") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(scores)) if scores.values().all(Value::is_number) => scores,
            Some(_) => {
                let what = "printed \"scores\" that are no object of numbers";
                return Err(Failure::of_response(what).printing(line));
            }
        };
        Ok(Self { reward, scores })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("1", 1.0)]
    #[case(" -2.5e-1\r", -0.25)]
    #[case(".5", 0.5)]
    #[case(r#"{"reward": 0.75}"#, 0.75)]
    #[case(r#"{"index": 3, "response_index": 1, "reward": 2, "why": "both"}"#, 2.0)]
    fn numbers_and_objects_are_scores(#[case] line: &str, #[case] reward: f64) {
        let expected = Score { reward, scores: Map::new() };
        assert_eq!(Score::parse(line, Request { row: 3, response: 1 }), Ok(expected));
    }

    #[test]
    fn further_scores_are_kept() {
        let request = Request { row: 0, response: 0 };
        let score = Score::parse(r#"{"reward": 1, "scores": {"form": 0.5}}"#, request).expect("a score");
        assert_eq!(Value::Object(score.scores), json!({"form": 0.5}));
    }

    #[rstest]
    #[case("", "no number", false)]
    #[case("ok", "no number", false)]
    #[case("true", "no number", false)]
    #[case("null", "no number", false)]
    #[case("NaN", "no number", false)]
    #[case("inf", "no number", false)]
    #[case("1 2", "no number", false)]
    #[case("[1]", "no number", false)]
    #[case(r#"{"score": 1}"#, "\"reward\"", false)]
    #[case(r#"{"reward": 1, "scores": {"form": "good"}}"#, "\"scores\"", false)]
    #[case(r#"{"index": 2, "reward": 1}"#, "\"index\" is not 3", true)]
    #[case(r#"{"response_index": "1", "reward": 1}"#, "\"response_index\" is not 1", true)]
    fn everything_else_is_not(#[case] line: &str, #[case] what: &str, #[case] unmatched: bool) {
        let failure = Score::parse(line, Request { row: 3, response: 1 }).expect_err("no score");
        assert!(failure.what.contains(what), "{failure}");
        assert_eq!((failure.unmatched, failure.printed.as_deref()), (unmatched, Some(line)));
    }
}
