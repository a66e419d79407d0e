//! ARCHITECTURE.md is held to the code: its floors, its edge, and the files that it names.

#[path = "architecture/imports.rs"]
mod imports;
#[path = "architecture/methods.rs"]
mod methods;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use imports::{Modules, Path, circle, edges};

fn root() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
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
fn sources() -> Vec<(String, Path, String)> {
    let room = |path: &Path| path.first().cloned().unwrap_or_default();
    read_modules("src").into_iter().map(|(path, code)| (room(&path), path, code)).collect()
}

/// The floor of each room, by the table below a heading.
fn floors(heading: &str) -> BTreeMap<String, u32> {
    let text = architecture();
    let section = text.split(heading).nth(1).expect("the heading").split("\n## ").next().expect("a section");
    let section = section.split("\n### ").next().expect("a section");
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        Some((cells.next()?.parse::<u32>().ok()?, cells.next()?.to_owned()))
    });
    rows.flat_map(|(floor, rooms)| ticked(&rooms).into_iter().map(move |room| (room, floor)).collect::<Vec<_>>())
        .collect()
}

/// The modules of a crate, without their tests.
fn read_modules(folder: &str) -> Modules {
    let of_tests = ["tests.rs", "config/example.rs", "config/reference.rs"];
    let has_library = root().join(folder).join("lib.rs").exists();
    let module = |path: &PathBuf| {
        let below = path.strip_prefix(folder).expect("below the folder").with_extension("");
        let names = below.iter().map(|name| name.to_str().expect("text").to_owned());
        // Beside a library, the program is a room of its own.
        let is_root = |name: &String| name == "lib" || (name == "main" && !has_library);
        names.filter(|name| !is_root(name)).collect::<Path>()
    };
    let code = |path: &PathBuf| {
        let text = fs::read_to_string(root().join(path)).expect("text");
        text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
    };
    let is_of_tests = |path: &PathBuf| {
        of_tests.iter().any(|name| path.ends_with(name))
            || path
                .ancestors()
                .skip(1)
                .any(|folder| of_tests.iter().any(|name| folder.with_extension("rs").ends_with(name)))
    };
    let is_source = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "rs") && !is_of_tests(path);
    files(folder).iter().filter(|path| is_source(path)).map(|path| (module(path), code(path))).collect()
}

/// What stands between backticks.
fn ticked(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn a_room_uses_lower_floors_only() {
    let floors = floors("\n## Code map\n");
    let rooms: BTreeSet<String> =
        sources().into_iter().map(|(room, ..)| room).filter(|room| !room.is_empty()).collect();
    assert_eq!(rooms, floors.keys().cloned().collect(), "every room has a floor, and every floor's rooms are there");
    let edges = edges(&read_modules("src"));
    let between_rooms = edges.iter().filter_map(|(from, to)| Some((from.first()?, to.first()?, from, to)));
    let mut uses = 0;
    for (one, other, from, to) in between_rooms.filter(|(one, other, ..)| one != other) {
        uses += 1;
        assert!(floors[other] < floors[one], "{} uses {}, which is no lower", from.join("/"), to.join("/"));
    }
    assert!(uses > 300, "the imports are read: {uses}");
}

#[test]
fn a_module_of_the_request_path_uses_lower_floors_only() {
    let floors = floors("\n### The floors of `proxy`\n");
    let modules = read_modules("src");
    let below = |path: &Path| path.get(1).filter(|_| path[0] == "proxy").cloned();
    let there: BTreeSet<String> = modules.keys().filter_map(below).collect();
    assert_eq!(
        there,
        floors.keys().cloned().collect(),
        "every module has a floor, and every floor's modules are there"
    );
    for (from, to) in edges(&modules) {
        let (Some(one), Some(other)) = (below(&from), below(&to)) else { continue };
        assert!(
            one == other || floors[&other] < floors[&one],
            "{} uses {}, which is no lower",
            from.join("/"),
            to.join("/")
        );
    }
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    for folder in ["src", "loadtest/src"] {
        let modules = read_modules(folder);
        let edges = edges(&modules);
        assert!(edges.len() > modules.len() / 2, "{folder}: the imports are read: {}", edges.len());
        assert_eq!(circle(&edges), None, "{folder}");
    }
}

#[test]
fn a_circle_is_found_however_it_is_imported() {
    let planted = |files: &[(&str, &str)]| {
        let path = |name: &str| name.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Path>();
        let modules = files.iter().map(|(name, code)| (path(name), (*code).to_owned())).collect::<Modules>();
        circle(&edges(&modules))
    };
    let low = ("b", "pub struct B; // crate::a::A is only named here\n");
    assert_eq!(planted(&[("", "mod a; mod b;"), ("a", "use crate::b::B;"), low]), None);
    for (one, other) in [
        ("use crate::b::B;", "use super::a::A;"),
        ("use crate::{b::{self, B}, c};", "fn b() { crate::a::call() }"),
        ("use super::{b::B};", "pub use crate::a::A; struct B(A);"),
    ] {
        assert!(planted(&[("", "mod a; mod b;"), ("a", one), ("b", other)]).is_some(), "{one} {other}");
    }
    // Through a name that a third module passes on, and between folders.
    let passed_on = [("", "pub use a::A;"), ("a", "use crate::b::B;"), ("b", "use crate::A;")];
    assert!(planted(&passed_on).is_some());
    let folders = [("a", ""), ("a/x", "use crate::b::y::Y;"), ("b", ""), ("b/y", ""), ("b/z", "use crate::a::x::X;")];
    assert!(planted(&folders).is_some(), "files apart, but their folders use each other");
    let family = [("a", "mod x; use x::X;"), ("a/x", "use super::A;")];
    assert_eq!(planted(&family), None, "a file and its own folder are one");
}

/// Methods of one type at most, over all its `impl` blocks. One with more does more than one thing.
const MOST_METHODS: usize = 15;

#[test]
fn no_type_has_many_methods() {
    for folder in ["src", "loadtest/src"] {
        let methods = methods::methods(&read_modules(folder));
        assert!(methods.len() > 5, "{folder}: the blocks are read: {}", methods.len());
        for ((module, name), count) in methods {
            assert!(count <= MOST_METHODS, "{folder}/{}: {name} has {count} methods", module.join("/"));
        }
    }
}

#[test]
fn methods_are_counted_over_all_blocks_of_a_type() {
    let one = "pub struct One<T>(T);\nimpl<T: Fn() -> u8> One<T> {\n    pub(super) async fn a(&self) {\n        fn inner() {}\n    }\n    \
               const fn b() {}\n}\nimpl Drop for One {\n    fn drop(&mut self) {}\n}\n";
    let planted = [
        (vec!["a".to_owned()], one.to_owned()),
        (
            vec!["a".to_owned(), "x".to_owned()],
            "impl<'a, T>\n    One<T>\n{\n    // fn no()\n    fn c() {}\n}\n".to_owned(),
        ),
        (vec!["b".to_owned()], "struct One;\nimpl One {\n    fn d() {}\n}\n".to_owned()),
    ];
    let counted = methods::methods(&planted.into_iter().collect());
    let of = |module: &str| counted.get(&(vec![module.to_owned()], "One".to_owned())).copied();
    assert_eq!((of("a"), of("b"), counted.len()), (Some(3), Some(1), 2));
}

/// Lines of one file at most.
const MOST_LINES: usize = 400;

#[test]
fn no_file_is_long() {
    for folder in ["src", "loadtest/src"] {
        for path in files(folder).iter().filter(|path| path.extension().is_some_and(|kind| kind == "rs")) {
            let lines = fs::read_to_string(root().join(path)).expect("text").lines().count();
            assert!(lines <= MOST_LINES, "{} has {lines} lines", path.display());
        }
    }
}

#[test]
fn serde_stands_at_the_edge() {
    for (room, path, code) in sources() {
        let is_edge = room == "config" || room == "admin";
        let uses = code.contains("serde::") || code.contains("Serialize") || code.contains("Deserialize");
        assert!(is_edge || !uses, "{}", path.join("/"));
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
