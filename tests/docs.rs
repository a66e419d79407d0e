//! The pages are held to the code: metrics, log events, links, and how long a page may be.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use jellypin::observe::metrics::Metrics;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path.as_ref()))
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// Every file below a folder whose name ends so.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).expect("a folder");
    let paths = entries.map(|entry| folder.join(entry.expect("an entry").file_name()));
    let below = |path: PathBuf| match root().join(&path).is_dir() {
        true => files(&path, ending),
        false => Vec::from_iter(Some(path).filter(|path| path.to_string_lossy().ends_with(ending))),
    };
    paths.flat_map(below).collect()
}

/// The pages that people of this project write.
fn pages() -> Vec<PathBuf> {
    let at_root = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "tests/README.md"];
    at_root.into_iter().map(PathBuf::from).chain(files(Path::new("docs"), ".md")).collect()
}

/// The lines of a page that are prose: no code block, table, heading or comment.
fn prose(page: &str) -> Vec<&str> {
    let mut is_code = false;
    let is_prose = |line: &&str| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence && !["|", "#", "<!--", "["].iter().any(|start| line.starts_with(start))
    };
    page.lines().filter(is_prose).collect()
}

#[test]
fn every_metric_is_on_the_page_for_operators() {
    let page = read("docs/operations.md");
    // The encoder leaves out a family that has counted nothing yet; the registry's own text has every name.
    let registered = format!("{:?}", Metrics::new());
    let names: BTreeSet<String> = registered.split("Descriptor { name: \"").skip(1).map(metric_name).collect();
    assert!(names.len() > 25, "the names are found: {names:?}");
    for name in &names {
        assert!(page.contains(&format!("`{name}")), "{name} is missing in docs/operations.md");
    }
    let told = page.split('`').skip(1).step_by(2).filter_map(|code| code.split(['{', ' ']).next());
    for name in told.filter(|code| code.starts_with("jellypin_")) {
        assert!(names.iter().any(|known| name.starts_with(known.as_str())), "docs/operations.md: there is no {name}");
    }
}

/// `jellypin check` reads every configuration that takes another proxy's place. Its files and addresses
/// are those of another machine, so they are put in place here first.
#[test]
fn configurations_that_take_another_proxys_place_are_good() {
    let page = read("docs/migrate.md");
    let blocks: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 6, "the configurations are found");
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let pair = rcgen::generate_simple_self_signed(["media.example.org".to_owned()]).expect("a certificate");
    fs::write(at("pair.pem"), pair.cert.pem() + &pair.signing_key.serialize_pem()).expect("a file");
    let user = "alice:$2b$04$abcdefghijklmnopqrstuuyvPXIbu7xe6/CED2DzX8z6Si09MlzlW\n";
    fs::write(at("users"), user).expect("a file");
    for (number, block) in blocks.into_iter().enumerate() {
        let mut text = block.replace("/var/lib/jellypin", &at("state"));
        for file in ["live/media.example.org/fullchain.pem", "live/media.example.org/privkey.pem"] {
            text = text.replace(&format!("/etc/letsencrypt/{file}"), &at("pair.pem"));
        }
        text = text.replace("/etc/jellypin/media.pem", &at("pair.pem"));
        text = text.replace("/etc/jellypin/pods.pem", &at("pair.pem")).replace("10.0.0.12:8920", "127.0.0.1:3");
        // Nobody listens at these ports.
        text = text.replace("10.0.0.11:8096", "127.0.0.1:2").replace("10.0.0.12:8096", "127.0.0.1:3");
        text = text.replace("127.0.0.1:8096", "127.0.0.1:2").replace("/etc/jellypin/users", &at("users"));
        text = text.replace("10.0.0.20:2283", "127.0.0.1:2").replace("10.0.0.21:3000", "127.0.0.1:2");
        let file = at(&format!("{number}.toml"));
        fs::write(&file, &text).expect("a file");
        let checked = Command::new(env!("CARGO_BIN_EXE_jellypin"))
            .args(["check", "--json", "--config", &file])
            .env("JELLYPIN_API_KEY", "5f0c7d1e9a3b4c2d8e6f7a1b2c3d4e5f")
            .output()
            .expect("jellypin runs");
        let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
        assert!(said.contains("\"verdict\":\"unserved\""), "{text}\n{said}");
    }
}

/// The exported name without the ending of its type, from `requests", help: "…", unit: None`.
fn metric_name(descriptor: &str) -> String {
    let name = descriptor.split('"').next().unwrap_or_default();
    let unit = descriptor.split("unit: ").nth(1).unwrap_or_default();
    match unit.strip_prefix("Some(") {
        Some(unit) => format!("jellypin_{name}_{}", unit.split(')').next().unwrap_or_default().to_lowercase()),
        None => format!("jellypin_{name}"),
    }
}

#[test]
fn every_log_event_is_on_the_page_for_operators() {
    let page = read("docs/operations.md");
    let sources = files(Path::new("src"), ".rs");
    let events: BTreeSet<(String, String)> =
        sources.iter().filter(|path| !path.ends_with("tests.rs")).flat_map(|path| events(&read(path))).collect();
    assert!(events.len() > 55, "the events are found: {events:?}");
    for (level, message) in &events {
        let row = format!("| {level} | {message} |");
        assert!(page.contains(&row), "docs/operations.md has no row that begins `{row}`");
    }
    let is_level = |cell: &str| ["error", "warn", "info", "debug", "trace"].contains(&cell);
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.split(" | ").map(|cell| cell.trim_start_matches("| ")).collect();
        let known = events.iter().any(|(level, message)| cells[0] == level && cells[1] == message);
        assert!(known || !is_level(cells[0]), "docs/operations.md: the code says no such thing as {row}");
    }
}

/// The level and the words of each event that a source file may log. The words are the last text among the arguments.
fn events(source: &str) -> Vec<(String, String)> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let event = |rest: &str| {
        let (level, arguments) = rest.split_once("!(")?;
        let is_level = ["error", "warn", "info", "debug", "trace"].contains(&level);
        is_level.then(|| (level.to_owned(), last_text(arguments)))
    };
    code.split("tracing::").skip(1).filter_map(event).collect()
}

/// The last string literal before the parenthesis that ends the arguments.
fn last_text(arguments: &str) -> String {
    let (mut depth, mut last, mut text) = (0, String::new(), None::<String>);
    let mut chars = arguments.chars();
    while let Some(char) = chars.next() {
        match (char, &mut text) {
            ('\\', Some(text)) => text.extend(chars.next()),
            ('"', Some(_)) => last = text.take().unwrap_or_default(),
            (char, Some(text)) => text.push(char),
            ('"', None) => text = Some(String::new()),
            ('(' | '[' | '{', None) => depth += 1,
            (')' | ']' | '}', None) if depth == 0 => break,
            (')' | ']' | '}', None) => depth -= 1,
            _ => {}
        }
    }
    last
}

#[test]
fn the_words_of_an_event_are_its_last_text() {
    let source = r#"tracing::warn!(%error, why = f("(a"), "it \"broke\": {why}"); tracing::subscriber::x("no");"#;
    assert_eq!(events(source), [("warn".to_owned(), "it \"broke\": {why}".to_owned())]);
}

#[test]
fn a_page_is_short_enough_to_be_read() {
    for (name, most) in [("README.md", 900), ("ARCHITECTURE.md", 2_500)] {
        let words = read(name).split_whitespace().count();
        assert!(words <= most, "{name} has {words} words; {most} at most: move some to docs/");
    }
    let mut lines = 0;
    for path in pages() {
        let page = read(&path);
        for line in prose(&page) {
            lines += 1;
            let is_one_word = line.split_whitespace().count() == 1;
            assert!(line.chars().count() <= 100 || is_one_word, "{}: over 100 columns: {line}", path.display());
        }
    }
    assert!(lines > 500, "the prose is read: {lines}");
}

/// Every Markdown file of the repository, without what is built and installed.
fn markdown_files() -> Vec<PathBuf> {
    let at_root = files_of(Path::new("")).into_iter().filter(|path| path.extension().is_some_and(|end| end == "md"));
    let folders = [".github", "config", "deploy", "docs", "loadtest", "tests"].map(Path::new);
    let below =
        folders.into_iter().filter(|folder| root().join(folder).exists()).flat_map(|folder| files(folder, ".md"));
    at_root.chain(below.filter(|path| !path.components().any(|part| part.as_os_str() == "node_modules"))).collect()
}

/// The files of one folder, without those below it.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).expect("a folder");
    let paths = entries.map(|entry| folder.join(entry.expect("an entry").file_name()));
    paths.filter(|path| root().join(path).is_file()).collect()
}

/// What is wrong with the fences of a page's code blocks, with the line.
fn broken_fences(page: &str) -> Vec<(usize, &'static str)> {
    let (mut broken, mut opened) = (Vec::new(), None);
    for (number, line) in (1..).zip(page.lines()) {
        let Some(at) = line.find("```") else { continue };
        let info = line[at..].trim_start_matches('`');
        let stands_alone = line[..at].trim_start_matches([' ', '>']).is_empty();
        match opened {
            _ if !stands_alone || info.contains([' ', '`']) => broken.push((number, "text stands beside the fence")),
            None => opened = Some(number),
            Some(_) if !info.is_empty() => broken.push((number, "a block begins inside another")),
            Some(start) => {
                if number == start + 1 {
                    broken.push((start, "the block is empty"));
                }
                opened = None;
            }
        }
    }
    broken.extend(opened.map(|start| (start, "the block does not end")));
    broken
}

#[test]
fn every_code_block_has_its_fences() {
    let pages = markdown_files();
    assert!(pages.len() > 15, "the pages are found: {pages:?}");
    for path in pages {
        assert_eq!(broken_fences(&read(&path)), [], "{}", path.display());
    }
}

#[test]
fn broken_fences_are_found() {
    assert_eq!(broken_fences("text\n\n   ```rust\n   code\n   ```\n> ```\n> code\n> ```\n"), []);
    for (page, line) in [
        ("```sh cargo test ```", 1),
        ("text\n```rust fn css() {}\ncode\n```", 2),
        ("text ```\ncode\n```", 1),
        ("```\n```", 1),
        ("```sh\ncode", 1),
        ("```sh\ncode\n```sh\n", 3),
    ] {
        assert_eq!(broken_fences(page).first().map(|(line, _)| *line), Some(line), "{page}");
    }
}

#[test]
fn every_link_leads_to_a_file() {
    let mut links = 0;
    for path in pages() {
        let page = read(&path);
        let folder = path.parent().unwrap_or(Path::new(""));
        for target in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if target.contains("://") || file.is_empty() {
                continue;
            }
            links += 1;
            assert!(root().join(folder).join(file).exists(), "{}: nothing is at {target}", path.display());
        }
    }
    assert!(links > 40, "the links are read: {links}");
}
