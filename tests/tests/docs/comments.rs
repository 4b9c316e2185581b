//! Splits a file into comments and code: Rust by the lexer of rustc, other languages by a scanner.

use ra_ap_rustc_lexer::{DocStyle, FrontmatterAllowed, LiteralKind, TokenKind, tokenize};

use crate::markdown::line_of;
use crate::source::extension;

/// A file, split into comments and code.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) comments: Vec<Comment>,
    /// Rust: the identifiers, keywords among them, and the punctuation between. Other languages: empty.
    pub(crate) tokens: Vec<String>,
    /// Rust: the texts of literals, with a space for each escape. Other languages: the lines without comments.
    pub(crate) texts: Vec<String>,
}

/// Lines of comment that follow each other, without their marks.
#[derive(Debug, PartialEq)]
pub(crate) struct Comment {
    /// The line of the first, from 1.
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// How a language marks comments.
struct Syntax {
    line: &'static str,
    block: Option<(&'static str, &'static str)>,
}

/// The parts of a file; `None` for a language without comments, or without a checker.
pub(crate) fn parts(path: &str, text: &str) -> Option<Parts> {
    let dashes = Syntax { line: "--", block: Some(("/*", "*/")) };
    let hash = Syntax { line: "#", block: None };
    match extension(path) {
        // Generated: its comments are texts of docs/openapi.yaml.
        "ts" if path.ends_with("/openapi.ts") => None,
        "rs" => Some(of_rust(text)),
        "lua" => Some(of_other(text, &Syntax { line: "--", block: Some(("--[[", "]]")) })),
        "sql" => Some(of_other(text, &dashes)),
        "h" | "ts" | "tsx" | "mjs" | "css" => {
            Some(of_other(text, &Syntax { line: "//", block: Some(("/*", "*/")) }))
        }
        "xml" => Some(of_other(text, &Syntax { line: "<!--", block: Some(("<!--", "-->")) })),
        "sh" | "yaml" | "yml" | "toml" | "py" | "conf" | "cnf" | "properties" => Some(of_other(text, &hash)),
        "" if text.starts_with("#!") => Some(of_other(text, &hash)),
        _ => None,
    }
}

fn of_rust(source: &str) -> Parts {
    let mut parts = Parts::default();
    // The doc style and the last line of the comment before, while only the end of a line came since.
    let mut open: Option<(Option<DocStyle>, usize)> = None;
    let (mut place, mut line, mut own_line) = (0, 1, true);
    for token in tokenize(source, FrontmatterAllowed::No) {
        let text = &source[place..place + token.len as usize];
        match token.kind {
            TokenKind::LineComment { doc_style } => {
                let body = text.trim_start_matches('/');
                let body = body.strip_prefix('!').filter(|_| doc_style.is_some()).unwrap_or(body);
                let body = body.strip_prefix(' ').unwrap_or(body).trim_end();
                match parts.comments.last_mut().filter(|_| own_line && open == Some((doc_style, line - 1))) {
                    Some(comment) => comment.text.extend(["\n", body]),
                    None => parts.comments.push(Comment { line, text: body.to_owned() }),
                }
                open = own_line.then_some((doc_style, line));
            }
            TokenKind::BlockComment { .. } => {
                let body =
                    text.trim_start_matches("/*").trim_start_matches(['*', '!']).trim_end_matches("*/");
                parts.comments.push(Comment { line, text: body.to_owned() });
            }
            TokenKind::Literal { kind, .. } => parts.texts.extend(literal(text, kind)),
            TokenKind::Whitespace => {}
            TokenKind::RawIdent => parts.tokens.push(text.trim_start_matches("r#").to_owned()),
            TokenKind::Lifetime { .. } => parts.tokens.push(text.trim_start_matches('\'').to_owned()),
            _ => parts.tokens.push(text.to_owned()),
        }
        own_line = match token.kind {
            TokenKind::Whitespace => own_line || text.contains('\n'),
            _ => false,
        };
        line += text.matches('\n').count();
        place += text.len();
    }
    parts
}

/// The text between a literal's quotes; `None` for a number or a character.
fn literal(token: &str, kind: LiteralKind) -> Option<String> {
    let raw = match kind {
        LiteralKind::Str { .. } | LiteralKind::ByteStr { .. } | LiteralKind::CStr { .. } => false,
        LiteralKind::RawStr { .. } | LiteralKind::RawByteStr { .. } | LiteralKind::RawCStr { .. } => true,
        _ => return None,
    };
    let inner = &token[token.find('"')? + 1..token.rfind('"')?];
    if raw {
        return Some(inner.to_owned());
    }
    let mut escaped = false;
    let unescaped = inner.chars().map(|char| {
        let hidden = escaped || char == '\\';
        escaped = char == '\\' && !escaped;
        if hidden { ' ' } else { char }
    });
    Some(unescaped.collect())
}

fn of_other(source: &str, syntax: &Syntax) -> Parts {
    let mut parts = Parts::default();
    // The last line of the comment before, if nothing else stood on it.
    let mut open = None;
    let mut rest = source;
    while !rest.is_empty() {
        let line = line_of(source, source.len() - rest.len());
        let end = rest.find('\n').map_or(rest.len(), |end| end + 1);
        let shebang = line == 1 && rest.starts_with("#!");
        let Some((start, is_block)) = (!shebang).then(|| start_of_comment(&rest[..end], syntax)).flatten()
        else {
            parts.texts.push(rest[..end].trim_end().to_owned());
            rest = &rest[end..];
            continue;
        };
        let code = rest[..start].trim_end();
        if !code.is_empty() {
            parts.texts.push(code.to_owned());
        }
        if let Some((open_mark, close_mark)) = syntax.block.filter(|_| is_block) {
            let inner = &rest[start + open_mark.len()..];
            let length = inner.find(close_mark).unwrap_or(inner.len());
            parts.comments.push(Comment { line, text: inner[..length].trim().to_owned() });
            rest = inner.get(length + close_mark.len()..).unwrap_or_default();
            continue;
        }
        let body = rest[start..end].trim_start_matches(syntax.line);
        let body = body.strip_prefix(' ').unwrap_or(body).trim_end();
        match parts.comments.last_mut().filter(|_| code.is_empty() && open == Some(line - 1)) {
            Some(comment) => comment.text.extend(["\n", body]),
            None => parts.comments.push(Comment { line, text: body.to_owned() }),
        }
        open = code.is_empty().then_some(line);
        rest = &rest[end..];
    }
    parts
}

/// The column where a comment begins in a line, and whether it is a block. A quote that does not end in the line is
/// an apostrophe.
fn start_of_comment(line: &str, syntax: &Syntax) -> Option<(usize, bool)> {
    let mut skip_to = 0;
    for (place, char) in line.char_indices() {
        if place < skip_to {
            continue;
        }
        let rest = &line[place..];
        if syntax.block.is_some_and(|(open, _)| rest.starts_with(open)) {
            return Some((place, true));
        }
        // In shells and YAML, a mark within a word is none: `${#list}`.
        let within = syntax.line == "#" && !line[..place].chars().next_back().is_none_or(char::is_whitespace);
        if rest.starts_with(syntax.line) && !within {
            return Some((place, false));
        }
        if matches!(char, '"' | '\'')
            && let Some(length) = rest[1..].find(char)
        {
            skip_to = place + length + 2;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Comment, parts};

    fn comments(path: &str, text: &str) -> Vec<(usize, String)> {
        let comments = parts(path, text).unwrap().comments.into_iter();
        comments.map(|Comment { line, text }| (line, text)).collect()
    }

    #[test]
    fn comments_of_rust_are_joined_and_texts_are_none() {
        let source = "//! One\n//! two.\n\n/// Three\nfn a() { // four\n    // five\n    b(\"// no \\\" // no\", r#\"/* no */\"#, 'x');\n}\n/* six */";
        let expected = [(1, "One\ntwo."), (4, "Three"), (5, "four"), (6, "five"), (9, " six ")];
        assert_eq!(comments("a.rs", source), expected.map(|(line, text)| (line, text.to_owned())));
        let parts = parts("a.rs", source).unwrap();
        assert_eq!(parts.texts, ["// no    // no", "/* no */"]);
        assert_eq!(parts.tokens[..4], ["fn", "a", "(", ")"]);
    }

    #[test]
    fn comments_of_other_languages_are_found() {
        let lua = "#!lua flags=x\n-- One\n-- two.\nlocal a = '-- no' -- three\n--[[ four\nfive ]] return a\n";
        let expected = [(2, "One\ntwo."), (4, "three"), (5, "four\nfive")];
        assert_eq!(comments("a.lua", lua), expected.map(|(line, text)| (line, text.to_owned())));
        assert_eq!(parts("a.lua", lua).unwrap().texts[1..], ["local a = '-- no'", " return a"]);
        let sql = "-- One\nSELECT '--' /* two */ FROM a;\n";
        assert_eq!(comments("a.sql", sql), [(1, "One".to_owned()), (2, "two".to_owned())]);
        let shell = "#!/bin/sh\n# One's\necho ${#a} '# no' \"# no\" # two\n";
        assert_eq!(comments("dev", shell), [(2, "One's".to_owned()), (3, "two".to_owned())]);
        let toml = "a = \"# no\" # one\n\n# two\n# three\n";
        assert_eq!(comments("Cargo.toml", toml), [(1, "one".to_owned()), (3, "two\nthree".to_owned())]);
        assert_eq!(comments("a.xml", "<a/>\n<!-- one\n two --><b/>"), [(2, "one\n two".to_owned())]);
        assert!(parts("LICENSE", "# none").is_none());
    }
}
