//! Helpers for syntax trees.

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::{Attribute, Expr, ExprLit, Item, Lit, Meta};

/// Whether an item exists for tests only: `#[cfg(test)]`, also within `all(…)`, or `#[test]`.
pub(crate) fn is_test_only(item: &Item) -> bool {
    attributes(item).iter().any(is_test_attribute)
}

/// Whether an attribute restricts its item to tests.
pub(crate) fn is_test_attribute(attribute: &Attribute) -> bool {
    if attribute.path().segments.last().is_some_and(|last| last.ident == "test" || last.ident == "rstest") {
        return true;
    }
    let Meta::List(list) = &attribute.meta else { return false };
    attribute.path().is_ident("cfg") && mentions_test(list.tokens.clone())
}

fn mentions_test(tokens: TokenStream) -> bool {
    let mut negated = false;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == "test" => return true,
            TokenTree::Ident(ident) => negated = ident == "not",
            TokenTree::Group(group) if !negated && mentions_test(group.stream()) => return true,
            _ => {}
        }
    }
    false
}

/// The file that `#[path = "…"]` names.
pub(crate) fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else { return None };
        let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value else { return None };
        pair.path.is_ident("path").then(|| text.value())
    })
}

/// Lines from the first to the last token.
pub(crate) fn span_lines(item: &impl Spanned) -> usize {
    let span = item.span();
    span.end().line + 1 - span.start().line
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
