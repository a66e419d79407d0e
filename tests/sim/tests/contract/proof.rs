//! Proof that the comparison finds differences: an answer equal to the recorded one passes, and each change is named.

use serde_json::json;

use crate::answer;
use crate::client::Answer;
use crate::difference::{Difference, Kind};
use crate::names::Names;
use crate::recording::Response;
use crate::{cut, json, playlist};

const RECORDED: &str = r#"{"Tags":["x"],"Id":"<user:alice>","Policy":{"IsHidden":true},"At":"<time>"}"#;

const SEEN: &str = r#"{"Tags":["x"],"Id":"0123456789abcdef0123456789abcdef","Policy":{"IsHidden":true},"At":"2026-11-23T15:31:17.1234567Z"}"#;

fn recorded() -> Response {
    Response {
        status: 200,
        headers: pairs(&[("Content-Type", "application/json; charset=utf-8"), ("Server", "Kestrel")]),
        length: Some(RECORDED.len()),
        body: Some(RECORDED.to_owned()),
    }
}

fn seen() -> Answer {
    Answer {
        status: 200,
        headers: pairs(&[
            ("content-type", "application/json; charset=utf-8"),
            ("server", "Kestrel"),
            ("date", "Mon, 23 Nov 2026 15:31:17 GMT"),
        ]),
        received: SEEN.len(),
        body: SEEN.as_bytes().to_vec(),
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn changed(text: &str, from: &str, to: &str) -> Vec<u8> {
    assert!(text.contains(from), "{from} is not in {text}");
    text.replace(from, to).into_bytes()
}

fn found(seen: Answer) -> Vec<(Kind, String)> {
    kinds(answer::compare(&recorded(), &seen, &mut Names::default()))
}

fn kinds(found: Vec<Difference>) -> Vec<(Kind, String)> {
    found.into_iter().map(|difference| (difference.kind, difference.at)).collect()
}

#[test]
fn an_equal_answer_has_no_difference() {
    assert_eq!(found(seen()), []);
}

#[test]
fn another_status_and_other_headers_are_found() {
    let mut answer = seen();
    answer.status = 401;
    answer.headers[1] = ("www-authenticate".to_owned(), "Basic".to_owned());
    let expected = [
        (Kind::Value, "status".to_owned()),
        (Kind::Missing, "header Server".to_owned()),
        (Kind::Extra, "header www-authenticate".to_owned()),
    ];
    assert_eq!(found(answer), expected);
}

#[test]
fn every_kind_of_change_in_a_body_is_found() {
    let cases = [
        ("\"IsHidden\":true", "\"IsHidden\":false", Kind::Value, "body Policy.IsHidden"),
        ("\"IsHidden\":true", "\"IsHidden\":1", Kind::Shape, "body Policy.IsHidden"),
        ("\"IsHidden\":true", "\"IsHidden\":true,\"b\":0", Kind::Extra, "body Policy.b"),
        ("\"Tags\":[\"x\"]", "\"Tags\":[]", Kind::Length, "body Tags[]"),
        ("\"Tags\":[\"x\"],", "", Kind::Missing, "body Tags"),
        ("1234567Z", "12345678Z", Kind::Value, "body At"),
        ("0123456789abcdef\"", "0123456789abcdeg\"", Kind::Value, "body Id"),
    ];
    for (from, to, kind, at) in cases {
        let mut answer = seen();
        answer.body = changed(SEEN, from, to);
        assert_eq!(found(answer), [(kind, at.to_owned())], "{from} -> {to}");
    }
}

#[test]
fn a_name_has_one_value_and_a_value_one_name() {
    let mut names = Names::default();
    let one = "0123456789abcdef0123456789abcdef";
    let two = "1123456789abcdef0123456789abcdef";
    assert!(names.agree("a <user:alice>", &format!("a {one}")).is_ok());
    assert!(names.agree("<user:alice>", one).is_ok());
    assert!(names.agree("<user:alice>", two).is_err(), "another value");
    assert!(names.agree("<user:bob>", one).is_err(), "somebody else's value");
    names.mint(&["user"]);
    assert!(names.agree("<user:alice>", one).is_err(), "not new");
    names.mint(&["user"]);
    assert!(names.agree("<user:alice>", two).is_ok());
    assert_eq!(names.fill("<user:alice>"), two);
    assert_eq!(names.fill_older("<user:alice>"), one);
    assert_eq!(names.fill("<user:alice-dashed>"), "11234567-89ab-cdef-0123-456789abcdef");
}

#[test]
fn playlists_are_compared_by_line_and_by_field() {
    let recorded = "#EXTM3U\n#EXTINF:3.0,\nmain/0.ts?A=1&B=2\n#EXTINF:3.…";
    let compare = |seen: &str| kinds(playlist::compare(recorded, seen, &mut Names::default()));
    let equal = "#EXTM3U\n#EXTINF:3.0,\nmain/0.ts?A=1&B=2\n#EXTINF:3.0,\nmain/1.ts\n";
    assert_eq!(compare(equal), []);
    let cases = [
        ("A=1", "A=2", Kind::Value, "playlist query A"),
        ("A=1&", "", Kind::Missing, "playlist query A"),
        ("A=1&", "A=1&C=3&", Kind::Extra, "playlist query C"),
        ("0.ts", "1.ts", Kind::Value, "playlist path"),
        ("#EXTM3U", "#EXT-X", Kind::Shape, "playlist"),
        ("EXTINF:3.0", "EXTINF:4.0", Kind::Value, "playlist #EXTINF"),
    ];
    for (from, to, kind, at) in cases {
        let seen = equal.replacen(from, to, 1);
        assert_eq!(compare(&seen), [(kind, at.to_owned())], "{from} -> {to}");
    }
}

#[test]
fn what_was_cut_is_compared_up_to_the_cut() {
    let recorded = r#"[{"A":1,"B":{"C":"x,y","D":["e\"f",{"G":1,"H":2…"#;
    let (value, open) = cut::complete(recorded).expect("JSON");
    assert_eq!(value, json!([{"A": 1, "B": {"C": "x,y", "D": ["e\"f", {"G": 1}]}}]));
    let compare = |seen| kinds(json::compare_cut("body", &value, &open, &seen, &mut Names::default()));
    let seen = json!([{"A": 1, "B": {"C": "x,y", "D": ["e\"f", {"G": 1, "H": 2}, 3], "I": 4}, "J": 5}, 6]);
    assert_eq!(compare(seen), []);
    let other = json!([{"A": 2, "B": {"D": ["e\"f"]}}]);
    let expected = [
        (Kind::Value, "body [].A".to_owned()),
        (Kind::Missing, "body [].B.C".to_owned()),
        (Kind::Length, "body [].B.D[]".to_owned()),
    ];
    assert_eq!(compare(other), expected);
}

#[test]
fn frames_are_compared_as_bodies_are() {
    let recorded = json!({"MessageType": "KeepAlive", "MessageId": "<uuid>"});
    let seen = json!({"MessageType": "KeepAlive"});
    let found = json::compare("frame", &recorded, &seen, &mut Names::default());
    assert_eq!(kinds(found), [(Kind::Missing, "frame MessageId".to_owned())]);
}
