use serde_json::json;

use super::*;
use crate::TokenizedResponse;
use crate::tokenizer::tests::{character_dir, id};

fn shown(color: bool) -> String {
    let dir = character_dir(json!({"eos_token": "</s>"}), &[]);
    let tokenizer = TextTokenizer::from_model_dir(dir.path()).unwrap();
    let response = |ids: Vec<u32>, reward, num_cut| TokenizedResponse { ids, reward, num_cut };
    let group = TokenizedGroup {
        index: 0,
        line: 3,
        prompt_ids: vec![1, id('h'), id('\n'), id('i')],
        num_prompt_cut: 2,
        responses: vec![response(vec![id('o'), id('k'), 2], 0.5, 0), response(vec![id('n')], -1.0, 1)],
    };
    preview(&group, &tokenizer, color).unwrap()
}

#[test]
fn without_colour_bars_stand_between_tokens() {
    let expected = "line 3 · prompt 4 tokens, 2 tokens cut from its start\n<s>h↵i\n\
                    [0] reward 0.5 · 3 tokens scored\no|k|</s>\n\
                    [1] reward -1 · 1 token scored, 1 token cut from its end\nn\n";
    assert_eq!(shown(false), expected);
}

#[test]
fn with_colour_the_shades_alternate_and_eos_stands_out() {
    let text = shown(true);
    assert!(text.contains("\x1b[2m<s>h↵i\x1b[0m"), "{text}");
    assert!(text.contains("\x1b[38;5;39mo\x1b[0m\x1b[38;5;75mk\x1b[0m\x1b[1;97;41m</s>\x1b[0m"), "{text}");
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    assert_eq!(visible("a\x1b[31mb\tc\n"), "a\\u{1b}[31mb\\tc↵");
}
