//! What each call sends, and what pods' answers mean.

use super::{
    quick_connect::Initiated,
    system::{PublicInfo, ServerInfo},
    users::TokenStatus,
    *,
};
use crate::jellyfin::{endpoint::LiveChannel, user_data::Id};

fn answer(status: u16, body: &str) -> ApiResponse {
    let status = StatusCode::from_u16(status).expect("a status");
    ApiResponse { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()) }
}

fn sent<T>(call: &ApiCall<T>) -> String {
    format!("{} {}", call.method, call.target)
}

#[test]
fn a_call_names_its_path_and_quotes_what_it_is_given() {
    assert_eq!(sent(&users::who_am_i("t")), "GET /Users/Me");
    assert_eq!(sent(&devices::remove("a b&id=c")), "DELETE /Devices?id=a%20b%26id%3Dc");
    assert_eq!(sent(&users::one("a/b", "key")), "GET /Users/a%2Fb");
    assert_eq!(sent(&sessions::ping("p&q", "t")), "POST /Sessions/Playing/Ping?playSessionId=p%26q");
    assert_eq!(
        sent(&media::end_transcode("d/1", "p", "t")),
        "DELETE /Videos/ActiveEncodings?deviceId=d%2F1&playSessionId=p"
    );
    let live =
        |source: Option<&str>| LiveChannel { channel: "c", source: source.map(str::to_owned), stream: "s".into() };
    let opens = "POST /Items/c/PlaybackInfo?autoOpenLiveStream=true";
    assert_eq!(sent(&media::open_live_stream(&live(None), "t")), opens);
    let of_source = format!("{opens}&mediaSourceId=native%5F1%26userId%3D2");
    assert_eq!(sent(&media::open_live_stream(&live(Some("native_1&userId=2")), "t")), of_source);
    assert_eq!(sent(&users::change_password("u", Bytes::new())), "POST /Users/Password?userId=u");
    let call = quick_connect::authenticate("s\"");
    assert_eq!(&call.body[..], br#"{"Secret":"s\""}"#);
    assert!(call.authorization.is_none(), "the secret is the credential");
    let id = |digit: &str| Id::read(&digit.repeat(32)).expect("an id");
    let one = format!("GET /Items/{}?userId={}", "b".repeat(32), "a".repeat(32));
    assert_eq!(sent(&user_data::played_item(id("a"), id("b"))), one);
    assert_eq!(sent(&user_data::versions(id("a"), id("b"))), one);
    assert!(sessions::log_out("t").authorization.is_some_and(|value| value.is_sensitive()));
}

#[test]
fn the_versions_of_a_video_are_its_media_sources() {
    let id = |digit: &str| Id::read(&digit.repeat(32)).expect("an id");
    let read = |body: String| user_data::versions(id("a"), id("b")).read(answer(200, &body));
    let sources = format!(r#"[{{"Id":"{}"}},{{"Id":"{}"}},{{"Id":"remote"}},{{}}]"#, "b".repeat(32), "c".repeat(32));
    let item = |kind, media| format!(r#"{{"Type":"{kind}","MediaType":"{media}","MediaSources":{sources}}}"#);
    use user_data::Answer::Got;
    assert_eq!(read(item("Movie", "Video")), Some(Got(vec![id("b"), id("c")])));
    assert_eq!(read(item("Audio", "Audio")), Some(Got(Vec::new())), "music is not marked");
    assert_eq!(read(item("TvChannel", "Video")), Some(Got(Vec::new())), "its sources are streams");
    assert_eq!(read(r#"{"Type":"Movie","MediaType":"Video"}"#.to_owned()), Some(Got(Vec::new())));
}

#[test]
fn an_answer_about_a_token_says_whose_it_is() {
    let read = |status, body| users::who_am_i("t").read(answer(status, body));
    let known = |user: Option<&str>, is_administrator| {
        Some(TokenStatus::Known { user: user.map(str::to_owned), name: None, is_administrator })
    };
    assert_eq!(read(200, r#"{"Id":"u","Policy":{"IsAdministrator":true}}"#), known(Some("u"), true));
    assert_eq!(read(200, r#"{"Id":"u"}"#), known(Some("u"), false));
    assert_eq!((read(400, ""), read(403, "")), (known(None, false), known(None, false)), "a key has no user");
    assert_eq!(read(401, ""), Some(TokenStatus::Unknown));
    assert_eq!((read(500, ""), read(503, "")), (None, None), "the pod does not say");
    assert_eq!(users::who_am_i("t").repeats, 1);
}

#[test]
fn a_pod_says_who_it_is_in_either_case_of_its_json() {
    let read = |status, body| system::public_info().read(answer(status, body));
    let known = |is_set_up| {
        Some(PublicInfo::Known(ServerInfo { id: "i".into(), version: "12.0".into(), name: "n".into(), is_set_up }))
    };
    assert_eq!(
        read(200, r#"{"Id":"i","Version":"12.0","ServerName":"n","StartupWizardCompleted":true}"#),
        known(Some(true))
    );
    assert_eq!(read(200, r#"{"id":"i","version":"12.0","serverName":"n"}"#), known(None), "the set-up server");
    assert_eq!(read(503, "page"), Some(PublicInfo::Starting));
    assert_eq!(read(200, "page"), Some(PublicInfo::Other { status: StatusCode::OK, location: None }));
}

#[test]
fn a_code_and_its_log_in_are_read() {
    let device = Device { client: "c".into(), name: "n".into(), id: "i".into(), version: "1".into() };
    let initiated = |status, body| quick_connect::initiate(&device).read(answer(status, body)).expect("an answer");
    let expected = Initiated { code: "123456".into(), secret: "s".into() };
    assert!(initiated(200, r#"{"Code":"123456","Secret":"s"}"#) == Ok(Some(expected)));
    assert!(initiated(200, "{}") == Ok(None) && initiated(401, "").is_err());
    let log_in = quick_connect::authenticate("s").read(answer(200, r#"{"AccessToken":"t","User":{"Id":"u"}}"#));
    let log_in = log_in.expect("an answer").expect("a log-in");
    assert_eq!((log_in.token.as_deref(), log_in.user.as_deref()), (Some("t"), Some("u")));
    let is_enabled = |status, body| quick_connect::is_enabled().read(answer(status, body));
    assert_eq!(
        (is_enabled(200, "true"), is_enabled(200, "false"), is_enabled(503, "")),
        (Some(true), Some(false), None)
    );
}

#[test]
fn the_users_of_a_pod_are_read_with_who_is_disabled() {
    assert_eq!(sent(&users::standings("k")), "GET /Users");
    let users = r#"[{"Name":"a","Id":"1","Policy":{"IsDisabled":true}},{"Name":"b","Id":"2"},{"Name":"c"}]"#;
    let read = users::standings("k").read(answer(200, users)).expect("users");
    let read: Vec<_> = read.iter().map(|user| (&*user.name, &*user.id, user.is_disabled)).collect();
    assert_eq!(read, [("a", "1", true), ("b", "2", false)]);
    assert_eq!(users::standings("k").read(answer(401, "")), None);
}

#[test]
fn a_password_is_repeated_as_it_was_read_and_not_at_all_if_that_is_doubtful() {
    let read = |body: &str| {
        users::repeated_password_change(body.as_bytes()).map(|body| String::from_utf8_lossy(&body).into_owned())
    };
    let plain = r#"{"CurrentPw":"n","NewPw":"n","ResetPassword":false}"#;
    assert_eq!(read(r#"{"CurrentPw":"o","newpw":"n","X":1}"#).as_deref(), Some(plain));
    for doubtful in
        [r#"{"NewPw":"a","newpw":"b"}"#, r#"{"NewPw":"a","RESETPASSWORD":true,"ResetPassword":false}"#, "[]", "x"]
    {
        assert_eq!(read(doubtful), None, "{doubtful}");
    }
    let disables = users::disables;
    assert!(disables(br#"{"isdisabled":true}"#) && !disables(br#"{"IsDisabled":false}"#) && !disables(b"[]"));
}

#[test]
fn settings_are_read_and_written_at_the_path_of_their_document() {
    use crate::jellyfin::endpoint::Document;
    let new = serde_json::json!({"A": 1});
    assert_eq!(sent(&settings::read(Document::Named("a/b"), "k")), "GET /System/Configuration/a%2Fb");
    let written = settings::write(Document::Plugin("p"), &new, "k");
    assert_eq!((sent(&written), &written.body[..]), ("POST /Plugins/p/Configuration".to_owned(), &br#"{"A":1}"#[..]));
    let read = |status, body| settings::read(Document::Server, "k").read(answer(status, body));
    assert_eq!(read(200, r#"{"A":1}"#), Some(Some(new)));
    assert_eq!((read(404, ""), read(403, ""), read(200, "[]")), (Some(None), None, None));
    let plugins = r#"[{"Id":"b","Status":"Active"},{"Id":"a"},{"Id":"b"},{"Id":"c","Status":"Deleted"}]"#;
    assert_eq!(settings::plugins("k").read(answer(200, plugins)), Some(vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn a_picture_goes_as_base64_to_the_end_of_its_list() {
    use images::{Picture, PictureSlot};
    let slot = PictureSlot::Item { item: "i".into(), kind: "Backdrop".into(), index: 2 };
    let picture =
        Picture { content_type: Some(HeaderValue::from_static("image/png")), bytes: Bytes::from_static(b"p") };
    assert_eq!(sent(&images::read(&slot, "k")), "GET /Items/i/Images/Backdrop/2");
    assert_eq!(sent(&images::delete(&slot, "k")), "DELETE /Items/i/Images/Backdrop/2");
    let uploaded = images::upload(&slot, &picture, "k");
    assert_eq!((sent(&uploaded), &uploaded.body[..]), ("POST /Items/i/Images/Backdrop".to_owned(), &b"cA=="[..]));
    assert_eq!(uploaded.content_type, picture.content_type);
    assert_eq!(sent(&images::upload(&PictureSlot::User("u".into()), &picture, "k")), "POST /UserImage?userId=u");
    assert_eq!(images::read(&slot, "k").read(answer(404, "")), Some(None));
    let item = serde_json::json!({"ImageTags": {"Primary": "t"}, "BackdropImageTags": ["a", "b"]});
    let counts = ["primary", "Logo", "Backdrop"].map(|kind| items::image_count(&item, kind));
    assert_eq!(counts, [1, 0, 2]);
}

#[test]
fn a_librarys_steps_scan_nothing() {
    use crate::jellyfin::libraries::{Library, Step};
    let films = Library {
        name: "My films".into(),
        id: None,
        kind: Some("movies".into()),
        paths: Vec::new(),
        options: serde_json::json!({"PathInfos": [{"Path": "/films"}]}),
    };
    let add = libraries::carry_out(&Step::Add(&films), "k");
    let target = "POST /Library/VirtualFolders?name=My%20films&collectionType=movies&refreshLibrary=false";
    assert_eq!(sent(&add), target);
    assert_eq!(&add.body[..], br#"{"LibraryOptions":{"PathInfos":[{"Path":"/films"}]}}"#);
    let renamed = libraries::carry_out(&Step::Rename { from: "a", to: "b" }, "k");
    assert_eq!(sent(&renamed), "POST /Library/VirtualFolders/Name?name=a&newName=b&refreshLibrary=false");
    let tasks =
        |state| format!(r#"[{{"Key":"Other","State":"Running"}},{{"Key":"RefreshLibrary","State":"{state}"}}]"#);
    let is_scanning = |body: &str| libraries::is_scanning("k").read(answer(200, body));
    assert_eq!(
        (is_scanning(&tasks("Idle")), is_scanning(&tasks("Running")), is_scanning("[]")),
        (Some(false), Some(true), None)
    );
}

#[test]
fn a_pod_that_follows_is_told_from_one_that_starts() {
    let call = libraries::may_write("k");
    assert_eq!((sent(&call), &call.body[..]), ("POST /Library/Media/Updated".to_owned(), &br#"{"Updates":[]}"#[..]));
    let read = |status, fields: &[(&'static str, &'static str)]| {
        let fields =
            fields.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        libraries::may_write("k").read(ApiResponse { headers: fields.collect(), ..answer(status, "") })
    };
    let json = ("content-type", "application/json; charset=utf-8");
    assert_eq!((read(204, &[]), read(503, &[json])), (Some(true), Some(false)));
    assert_eq!(read(503, &[("content-type", "text/html")]), None, "it starts");
    assert_eq!(read(503, &[json, ("retry-after", "5")]), None, "it starts");
    assert_eq!((read(500, &[]), read(401, &[])), (None, None));
}

#[test]
fn a_row_of_the_list_says_who_plays_what() {
    let list = r#"[
        {"UserId":"AB-cd","UserName":"alice","DeviceId":"tv","NowPlayingItem":{"Name":"Pilot","SeriesName":"Show",
         "ParentIndexNumber":1,"IndexNumber":2,"RunTimeTicks":12000000000},
         "PlayState":{"PositionTicks":600000000,"IsPaused":true,"PlayMethod":"Transcode"}},
        {"UserId":"u2","UserName":"bob","DeviceId":"phone","NowPlayingItem":{"Name":"News"},"PlayState":{}},
        {"UserId":"00000000000000000000000000000000","DeviceId":"key","PlayState":{}}
    ]"#;
    let rows = sessions::listed("key").read(answer(200, list)).expect("a list");
    let first = rows[0].playing.clone().expect("it plays");
    assert_eq!((&*rows[0].user, &*rows[0].user_name, &*rows[0].device), ("abcd", "alice", "tv"));
    assert_eq!((&*first.title, first.position_s, first.length_s), ("Show 1×02 Pilot", 60, 1200));
    assert!(first.is_paused && first.method == "Transcode");
    let second = rows[1].playing.clone().expect("it plays");
    assert_eq!((&*second.title, second.length_s, second.is_paused), ("News", 0, false));
    assert_eq!(rows[2].playing, None);
    assert_eq!(sessions::listed("key").read(answer(401, "")), None);
}

#[test]
fn a_password_is_right_or_refused_or_the_pod_does_not_say() {
    let read = |status, body| users::check_password("a", "p").read(answer(status, body));
    let right = r#"{"User":{"Id":"u","Name":"Alice","Policy":{"IsAdministrator":true}},"AccessToken":"t"}"#;
    let is_right = |check: Option<users::PasswordCheck>, administrator: bool| {
        matches!(check, Some(users::PasswordCheck::Right { id, name, is_administrator, token })
            if id == "u" && name == "Alice" && is_administrator == administrator && token == "t")
    };
    assert!(is_right(read(200, right), true));
    assert!(is_right(read(200, r#"{"User":{"Id":"u","Name":"Alice","Policy":{}},"AccessToken":"t"}"#), false));
    for refused in [400, 401, 403] {
        assert!(matches!(read(refused, ""), Some(users::PasswordCheck::Refused)), "{refused}");
    }
    assert!(read(503, "").is_none() && read(200, "{}").is_none(), "the pod does not say");
    let call = users::check_password("a\"b", "p");
    assert_eq!(sent(&call), "POST /Users/AuthenticateByName");
    assert_eq!(&call.body[..], br#"{"Pw":"p","Username":"a\"b"}"#);
}

#[test]
fn a_group_is_made_again_in_its_members_names() {
    let device = Device { client: "Web".into(), name: "Sofa".into(), id: "d".into(), version: "1".into() };
    let member = sync_play::Member { device: &device, token: "t" };
    let id = "822fe8d1854041a9bbb54c051f96824d";
    let join = sync_play::join(member, id);
    assert_eq!(sent(&join), "POST /SyncPlay/Join");
    assert_eq!(&join.body[..], br#"{"GroupId":"822fe8d1-8540-41a9-bbb5-4c051f96824d"}"#);
    assert!(join.authorization.is_some_and(|value| value.is_sensitive()));
    let made = sync_play::new(member, "evening");
    assert_eq!(made.read(answer(200, &format!(r#"{{"GroupId":"{id}"}}"#))), Some(Some(id.to_owned())));
    assert_eq!(made.read(answer(403, "")), Some(None), "the user may not make groups");
    let there = sync_play::participants(member, id);
    assert_eq!(there.read(answer(200, r#"{"Participants":["alice","bob"]}"#)), Some(2));
    assert_eq!(sent(&system::restart("key")), "POST /System/Restart");
}
