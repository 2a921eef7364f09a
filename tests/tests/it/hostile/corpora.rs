//! The committed inputs: sound ones parse, and past findings are refused for the right reason.

use collimate_hostile::{Answer, Target};
use rstest::rstest;

use super::{corpus, try_all};

fn answer(target: Target, name: &str) -> Answer {
    let input = corpus(target).inputs.into_iter().find(|(found, _)| found == name).expect("an input of this name");
    try_all(target, std::iter::once(input)).remove(0).1
}

#[rstest]
fn every_committed_input_is_answered(#[values(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)] target: usize) {
    let target = Target::ALL[target];
    let answers = try_all(target, corpus(target).inputs.into_iter());
    let parsed = answers.iter().filter(|(_, answer)| *answer == Answer::Parsed).count();
    assert!(parsed > 0 && parsed < answers.len(), "{target}: {parsed} of {} are parsed", answers.len());
}

#[rstest]
#[case(Target::Jsonl, "collimate.jsonl")]
#[case(Target::RowFile, "messages.parquet")]
#[case(Target::RowFile, "ultrafeedback-zstd.parquet")]
#[case(Target::RowFile, "preference.jsonl.gz")]
#[case(Target::RowFile, "list.json")]
#[case(Target::Safetensors, "three-types.safetensors")]
#[case(Target::WeightIndex, "two-shards.json")]
#[case(Target::Config, "yarn.json")]
#[case(Target::Tokenizer, "byte-level.json")]
#[case(Target::ChatTemplate, "filters.jinja")]
#[case(Target::Adapter, "weights.safetensors")]
#[case(Target::Recipe, "trl.yaml")]
#[case(Target::Metrics, "state.json")]
#[case(Target::ObjectiveRows, "infonca.jsonl")]
#[case(Target::Image, "palette.png")]
#[case(Target::Image, "progressive.jpg")]
#[case(Target::Image, "alpha.webp")]
fn a_sound_input_is_parsed(#[case] target: Target, #[case] name: &str) {
    assert_eq!(answer(target, name), Answer::Parsed);
}

#[rstest]
#[case::deep_rows(Target::Jsonl, "regression-deep.jsonl", "recursion limit exceeded")]
#[case::page_bomb(Target::RowFile, "regression-page-bomb.parquet", "a page of 1073741824 bytes")]
#[case::values_bomb(Target::RowFile, "regression-values-bomb.parquet", "a page of 1000000000 values")]
#[case::rows_bomb(Target::RowFile, "regression-rows-bomb.parquet", "more than bytes")]
#[case::text_bomb(Target::RowFile, "regression-text-bomb.parquet", "the row is longer than 67108864 bytes")]
#[case::deep_schema(Target::RowFile, "regression-deep-schema.parquet", "nest deeper than 32 levels")]
#[case::gzip_bomb(Target::RowFile, "regression-bomb.jsonl.gz", "line is longer than 67108864 bytes")]
#[case::zstd_bomb(Target::RowFile, "regression-bomb.jsonl.zst", "decompresses to more than 1000 times its size")]
#[case::same_name_twice(
    Target::Safetensors,
    "regression-same-name-twice.safetensors",
    "header: tensor \"a\" is given twice"
)]
#[case::pixel_bomb(
    Target::Image,
    "pixel-bomb.png",
    "the image has 65536 x 65536 pixels, and at most 89478485 are decoded"
)]
#[case::empty_bomb(Target::Image, "empty-bomb.png", "bytes cannot hold 9000 x 9000 pixels")]
#[case::animated(Target::Image, "animated.png", "the image is animated (2 frames)")]
#[case::gif(Target::Image, "picture.gif", "found a GIF")]
#[case::shapes_overflow(Target::Safetensors, "huge-shape.safetensors", "header: overflow")]
#[case::long_header(Target::Safetensors, "long-header.safetensors", "its header should have 9223372036854775808 bytes")]
#[case::overlap(Target::Safetensors, "overlap.safetensors", "header: invalid offset for tensor")]
#[case::shard_above(Target::WeightIndex, "above-the-folder.json", "is not a plain file name")]
#[case::layers(Target::Config, "absurd-sizes.json", "field \"num_hidden_layers\": expected")]
#[case::code(Target::Config, "custom-code.json", "its own code (auto_map, trust_remote_code) is never run")]
#[case::no_heads(Target::Config, "zero-heads.json", "field \"num_attention_heads\": expected a whole number from 1")]
#[case::table(Target::Tokenizer, "regression-charsmap-table.json", "its table is longer than the map")]
#[case::index(Target::Tokenizer, "regression-charsmap-index.json", "the tokenizer contradicts itself")]
#[case::growth(Target::Tokenizer, "regression-growth.json", "make a text more than 64 times as long")]
#[case::long_token(Target::Tokenizer, "regression-long-token.json", "at most 2048 are read")]
#[case::prefix(Target::Tokenizer, "regression-prefix.json", "the tokenizer contradicts itself")]
#[case::deep_tokenizer(Target::Tokenizer, "regression-deep.json", "nests deeper than 24 levels")]
#[case::long_words(Target::Tokenizer, "regression-long-words.json", "at most 500 is read")]
#[case::long_output(Target::ChatTemplate, "regression-long-output.jinja", "the text grows beyond 16777216 bytes")]
#[case::doubling(Target::ChatTemplate, "regression-doubling.jinja", "grows without end")]
#[case::adding(Target::ChatTemplate, "regression-adding.jinja", "grows without end")]
#[case::folded(Target::ChatTemplate, "regression-folded.jinja", "grows without end")]
#[case::multiply(Target::ChatTemplate, "regression-multiply.jinja", "grows without end")]
#[case::lists(Target::ChatTemplate, "regression-lists.jinja", "grows without end")]
#[case::deep_values(Target::ChatTemplate, "regression-deep.jinja", "nests deeper than 64 levels")]
#[case::slices(Target::ChatTemplate, "regression-slices.jinja", "grows without end")]
#[case::itself(Target::ChatTemplate, "regression-itself.jinja", "a namespace keeps plain values only")]
#[case::closure(Target::ChatTemplate, "regression-closure.jinja", "a namespace keeps plain values only")]
#[case::range(Target::ChatTemplate, "regression-range.jinja", "range has too many elements")]
#[case::format(Target::ChatTemplate, "regression-format.jinja", "a format of more than 10000 places")]
#[case::precision(Target::ChatTemplate, "regression-format-panic.jinja", "a format of more than 10000 places")]
#[case::indent(Target::ChatTemplate, "regression-indent.jinja", "grows without end")]
#[case::replace(Target::ChatTemplate, "regression-replace.jinja", "grows without end")]
#[case::join(Target::ChatTemplate, "regression-join.jinja", "grows without end")]
#[case::join_list(Target::ChatTemplate, "regression-join-list.jinja", "grows without end")]
#[case::replace_list(Target::ChatTemplate, "regression-replace-list.jinja", "grows without end")]
#[case::raise_list(Target::ChatTemplate, "regression-raise-list.jinja", "grows without end")]
#[case::batch(Target::ChatTemplate, "regression-batch.jinja", "grows without end")]
#[case::capture(Target::ChatTemplate, "regression-capture.jinja", "the text grows beyond 16777216 bytes")]
#[case::recursion(Target::ChatTemplate, "regression-recursion.jinja", "recursion limit exceeded")]
#[case::loops(Target::ChatTemplate, "regression-loops.jinja", "ran out of fuel")]
#[case::compare(Target::ChatTemplate, "regression-compare.jinja", "grows without end")]
#[case::include(Target::ChatTemplate, "regression-include.jinja", "cannot read other templates")]
#[case::operators(Target::ChatTemplate, "regression-many-operators.jinja", "a tag has more than 1000 tokens")]
#[case::elifs(Target::ChatTemplate, "regression-elifs.jinja", "more than 250 elif")]
#[case::marks(Target::ChatTemplate, "regression-overlapping-marks.jinja", "chat template: ")]
#[case::rank(Target::Adapter, "absurd-rank.json", "expected shape [2147483647, 4]")]
#[case::targets(Target::Adapter, "many-targets.json", "at most 2000 names")]
#[case::adapter_above(Target::Adapter, "above-the-folder.safetensors", "matches no linear module")]
#[case::laughs(Target::Recipe, "regression-laughs.yaml", "more than 10000 values")]
#[case::quadratic(Target::Recipe, "regression-quadratic.yaml", "more than 10000 values")]
#[case::long_text(Target::Recipe, "regression-long-text.yaml", "more than 10000 values")]
#[case::brackets(Target::Recipe, "regression-brackets.yaml", "more than 64 brackets are open at once")]
#[case::huge_numbers(Target::Recipe, "regression-huge-numbers.yaml", "must be at most 2147483647")]
#[case::beyond(Target::Metrics, "regression-beyond-the-end.json", "field \"global_step\": expected at most max_steps")]
fn a_hostile_input_is_refused_for_its_reason(#[case] target: Target, #[case] name: &str, #[case] reason: &str) {
    match answer(target, name) {
        Answer::Refused(message) => {
            assert!(message.contains(reason), "{message}");
            assert!(message.len() < 2000, "{} bytes: {message}", message.len());
        }
        Answer::Parsed => panic!("{name} was parsed"),
    }
}

#[rstest]
#[case::empty_needle(Target::ChatTemplate, "regression-count.jinja")]
#[case::many_ends(Target::Tokenizer, "regression-many-ends.json")]
#[case::dropout(Target::Tokenizer, "regression-dropout.json")]
#[case::many_turns(Target::Jsonl, "regression-many-turns.jsonl")]
#[case::many_layers(Target::Config, "regression-many-layers.json")]
#[case::wide(Target::ObjectiveRows, "regression-wide.json")]
#[case::pairs(Target::ObjectiveRows, "regression-pairs.json")]
fn what_once_hung_or_took_memory_is_only_read(#[case] target: Target, #[case] name: &str) {
    assert_eq!(answer(target, name), Answer::Parsed);
}
