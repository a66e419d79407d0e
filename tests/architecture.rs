//! ARCHITECTURE.md is held to the code: its floors, its edge, and the files that it names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn architecture() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md")
}

/// Every file below a folder, by its path from the root of the repository.
fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let below = |path: PathBuf| {
        let path = path.strip_prefix(root()).expect("below the root").to_owned();
        if root().join(&path).is_dir() { files(path.to_str().expect("text")) } else { vec![path] }
    };
    paths.flat_map(below).collect()
}

/// The source files with the room that each is of, without their tests.
fn sources() -> Vec<(String, PathBuf, String)> {
    let of_tests = ["tests.rs", "config/example.rs", "config/reference.rs"];
    let is_test = |path: &Path| of_tests.iter().any(|name| path.ends_with(name));
    let source = |path: PathBuf| {
        let room = path.iter().nth(1).expect("a room").to_str().expect("text").trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(root().join(&path)).expect("text");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
        (room, path, code)
    };
    let is_source = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "rs") && !is_test(path);
    files("src").into_iter().filter(is_source).map(source).collect()
}

/// The floor of each room, by the table.
fn floors() -> BTreeMap<String, u32> {
    let text = architecture();
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        Some((cells.next()?.parse::<u32>().ok()?, cells.next()?.to_owned()))
    });
    rows.flat_map(|(floor, rooms)| ticked(&rooms).into_iter().map(move |room| (room, floor)).collect::<Vec<_>>())
        .collect()
}

/// What stands between backticks.
fn ticked(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The rooms that a piece of code names after `crate::`, alone or in braces.
fn rooms_used(code: &str) -> BTreeSet<String> {
    let name = |item: &str| {
        let is_of_name = |char: &char| char.is_ascii_lowercase() || *char == '_';
        item.trim_start().chars().take_while(is_of_name).collect::<String>()
    };
    let items = |rest: &str| match rest.strip_prefix('{') {
        Some(block) => items_of(block).iter().map(|item| name(item)).collect(),
        None => vec![name(rest)],
    };
    code.split("crate::").skip(1).flat_map(items).filter(|name| !name.is_empty()).collect()
}

/// The parts of a block that its own commas divide, up to the brace that ends it.
fn items_of(block: &str) -> Vec<String> {
    let (mut items, mut depth) = (vec![String::new()], 0);
    for char in block.chars() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(String::new()),
            _ => items.last_mut().expect("an item").push(char),
        }
    }
    items
}

#[test]
fn a_room_uses_lower_floors_only() {
    let floors = floors();
    let rooms: BTreeSet<String> = sources().into_iter().map(|(room, ..)| room).filter(|room| room != "lib").collect();
    assert_eq!(rooms, floors.keys().cloned().collect(), "every room has a floor, and every floor's rooms are there");
    for (room, path, code) in sources().iter().filter(|(room, ..)| room != "lib") {
        for used in rooms_used(code).iter().filter(|used| *used != room) {
            let floor = floors.get(used).unwrap_or_else(|| panic!("{}: {used} is no room", path.display()));
            assert!(*floor < floors[room], "{} uses {used}, which is no lower", path.display());
        }
    }
    let uses: usize = sources().iter().map(|(_, _, code)| rooms_used(code).len()).sum();
    assert!(uses > 300, "the imports are read: {uses}");
}

#[test]
fn serde_stands_at_the_edge() {
    for (room, path, code) in sources() {
        let is_edge = room == "config" || room == "admin";
        let uses = code.contains("serde::") || code.contains("Serialize") || code.contains("Deserialize");
        assert!(is_edge || !uses, "{}", path.display());
    }
}

#[test]
fn the_files_that_it_names_are_there() {
    let all: Vec<PathBuf> = ["src", "tests", "config", "loadtest"].into_iter().flat_map(files).collect();
    let is_there = |name: &str| {
        let name = name.trim_end_matches("/*").trim_end_matches('/');
        all.iter().any(|path| {
            let file = path.with_extension("");
            path.ends_with(name) || file.ends_with(name) || path.ancestors().any(|folder| folder.ends_with(name))
        })
    };
    let is_path = |text: &String| {
        text.contains('/') && !text.starts_with('/') && text.chars().all(|char| !char.is_whitespace() && char != '(')
    };
    let named: Vec<String> = ticked(&architecture()).into_iter().filter(is_path).collect();
    assert!(named.len() > 50, "they are read: {named:?}");
    for text in named {
        let (before, choices) = match text.split_once('{') {
            Some((before, choices)) => (before, choices.trim_end_matches('}')),
            None => ("", text.as_str()),
        };
        for choice in choices.split(',') {
            assert!(is_there(&format!("{before}{choice}")), "{before}{choice}, of `{text}`");
        }
    }
}
