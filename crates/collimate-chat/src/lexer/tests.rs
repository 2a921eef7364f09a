use rstest::rstest;

use super::*;

/// Renders text verbatim and tags as `<…>`.
fn shown(source: &str) -> String {
    let tokens = |tag: &Tag<'_>| tag.tokens.iter().map(|token| token.text).collect::<Vec<_>>().join(" ");
    parts(source)
        .unwrap()
        .iter()
        .map(|part| match part {
            Part::Text { text, .. } => (*text).to_owned(),
            Part::Print(tag) | Part::Block(tag) => format!("<{}>", tokens(tag)),
        })
        .collect::<String>()
}

/// What Jinja2 does with `trim_blocks` and `lstrip_blocks`.
#[rstest]
#[case("a\n  {% b %}\nc", "a\n<b>c")]
#[case("a {% b %} \nc", "a <b> \nc")]
#[case("  {{ b }}\nc", "  <b>\nc")]
#[case("a\n  {%+ b +%}\nc", "a\n  <b>\nc")]
#[case("a \n {%- b -%} \n c", "a<b>c")]
#[case("a\n {{- b -}} \n c", "a<b>c")]
#[case("a\n  {# b #}\nc", "a\nc")]
#[case("a {#- b -#} c", "ac")]
#[case("{% a %}  {% b %}", "<a>  <b>")]
#[case("a\n\n", "a\n")]
#[case("{% raw %}\n {{ a }}{% b %}{% endraw %}\nc", " {{ a }}{% b %}c")]
#[case("{%- raw -%} a {%- endraw -%} c", "ac")]
#[case("{{ '%}' }}{{ {'a': {}} }}", "<'%}'><{ 'a' : { } }>")]
#[case("{ {a} {", "{ {a} {")]
fn white_space_is_trimmed_as_in_jinja2(#[case] source: &str, #[case] expected: &str) {
    assert_eq!(shown(source), expected);
}

#[rstest]
#[case("a.b[0]", "a . b [ 0 ]")]
#[case("1.5e-3+1_000", "1.5e-3 + 1_000")]
#[case("1.x 0x1e+2 1.", "1 . x 0x1e + 2 1.")]
#[case("a//b**c<=d!=e", "a // b ** c <= d != e")]
#[case(r#"'a\'b' + "c""#, r#"'a\'b' + "c""#)]
#[case("-a~b", "- a ~ b")]
fn tags_are_cut_into_tokens(#[case] inner: &str, #[case] expected: &str) {
    assert_eq!(shown(&format!("{{{{ {inner} }}}}")), format!("<{expected}>"));
}
