//! Who sees what, in which order, and that rows stay as their pods wrote them.

use serde_json::json;

use super::*;

const ALICE: &str = "a11ce000000000000000000000000000";
const BOB: &str = "b0b00000000000000000000000000000";
const NOBODY: &str = "00000000000000000000000000000000";

/// A row as a pod writes it: the user is someone's id, `active` a second and its fraction.
fn row(id: &str, user: &str, device: &str, active: &str) -> String {
    format!(
        r#"{{"PlayState":{{"CanSeek":false}},"AdditionalUsers":[],"Capabilities":{{"SupportsPersistentIdentifier":true}},"Id":"{id}","UserId":"{user}","Client":"Story","LastActivityDate":"2026-11-30T10:00:{active}Z","NowPlayingItem":{{"Id":"x","UserId":"{BOB}","DeviceId":"y"}},"DeviceId":"{device}"}}"#
    )
}

fn rows(list: &str) -> Vec<Row> {
    read(&Bytes::copy_from_slice(list.as_bytes())).expect("a list")
}

fn one(row: &str) -> Row {
    rows(&format!("[{row}]")).remove(0)
}

fn ids(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| &*row.id).collect()
}

fn user(id: &str, rights: &[&str]) -> Viewer {
    let has = |name: &str| rights.contains(&name);
    let me = json!({"Id": id, "Policy": {
        "IsAdministrator": has("IsAdministrator"),
        "EnableRemoteControlOfOtherUsers": has("EnableRemoteControlOfOtherUsers"),
        "EnableAllDevices": !has("few devices"),
        "EnabledDevices": ["Sofa"],
    }});
    Viewer::of_user(&me).expect("a user")
}

#[test]
fn rows_stay_as_their_pods_wrote_them_in_either_casing() {
    let (first, second) = (row("A1", ALICE, "sofa", "01.5"), row("b2", NOBODY, "tv \\\"x\\\"", "02"));
    let list = format!("[{first},\n {second}]");
    let read = rows(&list);
    assert_eq!(ids(&read), ["a1", "b2"]);
    assert_eq!((&*read[0].user, &*read[0].device, &*read[1].device), (ALICE, "sofa", "tv \"x\""));
    assert!(read[1].belongs_to_nobody());
    assert_eq!(write(&read, &Viewer::Key), format!("[{first},{second}]"));
    let camel = r#"[{"id":"c","userId":"0123","deviceId":"d","lastActivityDate":"2026-11-30T10:00:00Z","capabilities":{"supportsPersistentIdentifier":false}}]"#;
    let camel = rows(camel);
    assert_eq!((&*camel[0].id, &*camel[0].user, camel[0].has_persistent_id), ("c", "0123", false));
    assert_eq!(write(&rows("[]"), &Viewer::Key), "[]");
    for none in ["", "{}", "[1]", "[[]]", "[{}]", r#"["x"]"#, r#"[{"Id":"a"}"#, "null"] {
        assert_eq!(read_of(none), None, "{none}");
    }
}

fn read_of(text: &str) -> Option<Vec<Row>> {
    read(&Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn lists_are_merged_in_the_order_of_activity_and_each_session_stands_once() {
    let a = [row("old", ALICE, "s", "01"), row("both", ALICE, "t", "02.25"), row("new", BOB, "u", "09.1")];
    let b = [row("BOTH", ALICE, "t", "02.3"), row("whole", BOB, "v", "02"), row("own", NOBODY, PROXY_DEVICE, "10")];
    let all = a.iter().chain(&b).map(|row| one(row));
    let merged = merge(all);
    assert_eq!(ids(&merged), ["new", "both", "whole", "old"], "the fractions count");
    assert!(write(&merged, &Viewer::Key).windows(6).any(|text| text == b"\"BOTH\""), "the later of the two");
}

#[test]
fn every_caller_sees_what_the_server_would_show() {
    let with_alice = row("shared", BOB, "s", "01")
        .replace(r#""AdditionalUsers":[]"#, &format!(r#""AdditionalUsers":[{{"UserId":"{ALICE}","UserName":"a"}}]"#));
    let targets =
        [one(&row("own", ALICE, "s", "01")), one(&row("bob", BOB, "s", "01")), one(&row("key", NOBODY, "s", "01"))];
    let targets = targets.iter().cloned().chain([one(&with_alice)]).collect::<Vec<_>>();
    let seen = |viewer: &Viewer, rule| {
        let seen = targets.iter().filter(|row| viewer.may_see(row, rule)).map(|row| &*row.id);
        seen.collect::<Vec<_>>().join(" ")
    };
    let plain = user(ALICE, &[]);
    let controls = user(ALICE, &["EnableRemoteControlOfOtherUsers"]);
    let admin = user(ALICE, &["IsAdministrator"]);
    let rows = [
        (&plain, Rule::All, "own key shared"),
        (&plain, Rule::Controllable, "own key shared"),
        (&plain, Rule::Message, "own shared"),
        (&controls, Rule::All, "own key shared"),
        (&controls, Rule::Controllable, "own bob key shared"),
        (&controls, Rule::Message, "own shared"),
        (&admin, Rule::All, "own bob key shared"),
        (&admin, Rule::Controllable, "own key shared"),
        (&admin, Rule::Message, "own bob key shared"),
        (&Viewer::Key, Rule::All, "own bob key shared"),
        (&Viewer::Key, Rule::Controllable, "own bob key shared"),
    ];
    for (viewer, rule, expected) in rows {
        assert_eq!(seen(viewer, rule), expected, "{viewer:?} {rule:?}");
    }
}

#[test]
fn a_user_of_few_devices_controls_those_and_what_has_no_lasting_id() {
    let few = user(ALICE, &["few devices"]);
    let may = |row: &Row| few.may_see(row, Rule::Controllable);
    assert!(may(&one(&row("1", ALICE, "SOFA", "01"))) && may(&one(&row("1", ALICE, "", "01"))));
    assert!(!may(&one(&row("1", ALICE, "tv", "01"))));
    let fleeting = row("1", ALICE, "tv", "01").replace("Identifier\":true", "Identifier\":false");
    assert!(may(&one(&fleeting)));
    assert!(user(ALICE, &["few devices", "IsAdministrator"]).may_see(&one(&row("1", ALICE, "tv", "01")), Rule::All));
}

#[test]
fn only_administrators_learn_which_hardware_transcodes() {
    let with = |kind: &str| {
        let info =
            format!(r#""TranscodingInfo":{{"VideoCodec":"h264","HardwareAccelerationType":"{kind}"}},"DeviceId""#);
        row("1", ALICE, "s", "01").replace(r#""DeviceId":"s""#, &format!(r#"{info}:"s""#))
    };
    let list = rows(&format!("[{},{}]", row("0", ALICE, "s", "01"), with("vaapi")));
    let hidden = format!("[{},{}]", row("0", ALICE, "s", "01"), with("none"));
    assert_eq!(write(&list, &user(ALICE, &[])), hidden);
    let shown = format!("[{},{}]", row("0", ALICE, "s", "01"), with("vaapi"));
    assert_eq!(write(&list, &user(ALICE, &["IsAdministrator"])), shown);
}

#[test]
fn a_question_goes_to_other_pods_without_the_callers_token() {
    let alice = user(ALICE, &[]);
    let asked = |query: &str, viewer: &Viewer| {
        let question = Question::of(query);
        (question.for_pod(viewer), question.rule(viewer))
    };
    let rows = [
        ("", "/Sessions", Rule::All),
        ("ApiKey=t&controllableByUserId=&deviceId=", "/Sessions", Rule::All),
        ("CONTROLLABLEBYUSERID=u-1&x=1", "/Sessions?controllableByUserId=u%2D1", Rule::Controllable),
        ("deviceId=a%26b&deviceId=c", "/Sessions?deviceId=a%26b", Rule::All),
        ("activeWithinSeconds=960", "/Sessions?activeWithinSeconds=960", Rule::All),
    ];
    for (query, target, rule) in rows {
        assert_eq!(asked(query, &alice), (target.to_owned(), rule), "{query}");
    }
    let of_nobody = format!("controllableByUserId={NOBODY}");
    assert_eq!(asked(&of_nobody, &alice), (format!("/Sessions?controllableByUserId={ALICE}"), Rule::Controllable));
    assert_eq!(asked(&of_nobody, &Viewer::Key).1, Rule::All);
}

#[test]
fn a_user_without_a_policy_sees_nothing() {
    assert_eq!(Viewer::of_user(&json!({"Id": ALICE})), None);
    let camel = json!({"id": "A-1", "policy": {"isAdministrator": true, "enableRemoteControlOfOtherUsers": true, "enableAllDevices": true}});
    assert!(Viewer::of_user(&camel).is_some_and(|viewer| viewer.is_administrator()));
}
