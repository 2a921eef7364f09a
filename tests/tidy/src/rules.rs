//! The rules that apply to a single file.

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, FnArg, Pat, Safety, Signature, Type};

use crate::source::SourceFile;
use crate::syntax::is_test_attribute;

/// A function with a body.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// From its signature to its closing brace.
    pub(crate) num_lines: usize,
    /// Parameters that are tuples, outside of tests: structs in disguise.
    pub(crate) num_tuples: usize,
}

/// What the rules check in one file. Lines are 1-based.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) functions: Vec<Function>,
    /// Calls of `unwrap` and `expect` outside of tests.
    pub(crate) panics: Vec<usize>,
    /// Calls that write a file in place, rename or remove one, outside of tests.
    pub(crate) writes: Vec<usize>,
    /// Mentions of `unsafe`.
    pub(crate) unsafes: Vec<usize>,
    /// Above 0 inside what only tests compile.
    test_depth: usize,
    impl_name: Option<String>,
}

impl Contents {
    /// Reads a file.
    pub(crate) fn read(file: &SourceFile) -> Self {
        let mut contents = Self { test_depth: usize::from(file.is_test), ..Self::default() };
        contents.visit_file(&file.syntax);
        contents
    }

    fn add_function(&mut self, signature: &Signature, block: &Block) {
        let (start, end) = (signature.span().start().line, block.span().end().line);
        let is_tuple = |argument: &FnArg| match argument {
            FnArg::Typed(typed) => matches!((&*typed.pat, &*typed.ty), (Pat::Tuple(_), Type::Tuple(_))),
            FnArg::Receiver(_) => false,
        };
        let name = match &self.impl_name {
            Some(own) => format!("{own}::{}", signature.ident),
            None => signature.ident.to_string(),
        };
        let num_tuples = match self.test_depth {
            0 => signature.inputs.iter().filter(|argument| is_tuple(argument)).count(),
            // A case in a table may well be a tuple.
            _ => 0,
        };
        self.functions.push(Function { name, line: start, num_lines: end + 1 - start, num_tuples });
    }

    /// Visits an item, which may be for tests only.
    fn within(&mut self, attributes: &[Attribute], visit: impl FnOnce(&mut Self)) {
        let is_test = attributes.iter().any(is_test_attribute);
        self.test_depth += usize::from(is_test);
        visit(self);
        self.test_depth -= usize::from(is_test);
    }

    fn within_impl(&mut self, name: String, visit: impl FnOnce(&mut Self)) {
        let outer = self.impl_name.replace(name);
        visit(self);
        self.impl_name = outer;
    }

    fn add_panic(&mut self, line: usize) {
        if self.test_depth == 0 {
            self.panics.push(line);
        }
    }

    /// Looks through a macro's tokens, which are not parsed.
    fn scan(&mut self, tokens: TokenStream) {
        let mut before = ' ';
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.scan(group.stream()),
                TokenTree::Ident(ident) if ident == "unsafe" => self.unsafes.push(ident.span().start().line),
                TokenTree::Ident(ident) if before == '.' && (ident == "unwrap" || ident == "expect") => {
                    self.add_panic(ident.span().start().line);
                }
                TokenTree::Punct(punct) => {
                    before = punct.as_char();
                    continue;
                }
                _ => {}
            }
            before = ' ';
        }
    }
}

/// The last two path segments of calls that write a file in place, or rename or remove one: `collimate-files` does so, without
/// following links.
const WRITES: [[&str; 2]; 10] = [
    ["File", "create"],
    ["File", "create_new"],
    ["OpenOptions", "new"],
    ["fs", "copy"],
    ["fs", "hard_link"],
    ["fs", "remove_dir"],
    ["fs", "remove_dir_all"],
    ["fs", "remove_file"],
    ["fs", "rename"],
    ["fs", "write"],
];

impl Visit<'_> for Contents {
    fn visit_item_mod(&mut self, item: &syn::ItemMod) {
        self.within(&item.attrs, |own| visit::visit_item_mod(own, item));
    }

    fn visit_item_fn(&mut self, item: &syn::ItemFn) {
        self.within(&item.attrs, |own| {
            own.add_function(&item.sig, &item.block);
            visit::visit_item_fn(own, item);
        });
    }

    fn visit_item_impl(&mut self, item: &syn::ItemImpl) {
        self.unsafes.extend(item.unsafety.map(|token| token.span.start().line));
        let name = type_name(&item.self_ty);
        self.within(&item.attrs, |own| own.within_impl(name, |own| visit::visit_item_impl(own, item)));
    }

    fn visit_impl_item_fn(&mut self, item: &syn::ImplItemFn) {
        self.add_function(&item.sig, &item.block);
        self.within(&item.attrs, |own| visit::visit_impl_item_fn(own, item));
    }

    fn visit_item_trait(&mut self, item: &syn::ItemTrait) {
        self.within(&item.attrs, |own| {
            own.within_impl(item.ident.to_string(), |own| visit::visit_item_trait(own, item))
        });
    }

    fn visit_trait_item_fn(&mut self, item: &syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.add_function(&item.sig, block);
        }
        self.within(&item.attrs, |own| visit::visit_trait_item_fn(own, item));
    }

    fn visit_signature(&mut self, signature: &Signature) {
        if let Safety::Unsafe(token) = &signature.safety {
            self.unsafes.push(token.span.start().line);
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_unsafe(&mut self, item: &syn::ExprUnsafe) {
        self.unsafes.push(item.unsafe_token.span.start().line);
        visit::visit_expr_unsafe(self, item);
    }

    fn visit_expr_method_call(&mut self, call: &syn::ExprMethodCall) {
        let num_arguments = call.args.len();
        if (call.method == "unwrap" && num_arguments == 0) || (call.method == "expect" && num_arguments == 1) {
            self.add_panic(call.method.span().start().line);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let names: Vec<String> = path.segments.iter().rev().take(2).map(|segment| segment.ident.to_string()).collect();
        let is_write = matches!(names.as_slice(), [last, before] if WRITES.contains(&[before, last]));
        if is_write && self.test_depth == 0 {
            self.writes.push(path.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &syn::Macro) {
        self.scan(item.tokens.clone());
    }
}

fn type_name(ty: &Type) -> String {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default(),
        Type::Reference(reference) => type_name(&reference.elem),
        _ => "impl".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(text: &str) -> Contents {
        let syntax = syn::parse_file(text).expect("Rust");
        Contents::read(&SourceFile { path: "x.rs".to_owned(), num_lines: 0, is_test: false, syntax })
    }

    #[test]
    fn a_function_is_measured_from_its_signature_to_its_end() {
        let found = contents("/// Doc.\n#[inline]\nfn a() {\n    1;\n}\nimpl B {\n    fn c(&self) {}\n}\n");
        let all: Vec<_> = found.functions.iter().map(|one| (one.name.as_str(), one.line, one.num_lines)).collect();
        assert_eq!(all, [("a", 3, 3), ("B::c", 7, 1)]);
    }

    #[test]
    fn panics_are_found_in_macros_too_and_not_in_tests() {
        let found = contents(
            "fn a() { x.unwrap(); }\nfn b() { format!(\"{}\", y.expect(\"z\")); }\nfn c() { p.expect(1, 2); }\n\
             #[cfg(test)]\nmod tests { fn d() { x.unwrap(); } }\n#[cfg(all(test, unix))]\nfn e() { x.unwrap(); }\n\
             #[cfg(not(test))]\nfn f() { x.unwrap(); }\n",
        );
        assert_eq!(found.panics, [1, 2, 9]);
    }

    #[test]
    fn writes_in_place_are_known_by_their_paths() {
        let found = contents(
            "fn a() { std::fs::write(p, t); }\nfn b() { AtomicFile::create(p); }\nfn c() { File::create(p).map(f); }\n\
             fn d() { OpenOptions::new(); }\nfn e() { fs::rename(a, b); std::fs::remove_dir_all(c); fs::read(d); }\n",
        );
        assert_eq!(found.writes, [1, 3, 4, 5, 5]);
    }

    #[test]
    fn tuples_as_parameters_are_counted_in_functions_not_in_closures() {
        let found = contents("fn a((x, y): (u8, u8), z: (u8, u8)) { m.map(|(k, v): (u8, u8)| k); }\n");
        assert_eq!(found.functions[0].num_tuples, 1);
    }

    #[test]
    fn unsafe_code_is_found_wherever_it_stands() {
        let found = contents("unsafe impl A for B {}\nunsafe fn c() {}\nfn d() { unsafe { e() } }\nf! { unsafe {} }\n");
        assert_eq!(found.unsafes, [1, 2, 3, 4]);
    }
}
