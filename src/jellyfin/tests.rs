//! The headers and queries of real clients, and what the server makes of them.

use http::Request;
use proptest::prelude::*;

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn read(target: &str, headers: &[(&str, &str)], legacy: Legacy) -> (Option<String>, Option<String>) {
    let mut request = Request::get(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).expect("a request").into_parts();
    let identity = identify(&head.uri, head.uri.path(), &head.headers, legacy);
    (identity.token.map(Cow::into_owned), identity.device.map(Cow::into_owned))
}

fn token(target: &str, headers: &[(&str, &str)], legacy: Legacy) -> Option<String> {
    read(target, headers, legacy).0
}

/// Description, header, target, token read by 12.0, token read by 10.11.
type Row = (&'static str, String, String, Option<String>, Option<String>);

#[test]
fn every_carrier_is_read_as_recorded_on_real_pods() {
    let (good, gone) = (Some(TOKEN.to_owned()), None::<String>);
    let bare = format!("Client=\"Story\", Device=\"Sofa\", DeviceId=\"d1\", Version=\"1.0\", Token=\"{TOKEN}\"");
    let twice = format!("MediaBrowser {bare}, Token=\"{TOKEN}\"");
    let rows: Vec<Row> = vec![
        ("authorization", format!("authorization: MediaBrowser {bare}"), "/".into(), good.clone(), good.clone()),
        ("scheme in lower case", format!("authorization: mediabrowser {bare}"), "/".into(), good.clone(), good.clone()),
        ("scheme Emby", format!("authorization: Emby {bare}"), "/".into(), gone.clone(), good.clone()),
        (
            "x-emby-authorization",
            format!("x-emby-authorization: MediaBrowser {bare}"),
            "/".into(),
            gone.clone(),
            good.clone(),
        ),
        ("x-emby-token", format!("x-emby-token: {TOKEN}"), "/".into(), gone.clone(), good.clone()),
        ("x-mediabrowser-token", format!("x-mediabrowser-token: {TOKEN}"), "/".into(), gone.clone(), good.clone()),
        (
            "unquoted, shuffled",
            format!("authorization: MediaBrowser DeviceId=d1, Token={TOKEN}, Client=Story"),
            "/".into(),
            good.clone(),
            good.clone(),
        ),
        ("alone", format!("authorization: MediaBrowser Token=\"{TOKEN}\""), "/".into(), good.clone(), good.clone()),
        ("twice", format!("authorization: {twice}"), "/".into(), good.clone(), good.clone()),
        (
            "blanks around =",
            format!("authorization: MediaBrowser Token = \"{TOKEN}\""),
            "/".into(),
            Some(format!(" \"{TOKEN}")),
            Some(format!(" \"{TOKEN}")),
        ),
        (
            "key in lower case",
            format!("authorization: MediaBrowser token=\"{TOKEN}\""),
            "/".into(),
            gone.clone(),
            gone.clone(),
        ),
        (
            "empty, good query",
            "authorization: MediaBrowser Client=\"Story\", Token=\"\"".into(),
            format!("/?ApiKey={TOKEN}"),
            good.clone(),
            good.clone(),
        ),
        ("query", "accept: */*".into(), format!("/?ApiKey={TOKEN}"), good.clone(), good.clone()),
        ("query in lower case", "accept: */*".into(), format!("/?apikey={TOKEN}"), good.clone(), good.clone()),
        ("query of old", "accept: */*".into(), format!("/?api_key={TOKEN}"), gone.clone(), good.clone()),
        (
            "query twice",
            "accept: */*".into(),
            format!("/?ApiKey={TOKEN}&ApiKey={TOKEN}"),
            Some(format!("{TOKEN},{TOKEN}")),
            Some(format!("{TOKEN},{TOKEN}")),
        ),
        ("basic and query", "authorization: Basic abc".into(), format!("/?ApiKey={TOKEN}"), good.clone(), good.clone()),
        ("bearer", format!("authorization: Bearer {TOKEN}"), "/".into(), gone.clone(), gone.clone()),
        ("no blank", format!("authorization: MediaBrowser,Token={TOKEN}"), "/".into(), gone.clone(), gone.clone()),
        (
            "percent-encoded",
            "authorization: MediaBrowser Token=\"a%2Bb+c\"".into(),
            "/".into(),
            Some("a+b c".into()),
            Some("a+b c".into()),
        ),
        (
            "a comma in quotes",
            format!("authorization: MediaBrowser Device=\"a, Token=no\", Token=\"{TOKEN}\""),
            "/".into(),
            good.clone(),
            good.clone(),
        ),
        ("unquoted with =", "authorization: MediaBrowser Token=abc=".into(), "/".into(), gone.clone(), gone.clone()),
        (
            "bad header beats good query",
            "authorization: MediaBrowser Token=\"None\"".into(),
            format!("/?ApiKey={TOKEN}"),
            Some("None".into()),
            Some("None".into()),
        ),
    ];
    for (what, header, target, now, before) in rows {
        let (name, value) = header.split_once(": ").expect("a header");
        assert_eq!(token(&target, &[(name, value)], Legacy::Ignored), now, "{what} (12.0)");
        assert_eq!(token(&target, &[(name, value)], Legacy::Accepted), before, "{what} (10.11)");
    }
}

#[test]
fn a_foreign_scheme_hides_the_old_header_but_not_the_old_token() {
    let old = format!("MediaBrowser Token=\"{TOKEN}\"");
    assert_eq!(token("/", &[("authorization", "Basic x"), ("x-emby-authorization", &old)], Legacy::Accepted), None);
    assert_eq!(
        token("/", &[("authorization", "Basic x"), ("x-emby-token", TOKEN)], Legacy::Accepted).as_deref(),
        Some(TOKEN)
    );
}

#[test]
fn a_token_in_a_carrier_of_old_still_tells_whose_request_it_is() {
    let (head, ()) = Request::get(format!("/?api_key={TOKEN}")).body(()).expect("a request").into_parts();
    let identity = identify(&head.uri, "/", &head.headers, Legacy::Ignored);
    assert_eq!((identity.token, identity.hint.as_deref()), (None, Some(TOKEN)));
    let identity = identify(&head.uri, "/", &head.headers, Legacy::Accepted);
    assert_eq!((identity.token.as_deref(), identity.hint), (Some(TOKEN), None));
}

#[test]
fn prefixes_of_old_are_taken_off_where_the_pods_do_it() {
    assert_eq!(controller_path("/emby/Users/Me", Prefixes::Stripped), "/Users/Me");
    assert_eq!(controller_path("/MediaBrowser/SyncPlay/List", Prefixes::Stripped), "/SyncPlay/List");
    assert_eq!(controller_path("/embyfoo", Prefixes::Stripped), "/embyfoo");
    assert_eq!(controller_path("/emby/Users/Me", Prefixes::Kept), "/emby/Users/Me");
}

#[test]
fn the_device_comes_from_the_header_and_else_from_the_query() {
    let header = [("authorization", "MediaBrowser DeviceId=\"TW96==\"")];
    assert_eq!(read("/?deviceId=q", &header, Legacy::Ignored).1.as_deref(), Some("TW96=="));
    assert_eq!(read("/?DEVICEID=q%20r", &[], Legacy::Ignored).1.as_deref(), Some("q r"));
}

#[test]
fn ids_that_only_a_path_carries_are_found() {
    let md5 = "1ee6004c134d74296862b20a8f40b956";
    let path = format!("/Videos/{md5}/hls/{md5}/{md5}0.ts");
    assert_eq!(endpoint::path_ids(&path), (Some(md5), None));
    assert_eq!(endpoint::path_ids("/livetv/livestreamfiles/abc/stream.ts"), (None, Some("abc")));
    assert_eq!(endpoint::path_ids("/LiveTv/LiveRecordings/abc/stream"), (None, Some("abc")));
    assert_eq!(endpoint::path_ids("/Videos/x/hls1/main/0.ts"), (None, None));
    assert_eq!(endpoint::path_ids("/"), (None, None));
}

#[test]
fn endpoints_are_what_the_server_makes_of_them() {
    use endpoint::Endpoint::{self, *};
    use http::Method;
    let id = "0123456789abcdef0123456789abcdef";
    let rows: &[(&str, Endpoint)] = &[
        ("/Users/Me", LogoutTrigger),
        ("/Users/ID", LogoutTrigger),
        ("/Users/ID/Views", Authenticated),
        ("/QuickConnect/Connect", QuickConnect),
        ("/GetUTCTime", Clock),
        ("/syncplay/list", SyncPlay),
        ("/users/public", Open),
        ("/System/Info", LogoutTrigger),
        ("/System/Logs", Authenticated),
        ("/System/Info/Public", Open),
        ("/system/ping", Open),
        ("/Items", Authenticated),
        ("/Items/ID/Images/Primary", Open),
        ("/Items/ID/Download", AuthenticatedMedia),
        ("/videos/ID/master.m3u8", AuthenticatedMedia),
        ("/videos/ID/hls1/main/0.ts", AuthenticatedMedia),
        ("/Videos/ID/stream", AnonymousMedia),
        ("/Videos/ID/stream.mkv", AnonymousMedia),
        ("/Videos/ID/hls/ID/ID0.ts", AnonymousMedia),
        ("/Videos/ID/ID/Subtitles/0/Stream.vtt", Open),
        ("/Videos/ActiveEncodings", TranscodeControl),
        ("/LiveStreams/Close", TranscodeControl),
        ("/Sessions/Playing/Ping", TranscodeControl),
        ("/Audio/ID/universal", AuthenticatedMedia),
        ("/LiveTv/LiveStreamFiles/x/stream.ts", AnonymousMedia),
        ("/LiveTv/LiveRecordings/x/stream", AnonymousMedia),
        ("/LiveTv/Channels", Authenticated),
        ("/Sessions/Playing/Progress", Authenticated),
        ("/Library/MediaFolders", Authenticated),
        ("/Library/VirtualFolders", Guarded),
        ("/Libraries/AvailableOptions", Guarded),
        ("/web/index.html", Open),
        ("/", Open),
        ("/Some/Plugin", Open),
    ];
    for (path, expected) in rows {
        assert_eq!(Endpoint::of(&Method::GET, &path.replace("ID", id)), *expected, "{path}");
    }
    assert_eq!(Endpoint::of(&Method::POST, "/users/authenticatebyname"), LogIn);
    assert_eq!(Endpoint::of(&Method::POST, &format!("/Users/{id}/Authenticate")), LogIn);
    assert_eq!(Endpoint::of(&Method::POST, "/Users/AuthenticateWithQuickConnect"), LogIn);
    assert_eq!(Endpoint::of(&Method::POST, "/Sessions/Logout"), LogOut);
    assert_eq!(Endpoint::of(&Method::POST, "/sso/oid/Auth/idp"), LogIn);
    assert_eq!(Endpoint::of(&Method::POST, "/SSO/SAML/Auth/idp"), LogIn);
    assert_eq!(Endpoint::of(&Method::POST, "/sso/SAML/post/idp"), SignOn);
    assert_eq!(Endpoint::of(&Method::GET, "/sso/OID/Auth/idp"), SignOn);
    assert_eq!(Endpoint::of(&Method::POST, "/Users/Me"), Authenticated, "only reading it is vital");
}

#[test]
fn what_is_the_leaders_is_told_by_method_and_path() {
    use endpoint::LeaderCall;
    use http::Method;
    assert_eq!(LeaderCall::of(&Method::GET, "/GetUTCTime"), Some(LeaderCall::Time));
    assert_eq!(LeaderCall::of(&Method::GET, "/getutctime/x"), None);
    assert_eq!(LeaderCall::of(&Method::GET, "/SyncPlay/List"), Some(LeaderCall::Look));
    assert_eq!(LeaderCall::of(&Method::GET, "/SyncPlay"), None);
    assert_eq!(LeaderCall::of(&Method::POST, "/syncplay/join/"), Some(LeaderCall::Join));
    assert_eq!(LeaderCall::of(&Method::POST, "/SyncPlay/new"), Some(LeaderCall::New));
    assert_eq!(LeaderCall::of(&Method::GET, "/QuickConnect"), None);
    for path in ["/sso/OID/start/idp", "/SSO/oid/r/idp", "/sso/SAML/post/idp", "/sso/OID/States", "/SSOViews/linking"] {
        assert_eq!(LeaderCall::of(&Method::GET, path), Some(LeaderCall::SignOn), "{path}");
    }
    for path in ["/sso/OID/Auth/idp", "/sso/saml/auth/idp", "/sso/OID/Link/idp/0123"] {
        assert_eq!(LeaderCall::of(&Method::POST, path), Some(LeaderCall::SignOnEnd), "{path}");
    }
    assert_eq!(LeaderCall::of(&Method::GET, "/ssop/OID/start/idp"), None);
}

#[test]
fn what_does_no_harm_twice_is_a_short_list() {
    let harmless = [
        "/Sessions/Capabilities",
        "/sessions/capabilities/full",
        "/Sessions/Viewing",
        "/Sessions/Playing/Progress",
        "/Sessions/Playing/Ping",
        "//Sessions/Playing/Stopped/",
        "/Sessions/Logout",
        "/SyncPlay/Ping",
        "/Items/0123/PlaybackInfo",
        "/LiveStreams/Open",
        "/QuickConnect/Initiate",
    ];
    let harmful = [
        "/Sessions/Playing",
        "/Sessions/Capabilities/Full/More",
        "/Sessions/0123/Viewing",
        "/Sessions/0123/Playing/Ping",
        "/SyncPlay/New",
        "/SyncPlay/Ping/More",
        "/QuickConnect/Authorize",
        "/LiveStreams/Close",
        "/Users/AuthenticateByName",
        "/Items/0123/Refresh",
        "/",
    ];
    for path in harmless {
        assert!(endpoint::is_safe_to_repeat(&http::Method::POST, path), "{path}");
        assert!(!endpoint::is_safe_to_repeat(&http::Method::PATCH, path), "{path}");
    }
    for path in harmful {
        assert!(!endpoint::is_safe_to_repeat(&http::Method::POST, path), "{path}");
    }
}

#[test]
fn the_beginning_of_a_film_is_told_again_as_progress() {
    for path in ["/Sessions/Playing", "/sessions/playing/"] {
        assert!(endpoint::starts_playback(&http::Method::POST, path), "{path}");
    }
    for path in ["/Sessions/Playing/Progress", "/Sessions", "/Sessions/0123/Playing", "/"] {
        assert!(!endpoint::starts_playback(&http::Method::POST, path), "{path}");
    }
    assert!(!endpoint::starts_playback(&http::Method::GET, "/Sessions/Playing"));
    for (begun, told) in [
        ("/jellyfin/Sessions/Playing/?ApiKey=a%2Cb", "/jellyfin/Sessions/Playing/Progress?ApiKey=a%2Cb"),
        ("/Sessions/Playing", "/Sessions/Playing/Progress"),
    ] {
        let told: Uri = told.parse().expect("a target");
        assert_eq!(endpoint::start_as_progress(&begun.parse().expect("a target")), Some(told));
    }
}

#[test]
fn an_api_key_in_a_path_is_blotted_out_however_the_path_is_written() {
    for path in
        ["/Auth/Keys/K", "/jf/auth/keys/K", "/Auth//Keys/K", "/Auth/Keys/K/x", "/Auth/x/Auth/Keys//K", "/%41uth/Keys/K"]
    {
        let shown = endpoint::without_secrets(path);
        assert!(shown.ends_with("eys/…"), "{shown}");
    }
    for path in ["/Auth/Keys", "/Auth/Keys/", "/Auth/Providers/K", "/Keys/K", "/"] {
        assert_eq!(endpoint::without_secrets(path), path);
    }
}

/// A simple model of the server's reader, which keeps every field in a map.
fn model(line: &str) -> std::collections::HashMap<String, String> {
    let mut fields = std::collections::HashMap::new();
    let (mut key, mut text, mut quoted) = (String::new(), String::new(), false);
    for letter in line.chars() {
        quoted ^= letter == '"';
        match letter {
            ',' if !quoted => {
                if !text.is_empty() {
                    fields.insert(std::mem::take(&mut key), decode(&text));
                }
                text.clear();
            }
            '=' if !quoted => key = std::mem::take(&mut text).trim().to_owned(),
            letter => text.push(letter),
        }
    }
    if !text.is_empty() {
        fields.insert(key, decode(&text));
    }
    fields
}

fn decode(text: &str) -> String {
    let bare = text.trim_matches('"').replace('+', " ");
    percent_encoding::percent_decode_str(&bare).decode_utf8_lossy().into_owned()
}

proptest! {
    #[test]
    fn the_parser_agrees_with_a_plain_model(line in r#"([A-Za-z0-9 %+"=,]|Token|DeviceId|="|", ){0,24}"#) {
        let fields = model(&line);
        let filled = |key: &str| fields.get(key).filter(|value| !value.is_empty()).cloned();
        let header = format!("MediaBrowser {line}");
        let (token, device) = read("/", &[("authorization", header.as_str())], Legacy::Ignored);
        // A header's value has no trailing blanks on the wire.
        if header.trim_end() == header {
            prop_assert_eq!(token, filled("Token"));
            prop_assert_eq!(device, filled("DeviceId"));
        }
    }
}
