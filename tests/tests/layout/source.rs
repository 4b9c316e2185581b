//! The modules of a crate and the names that each declares, imports and uses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprLit, Item, ItemMod, Lit, Meta, UseTree, Visibility};

/// The source of one crate.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) files: Vec<File>,
    /// The first module is the root of the crate.
    pub(crate) modules: Vec<Module>,
}

#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    /// The declaration of the module names this file by `#[path = "…"]`.
    pub(crate) by_path_attribute: bool,
}

/// One module: a file, or a block `mod name { … }` within a file.
#[derive(Debug)]
pub(crate) struct Module {
    /// Index into [`Sources::files`].
    pub(crate) file: usize,
    /// Index into [`Sources::modules`]; the root has no parent.
    pub(crate) parent: Option<usize>,
    /// The modules declared in this one, by name: indices into [`Sources::modules`].
    pub(crate) children: BTreeMap<String, usize>,
    /// The names of functions, types and other items that this module declares.
    pub(crate) items: BTreeSet<String>,
    pub(crate) imports: Vec<Import>,
    /// Every path in the code of this module, except the paths of imports.
    pub(crate) paths: BTreeSet<Vec<String>>,
}

/// One name of a `use`.
#[derive(Debug)]
pub(crate) struct Import {
    /// The name that the import brings into the module; `None` for `*`.
    pub(crate) name: Option<String>,
    pub(crate) path: Vec<String>,
    /// `pub use`: other modules can take the name from here.
    pub(crate) public: bool,
}

impl Sources {
    /// Reads a crate, starting at its root file. `text` returns the text of a file, or `None` if there is no such file.
    pub(crate) fn read(root: &Path, text: impl Fn(&Path) -> Option<String>) -> Result<Self, String> {
        let mut sources = Self { files: Vec::new(), modules: Vec::new() };
        let folder = root.parent().unwrap_or(Path::new(""));
        sources.add_file(root, folder, None, &text)?;
        Ok(sources)
    }

    /// Adds the module of a file. `folder` holds the files of the modules that this one declares.
    fn add_file(
        &mut self,
        path: &Path,
        folder: &Path,
        parent: Option<usize>,
        text: &impl Fn(&Path) -> Option<String>,
    ) -> Result<usize, String> {
        let source = text(path).ok_or_else(|| format!("there is no {}", path.display()))?;
        let syntax = syn::parse_file(&source).map_err(|error| format!("{}: {error}", path.display()))?;
        self.files.push(File { path: path.to_owned(), by_path_attribute: false });
        self.add_module(&syntax.items, self.files.len() - 1, folder, parent, text)
    }

    fn add_module(
        &mut self,
        items: &[Item],
        file: usize,
        folder: &Path,
        parent: Option<usize>,
        text: &impl Fn(&Path) -> Option<String>,
    ) -> Result<usize, String> {
        let number = self.modules.len();
        let mut names = Names::default();
        for item in items.iter().filter(|item| !matches!(item, Item::Mod(_))) {
            names.visit_item(item);
        }
        let Names { items: declared, imports, paths } = names;
        let children = BTreeMap::new();
        self.modules.push(Module { file, parent, children, items: declared, imports, paths });
        for item in items {
            let Item::Mod(module) = item else { continue };
            let name = module.ident.to_string();
            let below = folder.join(&name);
            let child = if let Some((_, items)) = &module.content {
                self.add_module(items, file, &below, Some(number), text)?
            } else {
                let given = path_attribute(module).map(|given| self.files[file].path.with_file_name(given));
                let beside = folder.join(format!("{name}.rs"));
                let by_style = if text(&beside).is_some() { beside } else { below.join("mod.rs") };
                let child = self.add_file(given.as_ref().unwrap_or(&by_style), &below, Some(number), text)?;
                self.files[self.modules[child].file].by_path_attribute = given.is_some();
                child
            };
            self.modules[number].children.insert(name, child);
        }
        Ok(number)
    }
}

/// The file that `#[path = "…"]` names.
fn path_attribute(module: &ItemMod) -> Option<String> {
    let attribute = module.attrs.iter().find(|attribute| attribute.path().is_ident("path"))?;
    match &attribute.meta.require_name_value().ok()?.value {
        Expr::Lit(ExprLit { lit: Lit::Str(path), .. }) => Some(path.value()),
        _ => None,
    }
}

/// Gathers the names of one module.
#[derive(Default)]
struct Names {
    items: BTreeSet<String>,
    imports: Vec<Import>,
    paths: BTreeSet<Vec<String>>,
}

impl Names {
    fn import(&mut self, tree: &UseTree, path: &[String], public: bool) {
        let with = |ident: &syn::Ident| path.iter().cloned().chain([ident.to_string()]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(part) => self.import(&part.tree, &with(&part.ident), public),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, path, public)),
            UseTree::Glob(_) => self.imports.push(Import { name: None, path: path.to_vec(), public }),
            // `use a::b::{self}` is `use a::b`.
            UseTree::Name(name) if name.ident == "self" && !path.is_empty() => {
                self.imports.push(Import { name: path.last().cloned(), path: path.to_vec(), public });
            }
            UseTree::Name(name) => {
                let import = Import { name: Some(name.ident.to_string()), path: with(&name.ident), public };
                self.imports.push(import);
            }
            UseTree::Rename(name) => {
                let path = if name.ident == "self" { path.to_vec() } else { with(&name.ident) };
                self.imports.push(Import { name: Some(name.rename.to_string()), path, public });
            }
        }
    }

    /// Adds the paths found among the tokens of a macro call. Only the macro knows its grammar, so tokens are all there is.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: usize, char: char| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == char);
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                // The name of a field or method does not tell which file declares it.
                TokenTree::Ident(_) if at > 0 && is(at - 1, '.') && !(at > 1 && is(at - 2, '.')) => {}
                TokenTree::Ident(first) => {
                    let mut path = vec![first.to_string()];
                    while is(at + 1, ':') && is(at + 2, ':') {
                        let Some(TokenTree::Ident(next)) = tokens.get(at + 3) else { break };
                        path.push(next.to_string());
                        at += 3;
                    }
                    self.paths.insert(path);
                }
                _ => {}
            }
            at += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        let name = match item {
            Item::Const(item) => Some(&item.ident),
            Item::Enum(item) => Some(&item.ident),
            Item::Fn(item) => Some(&item.sig.ident),
            Item::Macro(item) => item.ident.as_ref(),
            Item::Static(item) => Some(&item.ident),
            Item::Struct(item) => Some(&item.ident),
            Item::Trait(item) => Some(&item.ident),
            Item::Type(item) => Some(&item.ident),
            Item::Union(item) => Some(&item.ident),
            _ => None,
        };
        self.items.extend(name.map(ToString::to_string));
        visit::visit_item(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, &[], !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.paths.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {
        // `pub(super)` and `pub(in crate::a)` name a module without using anything of it.
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            for token in list.tokens.clone() {
                // `#[serde(with = "super::json")]`
                if let TokenTree::Literal(literal) = token
                    && let Lit::Str(text) = Lit::new(literal)
                    && let Ok(path) = text.parse::<syn::Path>()
                {
                    self.visit_path(&path);
                }
            }
        }
        visit::visit_attribute(self, attribute);
    }
}
