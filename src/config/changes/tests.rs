//! Tables of what differs between two texts.

use super::*;

struct Variables;

impl Environment for Variables {
    fn get(&self, name: &str) -> Option<String> {
        Some(format!("value of {name}"))
    }
}

fn keys(text: &str) -> Keys {
    Keys::read(text, Path::new(""), &Variables)
}

fn said(before: &str, after: &str) -> Vec<String> {
    keys(before).changes(&keys(after)).iter().map(Change::to_string).collect()
}

#[test]
fn changes_are_named_by_key_and_secrets_are_not_shown() {
    let before =
        "[timeouts]\nhold = \"1s\"\n[admin]\ntoken = \"hunter2hunter2hunter2\"\n[pools.main.pods]\na = \"http://a\"";
    let after =
        "[timeouts]\nhold = \"2s\"\n[admin]\ntoken = \"other\"\n[pools.main.pods]\na = \"http://a\"\nb = \"http://b\"";
    assert_eq!(
        said(before, after),
        [
            "admin.token: (secret) → (secret)",
            "pools.main.pods.b: (default) → \"http://b\"",
            "timeouts.hold: \"1s\" → \"2s\"",
        ]
    );
    assert_eq!(said(before, before), [""; 0]);
}

#[test]
fn users_of_routes_are_not_shown() {
    let route = |more: &str| format!("[[routes]]\npool = \"main\"\n{more}");
    assert_eq!(said(&route(""), &route("path = \"/x\"")).len(), 1);
    let (one, other) = (route("basic_auth = { users = \"a:hunter2\" }"), route("basic_auth.users = [\"a:hunter3\"]"));
    assert_eq!(said(&one, &other), ["routes: (secret) → (secret)"]);
    let text = route("basic_auth = { file = \"users\" }");
    assert_eq!(secret_files(&text, Path::new("/etc")), [Path::new("/etc/users")]);
}

#[test]
fn what_waits_says_why_and_is_named_again() {
    let (before, after) =
        ("[limits]\npins = 10\n[pools.x]\nbase_path = \"/a\"", "[limits]\npins = 20\n[timeouts]\nhold = \"1s\"");
    let changes = keys(before).changes(&keys(after));
    let waiting: Vec<_> = changes.iter().filter(|it| it.waits.is_some()).map(|it| it.key.as_str()).collect();
    assert_eq!(waiting, ["limits.pins", "pools.x.base_path"]);
    assert!(changes[0].to_string().starts_with("limits.pins: 10 → 20 (at the next start: "), "{}", changes[0]);
    let applied = keys(before).after(&keys(after));
    let again: Vec<_> = applied.changes(&keys(after)).into_iter().map(|it| it.key).collect();
    assert_eq!(again, ["limits.pins", "pools.x.base_path"]);
}

#[test]
fn a_redis_that_comes_waits_and_its_other_address_does_not() {
    let of = |text: &str| keys(text);
    let (none, one, other) = ("", "[redis]\nurl = \"redis://one\"", "[redis]\nurl = \"redis://other\"");
    assert_eq!(of(none).changes(&of(one))[0].waits, Some(NO_OTHER_STORE));
    assert_eq!(of(one).changes(&of(other))[0].waits, None);
}

#[test]
fn a_leader_that_redis_names_waits_for_redis() {
    let waits = |mode: &str| {
        let after = format!("[redis]\nurl = \"redis://one\"\n[leader]\nmode = \"{mode}\"");
        let changes = keys("").changes(&keys(&after));
        changes.into_iter().find(|change| change.key == "leader.mode").expect("it differs").waits
    };
    assert_eq!([waits("follow"), waits("elect"), waits("probe")], [Some(NO_OTHER_STORE), Some(NO_OTHER_STORE), None]);
}
