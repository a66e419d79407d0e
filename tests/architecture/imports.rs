//! Which module imports which, read from their text, and whether that goes in a circle.

use std::collections::{BTreeMap, BTreeSet};

/// A module's names from the crate's root; the root has none.
pub(crate) type Path = Vec<String>;

/// Modules with their code.
pub(crate) type Modules = BTreeMap<Path, String>;

/// A path that stands in code.
struct Named {
    segments: Vec<String>,
    /// It stands in a `use`; a public one passes the name on.
    import: Option<Visibility>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visibility {
    Private,
    Public,
}

/// Each module with each other module that it uses. A file and the files of its own folder count as
/// one, so they have no edge. A name that a module passes on counts for the module that defines it.
pub(crate) fn edges(modules: &Modules) -> BTreeSet<(Path, Path)> {
    let named: BTreeMap<&Path, Vec<Named>> = modules.iter().map(|(path, code)| (path, named(&tokens(code)))).collect();
    let mut passed_on: BTreeMap<(Path, String), Path> = BTreeMap::new();
    for (module, names) in &named {
        for name in names.iter().filter(|name| name.import == Some(Visibility::Public)) {
            if let (Some(path), Some(last)) = (absolute(modules, module, &name.segments), name.segments.last()) {
                passed_on.insert(((*module).clone(), last.clone()), path);
            }
        }
    }
    let mut edges = BTreeSet::new();
    for (module, names) in &named {
        let is_used = |last: &String| {
            let alone = |name: &&Named| name.import.is_none() && name.segments.first() == Some(last);
            names.iter().any(|name| alone(&name))
        };
        for name in names {
            let is_only_passed_on =
                name.import == Some(Visibility::Public) && !name.segments.last().is_some_and(is_used);
            let path = absolute(modules, module, &name.segments).filter(|_| !is_only_passed_on);
            let Some(target) = path.and_then(|path| definition(modules, &passed_on, path)) else { continue };
            if !target.starts_with(module) && !module.starts_with(&target) {
                edges.insert(((*module).clone(), target));
            }
        }
    }
    edges
}

/// Modules that use each other in a circle. They stand side by side in one folder, each with all
/// that is below it: where files form a circle, so do their folders.
pub(crate) fn circle(edges: &BTreeSet<(Path, Path)>) -> Option<Vec<String>> {
    let mut uses: BTreeMap<Path, BTreeSet<Path>> = BTreeMap::new();
    for (from, to) in edges {
        let common = from.iter().zip(to).take_while(|(one, other)| one == other).count();
        uses.entry(from[..=common].to_vec()).or_default().insert(to[..=common].to_vec());
    }
    // What uses nothing that is left, or is used by nothing, cannot be in a circle.
    loop {
        let before = uses.len();
        let left: BTreeSet<Path> = uses.keys().cloned().collect();
        let used: BTreeSet<Path> = uses.values().flatten().cloned().collect();
        uses.retain(|path, uses| {
            uses.retain(|path| left.contains(path));
            !uses.is_empty() && used.contains(path)
        });
        if uses.len() == before {
            break;
        }
    }
    let shown = |(path, used): (&Path, &BTreeSet<Path>)| {
        let used: Vec<String> = used.iter().map(|path| path.join("/")).collect();
        format!("{} uses {}", path.join("/"), used.join(", "))
    };
    (!uses.is_empty()).then(|| uses.iter().map(shown).collect())
}

/// The module that defines what a path names.
fn definition(modules: &Modules, passed_on: &BTreeMap<(Path, String), Path>, path: Path) -> Option<Path> {
    let mut path = path;
    for _ in 0..8 {
        let length = (0..=path.len()).rev().find(|length| modules.contains_key(&path[..*length]))?;
        let (module, rest) = path.split_at(length);
        let next = rest.first().and_then(|name| passed_on.get(&(module.to_vec(), name.clone())));
        let Some(next) = next else { return Some(module.to_vec()) };
        path = next.iter().chain(rest.iter().skip(1)).cloned().collect();
    }
    None
}

/// The path from the crate's root; `None` if it leads out of the crate.
fn absolute(modules: &Modules, module: &Path, segments: &[String]) -> Option<Path> {
    let first = segments.first()?.as_str();
    let ups = segments.iter().take_while(|segment| *segment == "super").count();
    let (mut base, rest) = match first {
        "crate" => (Vec::new(), &segments[1..]),
        "self" => (module.clone(), &segments[1..]),
        "super" => (module[..module.len().checked_sub(ups)?].to_vec(), &segments[ups..]),
        _ => (module.clone(), segments),
    };
    base.extend(rest.iter().cloned());
    let is_own =
        matches!(first, "crate" | "self" | "super") || modules.contains_key(&[&module[..], &segments[..1]].concat());
    is_own.then_some(base)
}

/// The paths in a module's code.
fn named(tokens: &[String]) -> Vec<Named> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if tokens[at] == "use" {
            let end = at + tokens[at..].iter().position(|token| token == ";").unwrap_or(tokens.len() - at);
            let is_public = at > 0 && (tokens[at - 1] == "pub" || tokens[at - 1] == ")");
            let visibility = if is_public { Visibility::Public } else { Visibility::Private };
            let mut paths = Vec::new();
            tree(&tokens[at + 1..end], &[], &mut paths);
            found.extend(paths.into_iter().map(|segments| Named { segments, import: Some(visibility) }));
            at = end + 1;
        } else if is_name(&tokens[at]) {
            let mut segments = vec![tokens[at].clone()];
            while tokens.get(at + 1).is_some_and(|token| token == "::")
                && tokens.get(at + 2).is_some_and(|token| is_name(token))
            {
                segments.push(tokens[at + 2].clone());
                at += 2;
            }
            found.push(Named { segments, import: None });
            at += 1;
        } else {
            at += 1;
        }
    }
    found
}

/// The paths of a tree of imports.
fn tree(tokens: &[String], before: &[String], found: &mut Vec<Vec<String>>) {
    let mut path = before.to_vec();
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => {
                let (mut depth, mut start) = (0, at + 1);
                for end in at + 1..tokens.len() {
                    match tokens[end].as_str() {
                        "{" => depth += 1,
                        "}" if depth > 0 => depth -= 1,
                        "," if depth == 0 => {
                            tree(&tokens[start..end], &path, found);
                            start = end + 1;
                        }
                        "}" => {
                            tree(&tokens[start..end], &path, found);
                            return;
                        }
                        _ => {}
                    }
                }
                return;
            }
            "as" => break,
            "self" if !path.is_empty() => {}
            token if is_name(token) => path.push(token.to_owned()),
            _ => {}
        }
        at += 1;
    }
    if path.len() > before.len() || tokens.first().is_some_and(|token| token == "self") {
        found.push(path);
    }
}

/// Names and signs, without comments and texts.
fn tokens(code: &str) -> Vec<String> {
    let chars: Vec<char> = code.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    let is_of_name = |char: &char| char.is_alphanumeric() || *char == '_';
    while at < chars.len() {
        let rest = &chars[at..];
        match rest {
            ['/', '/', ..] => at += rest.iter().position(|char| *char == '\n').unwrap_or(rest.len()),
            ['r', '#', '"', ..] => at += raw_text(rest),
            ['"', ..] => at += text(rest),
            ['\'', '\\', _, '\'', ..] => at += 4,
            ['\'', _, '\'', ..] => at += 3,
            [':', ':', ..] => {
                tokens.push("::".to_owned());
                at += 2;
            }
            [char, ..] if is_of_name(char) => {
                let name: String = rest.iter().take_while(|char| is_of_name(char)).collect();
                at += name.chars().count();
                tokens.push(name);
            }
            [char, ..] => {
                if !char.is_whitespace() {
                    tokens.push(char.to_string());
                }
                at += 1;
            }
            [] => break,
        }
    }
    tokens
}

/// The length of a text with its quotes.
fn text(chars: &[char]) -> usize {
    let mut at = 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_text(chars: &[char]) -> usize {
    let end = chars.windows(2).skip(3).position(|pair| pair == ['"', '#']);
    end.map_or(chars.len(), |at| at + 5)
}

fn is_name(token: &str) -> bool {
    token.chars().next().is_some_and(|char| char.is_alphabetic() || char == '_')
}
