//! Determines which module uses which: every path is followed, through re-exports, to the module that defines its last
//! name.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Item, UseTree};

use crate::source::{Module, Tree};
use crate::syntax::is_test_only;

/// For each file the files it uses, with the paths it uses them by.
pub(crate) type Edges = BTreeMap<(usize, usize), BTreeSet<String>>;

/// Maximum length of a chain of re-exports to follow.
const MOST_HOPS: usize = 16;

/// All uses between files of a tree, except between parents and descendants. Tests are excluded.
pub(crate) fn edges(tree: &Tree) -> Edges {
    let names: Vec<Names> = tree.modules.iter().map(Names::collect).collect();
    let resolver = Resolver { tree, names: &names };
    let mut edges = Edges::new();
    for (index, module) in tree.modules.iter().enumerate().filter(|(_, module)| !module.is_test) {
        for path in &names[index].used {
            let Some(target) = resolver.resolve(index, path, 0) else { continue };
            let file = tree.modules[target].file;
            if file != module.file && !tree.modules[target].is_test && !tree.are_related(index, target) {
                edges.entry((module.file, file)).or_default().insert(path.last().cloned().unwrap_or_default());
            }
        }
    }
    edges
}

type Path = Vec<String>;

/// What a module defines, imports and uses.
#[derive(Debug, Default)]
struct Names {
    defined: HashSet<String>,
    imported: Vec<(String, Path)>,
    globs: Vec<Path>,
    used: BTreeSet<Path>,
}

impl Names {
    fn collect(module: &Module) -> Self {
        let mut names = Self::default();
        for item in module.items.iter().filter(|item| !is_test_only(item)) {
            names.defined.extend(defined_name(item));
            names.visit_item(item);
        }
        names
    }

    fn import(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &dyn ToString| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &with(&path.ident)),
            UseTree::Name(name) if name.ident == "self" => {
                self.add_import(before.last().cloned().unwrap_or_default(), before.to_vec());
            }
            UseTree::Name(name) => self.add_import(name.ident.to_string(), with(&name.ident)),
            UseTree::Rename(rename) => self.add_import(rename.rename.to_string(), with(&rename.ident)),
            UseTree::Glob(_) => {
                self.used.insert(before.to_vec());
                self.globs.push(before.to_vec());
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, before)),
        }
    }

    fn add_import(&mut self, name: String, path: Path) {
        self.used.insert(path.clone());
        self.imported.push((name, path));
    }

    /// Paths in a macro's tokens, which are not parsed.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path = Path::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.use_path(std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                other => {
                    self.use_path(std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.scan(group.stream());
                    }
                }
            }
        }
        self.use_path(path);
    }

    fn use_path(&mut self, path: Path) {
        if path.len() > 1 {
            self.used.insert(path);
        }
    }
}

impl Visit<'_> for Names {
    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        self.import(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &syn::Path) {
        self.use_path(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &syn::Macro) {
        self.visit_path(&item.path);
        self.scan(item.tokens.clone());
    }
}

fn defined_name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

struct Resolver<'a> {
    tree: &'a Tree,
    names: &'a [Names],
}

impl Resolver<'_> {
    /// The module that defines the target of a path written in `module`; `None` for another crate's.
    fn resolve(&self, module: usize, path: &[String], hops: usize) -> Option<usize> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.walk(0, rest, hops),
            "self" => self.walk(module, rest, hops),
            "super" => self.walk(self.tree.modules[module].parent?, rest, hops),
            _ => self.enter(module, first, rest, hops),
        }
    }

    /// Follows a path inside a module; names defined by a macro are assumed to be the module's own.
    fn walk(&self, module: usize, path: &[String], hops: usize) -> Option<usize> {
        let Some((first, rest)) = path.split_first() else { return Some(module) };
        if first == "super" {
            return self.walk(self.tree.modules[module].parent?, rest, hops);
        }
        Some(self.enter(module, first, rest, hops).unwrap_or(module))
    }

    /// Follows a path whose first name is looked up in a module.
    fn enter(&self, module: usize, first: &str, rest: &[String], hops: usize) -> Option<usize> {
        if hops > MOST_HOPS {
            return None;
        }
        if let Some(child) = self.tree.modules[module].children.get(first) {
            return self.walk(*child, rest, hops);
        }
        let names = &self.names[module];
        if names.defined.contains(first) {
            return Some(module);
        }
        for (_, path) in names.imported.iter().filter(|(name, path)| name == first && path.len() > 1) {
            let whole = [path.as_slice(), rest].concat();
            if let Some(found) = self.resolve(module, &whole, hops + 1) {
                return Some(found);
            }
        }
        names.globs.iter().find_map(|glob| {
            let inside = self.resolve(module, glob, hops + 1)?;
            (inside != module).then(|| self.enter(inside, first, rest, hops + 1)).flatten()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::source::read_tree;

    /// The uses between the files of a package made of these, as `from → to (names)`.
    fn uses(test: &str, files: &[(&str, &str)]) -> Vec<String> {
        let root: PathBuf = std::env::temp_dir().join(format!("tidy-imports-{test}-{}", std::process::id()));
        for (name, text) in files {
            let path = root.join("src").join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let tree = read_tree(&root, &root, &root.join("src/lib.rs"));
        std::fs::remove_dir_all(&root).expect("the folder");
        let tree = tree.expect("Rust");
        let name = |file: usize| tree.files[file].path.trim_start_matches("src/").to_owned();
        let shown = |((from, to), names): (&(usize, usize), &BTreeSet<String>)| {
            format!("{} → {} ({})", name(*from), name(*to), names.iter().cloned().collect::<Vec<_>>().join(", "))
        };
        edges(&tree).iter().map(shown).collect()
    }

    #[test]
    fn a_use_leads_through_re_exports_to_the_file_that_defines_the_name() {
        let files = [
            ("lib.rs", "mod a; mod b; pub use b::c::Thing;"),
            ("a.rs", "use crate::Thing; use std::fmt;"),
            ("b.rs", "pub mod c;"),
            ("b/c.rs", "pub struct Thing;"),
        ];
        assert_eq!(uses("re-export", &files), ["a.rs → b/c.rs (Thing)"]);
    }

    #[test]
    fn paths_in_code_and_in_macros_count_and_parents_do_not() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "mod inner; fn f() { crate::b::g(); println!(\"{}\", crate::b::H); } pub fn k() {}"),
            ("a/inner.rs", "use super::k; fn f() { k() }"),
            ("b.rs", "pub fn g() {} pub const H: u8 = 0;"),
        ];
        assert_eq!(uses("paths", &files), ["a.rs → b.rs (H, g)"]);
    }

    #[test]
    fn tests_do_not_count() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "#[cfg(test)] mod tests; #[cfg(test)] mod more { use crate::b::g; }"),
            ("a/tests.rs", "use crate::b::g;"),
            ("b.rs", "pub fn g() {}"),
        ];
        assert_eq!(uses("tests", &files), Vec::<String>::new());
    }
}
