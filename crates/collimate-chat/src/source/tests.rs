use rstest::rstest;

use super::*;

#[rstest]
#[case("{{ a + b ~ c }}", "{{ a|paid_add( b|paid_concatenate( c))}}")]
#[case("{{ a - b + c * 2 }}", "{{( a - b)|paid_add( c|paid_multiply( 2))}}")]
#[case("{{ -a + 'x' 'y' }}", "{{ - a|paid_add( 'x' 'y')}}")]
#[case("{{ a | f(b + c) is g h }}", "{{ a | f ( b|paid_add( c) ) is g( h)}}")]
#[case("{{ a.b[c].d[1:] }}", "{{(( a . b|paid_index)[ c] . d|paid_slice( 1,none,none))}}")]
#[case("{{ a[:-1] }}{{ a[::2] }}", "{{( a|paid_slice(none, - 1,none))}}{{( a|paid_slice(none,none, 2))}}")]
#[case("{{ a == 1 < b }}", "{{( a|paid_read) == 1 <( b|paid_read)}}")]
#[case("{{ not a - 1 not in b }}", "{{ not(( a - 1)|paid_read) not in( b|paid_read)}}")]
#[case("{{ [1, {'k': v}] }}", "{{( [ 1 ,( { 'k' : v }|paid_new) ]|paid_new)}}")]
#[case("{{ (a) }}{{ (a,) }}{{ () }}", "{{ ( a )}}{{( ( a , )|paid_new)}}{{( ( )|paid_new)}}")]
#[case("{{ f(*a, **b, k=c + 1) }}", "{{ f ( * a , ** b , k = c|paid_add( 1) )}}")]
#[case("{{ loop.changed(a) }}", "{{ loop . changed (( a|paid_read) )}}")]
#[case("{{ a if b else c + d }}", "{{ a if b else c|paid_add( d)}}")]
#[case("{% set x = a, b %}", "{% set x =(( a , b)|paid_new)%}")]
#[case("{% set ns.x = a + b %}", "{% set ns . x =( a|paid_add( b)|paid_store)%}")]
#[case(
    "{% for x in a + b if x == c recursive %}",
    "{% for x in a|paid_add( b) if( x|paid_read) ==( c|paid_read) recursive%}"
)]
#[case("{% macro m(a, b=c + d) %}", "{% macro m ( a , b = c|paid_add( d) )%}")]
#[case("{% generation %}", "{%if true%}")]
#[case("say \"{{ '}}' }}\"\\", "{{\"say \\\"\"}}{{ '}}'}}{{\"\\\"\\\\\"}}")]
fn operators_become_filters_that_pay(#[case] source: &str, #[case] expected: &str) {
    assert_eq!(paid_source(source).unwrap(), expected);
}

/// The engine reports lines of the rewritten template, which must match the original's.
#[test]
fn every_token_stays_on_its_line() {
    let source = "a\n{#\n#}\n{%- if x\n  == 'b\nc' -%}\n\n{{ y }}";
    let paid = paid_source(source).unwrap();
    let line = |text: &str| paid[..paid.find(text).unwrap()].matches('\n').count() + 1;
    assert_eq!((line("if"), line("=="), line("y")), (4, 5, 8), "{paid}");
}

#[rstest]
#[case("{{ a + }}", "unexpected end of a tag, expected an expression (line 1 of the template)")]
#[case("\n{{ a b }}", "unexpected b, expected the end of the tag (line 2 of the template)")]
#[case("{{ a[] }}", "unexpected ], expected an index (line 1 of the template)")]
#[case("{% set 1 = a %}", "unexpected 1, expected = (line 1 of the template)")]
#[case("{% set (x + y) = a %}", "unexpected +, expected = (line 1 of the template)")]
#[case("{% + %}", "unexpected +, expected a statement (line 1 of the template)")]
#[case("{{ a", "a tag does not end (line 1 of the template)")]
#[case("{# a", "a comment does not end (line 1 of the template)")]
#[case("{% raw %}", "a raw block does not end (line 1 of the template)")]
#[case("{{ 'a }}", "a text does not end (line 1 of the template)")]
#[case("{{ a ? b }}", "unexpected character '?' (line 1 of the template)")]
fn what_cannot_be_read_is_named_with_its_line(#[case] source: &str, #[case] expected: &str) {
    assert_eq!(paid_source(source).unwrap_err().detail(), Some(expected));
}

#[test]
fn expressions_nest_only_so_deep() {
    let nested = |levels: usize| format!("{{{{ {}a{} }}}}", "(".repeat(levels), ")".repeat(levels));
    assert!(paid_source(&nested(60)).is_ok());
    assert!(paid_source(&nested(200)).unwrap_err().to_string().contains("nest deeper than 100 levels"));
}
