use serde_json::json;

use super::*;
use crate::TokenizedResponse;
use crate::tokenizer::tests::{change_tokenizer, character_dir, id};

fn shown(color: bool) -> String {
    let dir = character_dir(json!({"eos_token": "</s>"}), &[]);
    let tokenizer = TextTokenizer::from_model_dir(dir.path()).unwrap();
    let response = |ids: Vec<u32>, reward, num_cut| TokenizedResponse { ids, reward, num_cut };
    let group = TokenizedGroup {
        index: 0,
        line: 3,
        prompt_ids: vec![1, id('h'), id('\n'), id('i')],
        num_prompt_cut: 2,
        images: Vec::new(),
        responses: vec![response(vec![id('o'), id('k'), 2], 0.5, 0), response(vec![id('n')], -1.0, 1)],
    };
    preview(&group, &tokenizer, color).unwrap()
}

#[test]
fn without_color_bars_stand_between_tokens() {
    let expected = "line 3 · prompt 4 tokens, 2 tokens cut from its start\n<s>h↵i\n\
                    [0] reward 0.5 · 3 tokens scored\no|k|</s>\n\
                    [1] reward -1 · 1 token scored, 1 token cut from its end\nn\n";
    assert_eq!(shown(false), expected);
}

#[test]
fn with_color_the_shades_alternate_and_eos_stands_out() {
    let text = shown(true);
    assert!(text.contains("\x1b[2m<s>h↵i\x1b[0m"), "{text}");
    assert!(text.contains("\x1b[38;5;39mo\x1b[0m\x1b[38;5;75mk\x1b[0m\x1b[1;97;41m</s>\x1b[0m"), "{text}");
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    assert_eq!(visible("a\x1b[31mb\tc\n"), "a\\u{1b}[31mb\\tc↵");
}

/// Ids that never complete a character were decoded again with each id after them: 100,000 took minutes.
#[test]
fn many_ids_without_a_text_are_shown_at_once() {
    let dir = character_dir(json!({"eos_token": "</s>"}), &[]);
    change_tokenizer(dir.path(), |tokenizer| {
        tokenizer["decoder"] =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
        // The byte 0x80, which no character begins with.
        tokenizer["model"]["vocab"]["Ģ"] = json!(101);
    });
    let tokenizer = TextTokenizer::from_model_dir(dir.path()).unwrap();
    for id_without_text in [101, 1_000_000] {
        let ids = [vec![id_without_text; 100_000], vec![id('a'), id('b')]].concat();
        let begun = std::time::Instant::now();
        let pieces = tokenizer.pieces(&ids).unwrap();
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
        assert_eq!(pieces.len(), ids.len());
        assert_eq!(pieces[ids.len() - 1], "b");
        let text = pieces.concat();
        assert!(text.trim_start_matches(char::REPLACEMENT_CHARACTER) == "ab", "{:?}", &text[text.len() - 20..]);
    }
}
