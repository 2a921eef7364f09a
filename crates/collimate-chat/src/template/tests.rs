use chrono::NaiveDate;
use rstest::rstest;

use super::*;

fn conversation(turns: &[(&str, &str)]) -> Vec<Message> {
    turns.iter().map(|(role, content)| Message::new(*role, *content)).collect()
}

fn template(source: &str) -> ChatTemplate {
    let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let tokens = tokens.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let now = NaiveDate::from_ymd_opt(2024, 7, 6).and_then(|day| day.and_hms_opt(9, 5, 0)).unwrap();
    ChatTemplate::new(source, tokens).unwrap().with_now(now).unwrap()
}

fn render(source: &str, turns: &[(&str, &str)], add_generation_prompt: bool) -> Result<String, String> {
    template(source).render(&conversation(turns), add_generation_prompt).map_err(|error| error.to_string())
}

const HEADERS: &str = include_str!("fixtures/headers.jinja");
const INSTRUCTIONS: &str = include_str!("fixtures/instructions.jinja");
const TOOLS: &str = include_str!("fixtures/tools.jinja");
const TURNS: &str = include_str!("fixtures/turns.jinja");

#[test]
fn header_style_prints_the_date_and_bos() {
    let text = render(HEADERS, &[("system", " Be brief. "), ("user", "Hi\n")], true).unwrap();
    let expected = "<s><|start_header_id|>system<|end_header_id|>\n\nDate of today: 06 Jul 2024\n\nBe brief.<|eot_id|>\
                    <|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
                    <|start_header_id|>assistant<|end_header_id|>\n\n";
    assert_eq!(text, expected);
}

#[test]
fn header_style_without_a_system_message_still_has_the_date() {
    let text = render(HEADERS, &[("user", "Hi"), ("assistant", "Yo")], false).unwrap();
    let expected = "<s><|start_header_id|>system<|end_header_id|>\n\nDate of today: 06 Jul 2024\n\n<|eot_id|>\
                    <|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
                    <|start_header_id|>assistant<|end_header_id|>\n\nYo<|eot_id|>";
    assert_eq!(text, expected);
}

#[test]
fn instruction_style_puts_the_system_message_into_the_last_user_turn() {
    let turns = [("system", "Be brief."), ("user", "A"), ("assistant", " B "), ("user", "C")];
    let text = render(INSTRUCTIONS, &turns, true).unwrap();
    assert_eq!(text, "<s>[INST] A [/INST] B</s>[INST] Be brief.\n\nC [/INST]");
}

#[test]
fn a_template_can_refuse_a_conversation() {
    let error = render(INSTRUCTIONS, &[("user", "A"), ("user", "B")], true).unwrap_err();
    assert_eq!(error, "chat template: user and assistant must take turns; 2 user turns (line 11 of the template)");
}

#[test]
fn tools_style_without_tools() {
    let turns = [("user", "A"), ("assistant", "<think>\nhm\n</think>\n\nB"), ("user", "C"), ("assistant", "D")];
    let text = render(TOOLS, &turns, false).unwrap();
    let expected = "<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n<|im_start|>user\nC<|im_end|>\n\
                    <|im_start|>assistant\n<think>\n\n</think>\n\nD<|im_end|>\n";
    assert_eq!(text, expected);
}

#[test]
fn turns_style_renames_the_assistant_and_refuses_a_system_message() {
    let text = render(TURNS, &[("user", " A "), ("assistant", "B")], true).unwrap();
    let expected =
        "<s><start_of_turn>user\nA<end_of_turn>\n<start_of_turn>model\nB<end_of_turn>\n<start_of_turn>model\n";
    assert_eq!(text, expected);
    assert!(render(TURNS, &[("system", "x")], true).unwrap_err().contains("system role not supported"));
}

#[rstest]
#[case("{{ '<a>' | tojson }}", r#""<a>""#)]
#[case("{{ {'b': 1, 'a': [1.5, none, true]} | tojson }}", r#"{"b": 1, "a": [1.5, null, true]}"#)]
#[case("{{ {'b': 1, 'a': []} | tojson(indent=2) }}", "{\n  \"b\": 1,\n  \"a\": []\n}")]
#[case(
    "{{ {'b': [1, {}], 'a': 2} | tojson(indent=4, sort_keys=true) }}",
    "{\n    \"a\": 2,\n    \"b\": [\n        1,\n        {}\n    ]\n}"
)]
#[case("{{ [1, 2] | tojson(separators=(',', ':')) }}", "[1,2]")]
#[case("{{ '½ 多\\n' | tojson }}", "\"½ 多\\n\"")]
#[case("{{ '½ 😀' | tojson(ensure_ascii=true) }}", "\"\\u00bd \\ud83d\\ude00\"")]
#[case("{{ [true, none, 'it\\'s', {'k': 1}] }}", "[True, None, \"it's\", {'k': 1}]")]
#[case("{{ true }}{{ none }}{{ missing }}{{ 1.0 }}", "TrueNone1.0")]
#[case("{{ true | string + '!' }}", "True!")]
#[case("{% if 'ab' is iterable and 'ab' is sequence and 'ab' is string and {} is mapping %}y{% endif %}", "y")]
#[case(
    "{{ tools is iterable }} {{ missing is iterable }} {{ 3 is iterable }} {{ [] is iterable }}",
    "False True False True"
)]
#[case("{{ ' a b '.strip().split(' ')[-1] ~ 'x'.upper() }}", "bX")]
#[case(
    "{{ {'a': 1}.get('b', 'none') }}{% for k, v in {'z': 1, 'y': 2}.items() %}{{ k }}{{ v }}{% endfor %}",
    "nonez1y2"
)]
#[case(
    "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% elif i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "02"
)]
#[case("a\n    {% if true %}\nb\n    {% endif %}\nc\n", "a\nb\nc")]
#[case("a\n\n", "a\n")]
#[case("{# note #}\na", "a")]
#[case("a\r\nb", "a\nb")]
#[case("a {%- generation -%} b {% endgeneration %}\nc", "ab c")]
#[case("{%generation%}{% set x = 1 %}{{ x }}{%+ endgeneration %}", "1")]
#[case("{{ strftime_now('%Y-%m-%d %H:%M %b') }}", "2024-07-06 09:05 Jul")]
#[case("{{ 'x' if tools is none and not documents }}", "x")]
#[case("{{ ['a', 'b', 'c'][::-1] | join(',') }}{{ 'abc'[1:] }}", "c,b,abc")]
#[case("{{ true ~ none ~ 1.0 ~ [1, 'a'] ~ missing }}", "TrueNone1.0[1, 'a']")]
#[case("{{ 'ab'[0:2:-1] }}{{ 'abc'[2:0:-1] }}{{ [1, 2, 3][-2:] }}", "cb[2, 3]")]
#[case("{{ 'ab' * 2 }}{{ 3 * 'c' }}{{ [1] * 2 }}{{ 'x' * -1 }}{{ 2 * 3.5 }}{{ 2 * 3 }}", "ababccc[1, 1]7.06")]
#[case("{{ [1] + [2] }}{{ 1 + 2 }}{{ 1 + 0.5 }}{{ true + 1 }}", "[1, 2]31.52")]
#[case("{{ 'banana'.count('an') }}{{ 'ab'.count('') }}", "23")]
#[case("{{ range(5, 1, -2) | list }}{{ range(2) | length }}{{ range(3, 1) | list }}", "[5, 3]2[]")]
#[case(
    "{% set ns = namespace(a=[]) %}{% set ns.a = ns.a + [1] %}{{ ns.a }}{{ dict(a=1, b='x') }}",
    "[1]{'a': 1, 'b': 'x'}"
)]
#[case("{{ {'a': 1}.items() | list }}{{ {'a': 1} | items | list }}", "[['a', 1]][['a', 1]]")]
#[case("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('a') * 2 }}{% if m('a') == '<a>' %}y{% endif %}", "<a><a>y")]
#[case(
    "{{ [1, none, 'a'] | join(2) }}{{ 10 | replace(0, [1]) }}{{ [1] | upper }}{{ 'a b c' | split(' ', 1) }}",
    "12None2a1[1][1]['a', 'b c']"
)]
#[case("{{ '-'.join([1, true]) }}", "1-True")]
#[case("{% for a in [1, 1, 2] %}{{ 'c' if loop.changed(a) else '-' }}{% endfor %}", "c-c")]
fn renders_as_jinja2_does(#[case] source: &str, #[case] expected: &str) {
    assert_eq!(render(source, &[], false).unwrap(), expected);
}

#[rstest]
#[case("{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}", "engine ran out of fuel")]
#[case("{% set x = '0123456789' * 99999 %}{% for a in range(999) %}{{ x }}{% endfor %}", "grows beyond 16777216 bytes")]
#[case("{{ messages.x.y }}", "undefined value")]
#[case("{{ strftime_now('%Q') }}", "strftime_now does not know the format \"%Q\"")]
#[case("{{ raise_exception('no') }}", "no (line 1 of the template)")]
#[case("{{ raise_exception('n' * 5000) }}", "nnn… (line 1 of the template)")]
#[case("{{ 9223372036854775807 * 9223372036854775807 * 9223372036854775807 }}", "too large a number")]
#[case("{{ 'a'[::0] }}", "cannot slice by step size of 0")]
#[case("{{ [] + 'a' }}", "tried to use + operator on unsupported types sequence and string")]
fn stops_with_an_error(#[case] source: &str, #[case] expected: &str) {
    let error = render(source, &[], false).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_syntax_error_names_its_line() {
    let error = ChatTemplate::new("a\n{% if %}", BTreeMap::new()).unwrap_err().to_string();
    assert!(error.starts_with("chat template: ") && error.ends_with("(line 2 of the template)"), "{error}");
}

#[test]
fn marks_that_overlap_are_a_syntax_error() {
    let error = ChatTemplate::new("{%}", BTreeMap::new()).unwrap_err().to_string();
    assert!(error.starts_with("chat template: "), "{error}");
}

#[test]
fn a_long_conversation_is_far_from_the_limits() {
    let text = "word ".repeat(4000);
    let turns: Vec<(&str, &str)> =
        (0..400).map(|turn| (if turn % 2 == 0 { "user" } else { "assistant" }, text.as_str())).collect();
    for source in [HEADERS, INSTRUCTIONS, TOOLS, TURNS] {
        let length = render(source, &turns, true).unwrap().len();
        assert!(length > 400 * (text.len() - 1), "{length}");
    }
}

#[test]
fn a_list_that_grows_by_a_turn_is_far_from_the_limits() {
    let source = "{% set ns = namespace(all=[]) %}{% for m in messages %}{% set ns.all = ns.all + [m.content | trim] %}\
                  {% endfor %}{{ ns.all | join('|') }}";
    let turns = vec![("user", " a "); 1000];
    assert_eq!(render(source, &turns, false).unwrap().len(), 1000 + 999);
}
