//! How many methods each type has, read from the text of all its `impl` blocks.

use std::collections::BTreeMap;

use super::imports::{Modules, Path};

/// The methods of each type, over all its `impl` blocks that are not of a trait. A type is named by
/// the module that defines it, and its own name.
pub(crate) fn methods(modules: &Modules) -> BTreeMap<(Path, String), usize> {
    let mut defining: BTreeMap<String, Vec<&Path>> = BTreeMap::new();
    for (module, code) in modules {
        code.lines().filter_map(defined).for_each(|name| defining.entry(name).or_default().push(module));
    }
    let mut count = BTreeMap::new();
    for (module, code) in modules {
        for (name, methods) in blocks(code) {
            let definition = nearest(module, defining.get(&name).map_or(&[], Vec::as_slice)).clone();
            *count.entry((definition, name)).or_default() += methods;
        }
    }
    count
}

/// The type that a line begins to define.
fn defined(line: &str) -> Option<String> {
    let words: Vec<&str> = line.trim_start().split(' ').collect();
    let at = words.iter().position(|word| ["struct", "enum", "union"].contains(word)).filter(|at| *at < 3)?;
    let is_comment = words[0].starts_with("//");
    words.get(at + 1).filter(|_| !is_comment).map(|name| first_word(name))
}

/// The module that defines a type which another one has an `impl` of: the nearest to that.
fn nearest<'a>(module: &'a Path, defining: &[&'a Path]) -> &'a Path {
    let common = |other: &Path| module.iter().zip(other).take_while(|(one, other)| one == other).count();
    // The module itself comes before its neighbours, and the shorter path before the longer.
    let nearest = defining.iter().max_by_key(|path| (**path == module, common(path), usize::MAX - path.len()));
    nearest.copied().unwrap_or(module)
}

/// The letters, digits and underscores with which a text begins.
fn first_word(text: &str) -> String {
    text.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect()
}

/// The types of the `impl` blocks that are not of a trait, and the methods of each. Relies on the
/// form that rustfmt gives.
fn blocks(code: &str) -> Vec<(String, usize)> {
    let mut found: Vec<(String, usize)> = Vec::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let Some(head) = line.strip_prefix("impl") else { continue };
        let mut head = head.to_owned();
        while !head.contains('{') {
            let Some(next) = lines.next() else { return found };
            head.push_str(next);
        }
        let is_empty = head.trim_end().ends_with('}');
        let mut methods = 0;
        if !is_empty {
            methods = lines.by_ref().take_while(|line| *line != "}").filter(|line| is_method(line)).count();
        }
        if let Some(name) = name_of(&head) {
            found.push((name, methods));
        }
    }
    found
}

/// The type of an `impl`'s head after that word. `None` if the block is of a trait.
fn name_of(head: &str) -> Option<String> {
    let mut depth = 0_usize;
    let mut rest = head;
    if head.starts_with('<') {
        let end = head.char_indices().find(|(at, char)| {
            let is_arrow = *at > 0 && head[..*at].ends_with('-');
            depth = match char {
                '<' => depth + 1,
                '>' if !is_arrow => depth - 1,
                _ => depth,
            };
            depth == 0
        });
        rest = &head[end?.0 + 1..];
    }
    let rest = rest.split('{').next()?;
    (!rest.contains(" for ")).then(|| first_word(rest.trim_start()))
}

/// Whether a line of a block's first level begins a method.
fn is_method(line: &str) -> bool {
    let Some(line) = line.strip_prefix("    ").filter(|line| !line.starts_with([' ', '/', '#'])) else { return false };
    line.split(['(', '<']).next().is_some_and(|start| {
        let start =
            if line.starts_with("pub(") { line.split_once(") ").map_or(start, |(_, rest)| rest) } else { start };
        start.split(' ').any(|word| word == "fn")
    })
}
