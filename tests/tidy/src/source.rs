//! The module tree of one target, followed from its root file by `mod` declarations.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use syn::{Item, ItemMod};

use crate::syntax::{is_test_only, path_attribute, span_lines};

/// A source file.
pub(crate) struct SourceFile {
    /// Relative to the workspace, with `/`.
    pub(crate) path: String,
    pub(crate) num_lines: usize,
    /// Whether only tests compile it: below `#[cfg(test)] mod …;`, or in the package's `tests` folder.
    pub(crate) is_test: bool,
    pub(crate) syntax: syn::File,
}

impl SourceFile {
    /// Lines that only tests compile: all of a test file, otherwise its `#[cfg(test)]` items.
    pub(crate) fn num_test_lines(&self) -> usize {
        if self.is_test {
            return self.num_lines;
        }
        self.syntax.items.iter().filter(|item| is_test_only(item)).map(span_lines).sum()
    }
}

/// A module: a file, or an inline `mod` of one.
pub(crate) struct Module {
    /// Index of its file.
    pub(crate) file: usize,
    pub(crate) parent: Option<usize>,
    pub(crate) children: HashMap<String, usize>,
    pub(crate) is_test: bool,
    /// Its items, without those of its inline modules.
    pub(crate) items: Vec<Item>,
}

/// All modules of a target; the first is its root.
#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) files: Vec<SourceFile>,
    pub(crate) modules: Vec<Module>,
}

/// Reads a target from its root file.
///
/// # Errors
/// A file is missing, cannot be read or is not valid Rust.
pub(crate) fn read_tree(workspace: &Path, package: &Path, target: &Path) -> Result<Tree> {
    let mut tree = Tree::default();
    let folder = target.parent().unwrap_or(workspace).to_owned();
    let is_test = target.starts_with(package.join("tests"));
    tree.read_file(workspace, target, ModuleLocation { folder, parent: None, is_test })?;
    Ok(tree)
}

/// A module's location: the folder of its children's files, and its parent.
struct ModuleLocation {
    folder: PathBuf,
    parent: Option<usize>,
    is_test: bool,
}

impl Tree {
    fn read_file(&mut self, workspace: &Path, path: &Path, location: ModuleLocation) -> Result<usize> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let syntax = syn::parse_file(&text).with_context(|| path.display().to_string())?;
        let items = syntax.items.clone();
        let name = path.strip_prefix(workspace).unwrap_or(path).display().to_string().replace('\\', "/");
        self.files.push(SourceFile { path: name, num_lines: text.lines().count(), is_test: location.is_test, syntax });
        let file = self.files.len() - 1;
        let around = path.parent().unwrap_or(workspace).to_owned();
        self.add_module(workspace, &around, file, items, location)
    }

    /// Adds a module and what it declares. `around` is the folder that `#[path]` is relative to.
    fn add_module(
        &mut self,
        workspace: &Path,
        around: &Path,
        file: usize,
        items: Vec<Item>,
        location: ModuleLocation,
    ) -> Result<usize> {
        let index = self.modules.len();
        let (declared, items): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|item| matches!(item, Item::Mod(_)));
        let ModuleLocation { folder, parent, is_test } = location;
        self.modules.push(Module { file, parent, children: HashMap::new(), is_test, items });
        for item in declared {
            let is_test = is_test || is_test_only(&item);
            let Item::Mod(ItemMod { attrs, ident, content, .. }) = item else { continue };
            let name = ident.to_string();
            let child = if let Some((_, items)) = content {
                let location = ModuleLocation { folder: folder.join(&name), parent: Some(index), is_test };
                self.add_module(workspace, around, file, items, location)?
            } else {
                let named = path_attribute(&attrs).map(|path| around.join(path));
                let path = match named {
                    Some(path) => path,
                    None => module_file(&folder, &name)?,
                };
                let inside = if path.ends_with("mod.rs") { folder.join(&name) } else { path.with_extension("") };
                self.read_file(workspace, &path, ModuleLocation { folder: inside, parent: Some(index), is_test })?
            };
            self.modules[index].children.insert(name, child);
        }
        Ok(index)
    }

    /// Whether the modules are equal or one is an ancestor of the other.
    pub(crate) fn are_related(&self, one: usize, other: usize) -> bool {
        self.is_above(one, other) || self.is_above(other, one)
    }

    fn is_above(&self, upper: usize, mut lower: usize) -> bool {
        loop {
            if upper == lower {
                return true;
            }
            match self.modules[lower].parent {
                Some(parent) => lower = parent,
                None => return false,
            }
        }
    }
}

fn module_file(folder: &Path, name: &str) -> Result<PathBuf> {
    let candidates = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
    match candidates.into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("no file for mod {name} in {}", folder.display()),
    }
}
