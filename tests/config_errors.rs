//! Every broken configuration is refused with its place and its problem, and no secret is told.

#[path = "config_errors/broken.rs"]
mod broken;

use std::{collections::HashMap, path::Path};

use broken::BROKEN;
use jellypin::{
    app,
    config::{Environment, Error, load, parse},
};
use proptest::prelude::*;

struct Variables(HashMap<&'static str, &'static str>);

impl Environment for Variables {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|value| (*value).to_owned())
    }
}

const SECRET: &str = "hunter2-hunter2-hunter2";

fn read(text: &str) -> Result<app::Config, Error> {
    let variables = [("GOOD", SECRET), ("EMPTY", "\n"), ("SHORT", "fifteen bytes..\r\n")];
    parse(text, Path::new("/etc/jellypin/jellypin.toml"), &Variables(HashMap::from(variables)))
}

fn whole(text: &str) -> String {
    let listen = if text.contains("[listen") { "" } else { "\n[listen]\nhttp = \"0.0.0.0:8096\"" };
    let pools = if text.contains("pools") { "" } else { "\n[pools.main.pods]\na = \"http://h:8096\"" };
    format!("{text}{listen}{pools}\n")
}

fn refusal(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

#[test]
fn each_broken_file_is_refused_with_its_place_and_problem() {
    let wrong: Vec<String> = BROKEN
        .iter()
        .filter_map(|(text, expected)| {
            let said = match read(&whole(text)) {
                Ok(_) => "accepted".to_owned(),
                Err(error) => error.to_string(),
            };
            let first = said.lines().next().unwrap_or_default();
            (first != format!("jellypin.toml:{expected}"))
                .then(|| format!("{text}\n  expected {expected}\n  said     {first}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(read(&whole("")).is_ok(), "what is put behind a text must not be what is refused");
}

#[test]
fn the_source_line_is_shown_up_to_the_place() {
    assert_eq!(
        refusal("[health]\n\tintervall = \"1s\" # slower"),
        "jellypin.toml:2:2: [health] intervall: unknown key; did you mean `interval`?\n \
         2 | \tintervall\n   | \t^^^^^^^^^"
    );
    assert_eq!(
        refusal("log = { level = \"info\", format = \"xml\" }"),
        "jellypin.toml:1:34: [log] format: \"xml\" is none of `json`, `text`\n \
         1 | log = { level = \"info\", format = \"xml\"\n   |                                  ^^^^^"
    );
}

#[test]
fn no_error_tells_a_secret() {
    let misplaced = [
        "[affinity]\nkeys = 'S'",
        "[affinity]\nkey = 'S'",
        "[affinity]\nkeys = ['S', 1]",
        "[affinity]\nkeys = ['S', 'short']",
        "[affinity]\nkeys = ['S', 'S]",
        "[affinity]\nkeys = [\n  'hunter2',\n]",
        "[affinity]\nkeys = [\n  '''S\n''', 'short']",
        "[affinity]\nkeys = [\n  S,\n]",
        "[affinity]\nkeys = { 'S' = 1 }",
        "[affinity]\nkeys = ['S']\nkeys = ['S']",
        "affinity = 'S'",
        "affinity = { keys = ['S'], cookie = { nam = 1 } }",
        "affinity = { keys = ['S'], cookies = 1 }",
        "affinity = { keys = ['S'], cookie = 'S' }",
        "afinity = { keys = ['S'] }",
        "keys = ['S']",
        "[listen]\nkeys = ['S']",
        "[redis]\nurl = 'S'",
        "[redis]\nurl = ['redis://:S@h']",
        "[redis]\nurl = 'redis://:S@h:x'",
        "[redis]\nurl = 'redis://:S#@h'",
        "[redis]\nurl = 'http://:S@h'",
        "[redis]\nurls = 'redis://:S@h'",
        "[redis]\nurl = 'redis://h'\nsentinels = ['redis://:S@h', 'S']",
        "redis = 'redis://:S@h'",
        "redis = { url = 'redis://:S@h', prefix = 1 }",
        "redis = { url = 'redis://:S@h', ttl = '1s' }",
        "[redis]\nurl = 'redis://:S@h'\nca = 'ca.pem'",
        "[pools.main.pods]\na = 'http://me:S@h'",
        "[pools.main.pods]\na = 'https://me:S@h'",
        "[pools.main.pods]\na = 'me:S@h'",
        "[pools.main.pods]\na = 'http://me:x/S@h'",
        "[pools.main]\npods = { a = 'http://me:S@h', b = 1 }",
    ];
    for text in misplaced {
        let said = refusal(&whole(&text.replace('S', SECRET)));
        assert!(!said.contains("hunter2"), "{said}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Neither does one edit after another of a sound file, and none makes the reader panic.
    #[test]
    fn no_edit_makes_an_error_tell_a_secret(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, "[ü\\[\\]{}=.,#'\"a1\r\n \t]{0,3}"), 1..4),
    ) {
        let text = "# é\naffinity = { keys = ['S', \"S\"], cookie = { path = '/' } }\n\
            [health]\nrise = 1\n[pools.main.pods]\na = 'http://h'\n[listen]\nhttp = '[::]:80'\n";
        let mut text: Vec<char> = text.replace('S', SECRET).chars().collect();
        for (index, removed, inserted) in edits {
            let start = index.index(text.len());
            text.splice(start..(start + removed).min(text.len()), inserted.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(error) = read(&text) {
            prop_assert!(!error.to_string().contains("hunter2"), "{text}\n{error}");
        }
    }
}

#[test]
fn a_secret_is_read_without_its_newline_and_an_inline_one_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("key"), format!("{SECRET}\r\n")).expect("the key's file");
    let file = folder.path().join("jellypin.toml");
    let read = |text: &str| {
        std::fs::write(&file, whole(text)).expect("the configuration's file");
        load(&file, &Variables(HashMap::from([("GOOD", SECRET)]))).unwrap_or_else(|error| panic!("{error}"))
    };
    let config = read(&format!("[affinity]\nkeys = [{{ file = 'key' }}, {{ env = 'GOOD' }}, '{SECRET}-inline']"));
    let keys: Vec<_> = config.affinity.keys.iter().map(|key| String::from_utf8_lossy(key.bytes())).collect();
    assert_eq!(keys, [SECRET, SECRET, &format!("{SECRET}-inline")]);
    assert_eq!(config.in_the_open, ["an affinity key"]);

    assert!(read("[affinity]\nkeys = [{ file = 'key' }]\n[redis]\nurl = 'redis://h'").in_the_open.is_empty());
    let config = read("[jellyfin]\napi_key = '0123456789abcdef0123456789abcdef'\n[redis]\nurl = 'redis://:pw@h'");
    assert_eq!(config.in_the_open, ["the API key", "a password of Redis"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("jellypin.toml");
    let said = || load(&file, &Variables(HashMap::new())).expect_err("no configuration").to_string();
    assert_eq!(said(), format!("{}: cannot be read: No such file or directory (os error 2)", file.display()));
    std::fs::write(&file, b"[log]\n# \xff").expect("the configuration's file");
    assert_eq!(said(), "jellypin.toml:2:3: not UTF-8");
}

#[test]
fn each_key_reaches_its_room() {
    let text = r#"
        listen = { http = ["[::]:80", "127.0.0.1:0", "127.0.0.1:0"], trusted_proxies = ["10.1.2.3/8", "192.0.2.1"] }
        admin.listen = "off"
        log = { access = "access.log", level = "jellypin::health=debug,warn" }
        [pools.b]
        base_path = "/jf/"
        dns = { name = "Pods.example.", port = 8096 }
        [pools.a.pods]
        two = "HTTP://[::1]"
        one = { url = "http://Pod_1:8096/" }
        [[routes]]
        host = "*.Example.org"
        pool = "b"
        [[routes]]
        path = "/x/"
        pool = "a"
    "#;
    let config = read(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.listen.http.len(), 3, "port 0 may be asked for more than once");
    assert_eq!(format!("{:?}", config.forward.trusted), "[10.0.0.0/8, 192.0.2.1/32]");
    let single = whole("[listen]\nhttp = \"[::]:80\"\ntrusted_proxies = \"10.0.0.0/8\"");
    let single = read(&single).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(format!("{:?}", single.forward.trusted), "[10.0.0.0/8]");
    assert_eq!(config.admin.listen, None);
    assert_eq!(format!("{:?}", config.observe.access), "File(\"/etc/jellypin/access.log\")");
    let pods: Vec<_> = config.pools[0].pods.iter().map(|pod| (pod.name.as_str(), pod.authority.as_str())).collect();
    assert_eq!(pods, [("one", "pod_1:8096"), ("two", "[::1]:80")]);
    assert_eq!((config.pools[1].name.as_str(), config.pools[1].base_path.as_str()), ("b", "/jf"));
    assert_eq!(config.pools[1].dns.as_ref().map(|dns| dns.name.as_str()), Some("pods.example"));
    let routes: Vec<_> = config.route.routes.iter().map(|r| (r.host.as_deref(), &*r.path, r.leads_to("a"))).collect();
    assert_eq!(routes, [(Some("*.example.org"), "/", false), (None, "/x", true)]);
}
