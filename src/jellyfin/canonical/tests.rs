//! Requests in their canonical form, and those that have none.

use http::{Method, Request};
use proptest::prelude::*;

use super::*;

const BOB: &str = "0123456789abcdef0123456789abcdef";

fn of(method: &Method, target: &str, headers: &[(&str, &[u8])]) -> Result<(String, HeaderMap), Ambiguity> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_bytes(value).expect("a value"));
    }
    let (mut head, ()) = request.body(()).expect("a request").into_parts();
    canonicalize(&mut head, "", Prefixes::Kept, false).map(|_| (head.uri.to_string(), head.headers))
}

fn target(method: Method, target: &str) -> Result<String, Ambiguity> {
    of(&method, target, &[]).map(|(target, _)| target)
}

#[test]
fn what_is_acted_upon_is_sent_on_as_it_was_read() {
    for (raw, sent) in [
        ("/Users/Me", "/Users/Me"),
        ("/%55sers/Me", "/Users/Me"),
        ("/x/../Users/Me", "/Users/Me"),
        ("/x/%2e%2e/Users/Me", "/Users/Me"),
        ("/Users/./Me", "/Users/Me"),
        ("/../../Devices?id=a", "/Devices?id=a"),
        ("/Devices/?id=a&ID=b", "/Devices/?id=a&ID=b"),
        ("/Users/Me?%41piKey=a%2Bb&x=%31", "/Users/Me?ApiKey=a%2Bb&x=%31"),
        ("/Items?userId=a&userId=b", "/Items?userId=a&userId=b"),
        ("/Users/Me/Views?userId=Me&userId=", "/Users/Me/Views?userId=Me&userId="),
        ("/Sessions/a%20b/Message", "/Sessions/a%20b/Message"),
    ] {
        assert_eq!(target(Method::GET, raw).as_deref(), Ok(sent), "{raw}");
    }
    let password = |query: &str| target(Method::POST, &format!("/Users/Password{query}"));
    assert_eq!(password(&format!("?%75serId={BOB}")), Ok(format!("/Users/Password?userId={BOB}")));
    // Not every name below `/Users` is a user's id.
    let settings = format!("/Users/Configuration?userId={BOB}");
    assert_eq!(target(Method::POST, &settings), Ok(settings.clone()));
    assert_eq!(password("?userId="), Ok("/Users/Password?userId=".to_owned()), "the caller himself");
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    use Ambiguity::{DoubledKey, EmptySegment, EncodedQuery, EncodedSlash, NoText, UserId};
    let rows = [
        (format!("/Users/Password?userId=&userId={BOB}"), DoubledKey("userId")),
        (format!("/Users/Password?userId={BOB}&USERID="), DoubledKey("userId")),
        (format!("/Users/Password?userId={BOB}&%75serid={BOB}"), DoubledKey("userId")),
        (format!("/Users/Password?userId%3D{BOB}"), EncodedQuery),
        (format!("/Users/Password?userId=%7B{BOB}%7D"), UserId),
        (format!("/Users/Password?userId=%20{BOB}"), UserId),
        ("/Users/Password?userId=%ff".to_owned(), NoText),
        (format!("/Users/{BOB}%ff/Password"), NoText),
        ("/%55sers/Password/%ff".to_owned(), NoText),
        (format!("/Users//{BOB}/Password"), EmptySegment),
        (format!("//Users/{BOB}/Password"), EmptySegment),
        (format!("/Users/{BOB}//"), EmptySegment),
        (format!("/Users/%7B{BOB}%7D/Password"), UserId),
        (format!("/Users/{BOB}%2FPassword"), EncodedSlash),
        (format!("/Users/{BOB}/%2550assword"), EncodedSlash),
        ("/Devices?ApiKey=a&apikey=b".to_owned(), DoubledKey("ApiKey")),
        ("//Devices?id=a".to_owned(), EmptySegment),
        ("/QuickConnect/Authorize?code=1&code=2".to_owned(), DoubledKey("code")),
    ];
    for (raw, why) in rows {
        assert_eq!(target(Method::POST, &raw), Err(why), "{raw}");
    }
    let x: (&str, &[u8]) = ("x-y", b"\xff\xfe");
    assert_eq!(of(&Method::DELETE, "/Devices?id=a", &[x]).err(), Some(Ambiguity::Header));
    let hidden: (&str, &[u8]) = ("connection", b"close, Authorization");
    assert_eq!(of(&Method::DELETE, "/Devices?id=a", &[hidden]).err(), Some(Ambiguity::HiddenToken));
}

#[test]
fn what_other_pods_are_told_of_is_read_in_one_way() {
    for (method, raw, sent) in [
        (Method::DELETE, format!("/%49tems?%69ds={BOB}"), Ok(format!("/Items?ids={BOB}"))),
        (Method::DELETE, format!("/Items//{BOB}"), Err(Ambiguity::EmptySegment)),
        (Method::POST, format!("/Items/{BOB}/Images%2FPrimary"), Err(Ambiguity::EncodedSlash)),
        (Method::POST, format!("/x/../Items/{BOB}/Images/Primary"), Ok(format!("/Items/{BOB}/Images/Primary"))),
        (Method::POST, format!("/UserImage?userId=&userId={BOB}"), Err(Ambiguity::DoubledKey("userId"))),
        (Method::POST, format!("/Users/%7B{BOB}%7D/Images/Primary"), Err(Ambiguity::UserId)),
        (Method::POST, "/Plugins//x/Configuration".to_owned(), Err(Ambiguity::EmptySegment)),
        (Method::POST, "/System/Configuration/./network".to_owned(), Ok("/System/Configuration/network".to_owned())),
        (Method::POST, "/Branding//Splashscreen".to_owned(), Err(Ambiguity::EmptySegment)),
        (
            Method::POST,
            format!("/Items/{BOB}/RemoteImages/Download?type=Logo&Type=Primary"),
            Err(Ambiguity::DoubledKey("type")),
        ),
    ] {
        assert_eq!(target(method, &raw), sent, "{raw}");
    }
}

#[test]
fn of_two_lines_with_a_token_the_first_is_sent_on() {
    let lines: [(&str, &[u8]); 2] = [("authorization", b"x"), ("authorization", b"MediaBrowser Token=\"t\"")];
    let (_, headers) = of(&Method::GET, "/Users/Me", &lines).expect("a request");
    assert_eq!(headers.get_all("authorization").iter().collect::<Vec<_>>(), ["x"]);
}

#[test]
fn what_is_not_acted_upon_passes_as_it_came_and_players_get_no_error() {
    for raw in [
        "/web//index.html?a=1&a=2",
        "/Artists/AC%2FDC/Images/Primary",
        "//plugin?ApiKey=a&ApiKey=b",
        "/Videos/0123456789abcdef0123456789abcdef/main.m3u8?ApiKey=a&ApiKey=b",
        "/Videos/0123456789abcdef0123456789abcdef//main.m3u8",
    ] {
        assert_eq!(target(Method::GET, raw).as_deref(), Ok(raw));
    }
}

#[test]
fn below_a_base_url_and_a_prefix_of_old() {
    let head = |target: &str| Request::delete(target).body(()).expect("a request").into_parts().0;
    let mut old = head("/jellyfin/emby/Devices?id=a");
    assert_eq!(canonicalize(&mut old, "/jellyfin", Prefixes::Stripped, false), Ok(Endpoint::Authenticated));
    assert_eq!(old.uri, "/jellyfin/Devices?id=a");
    let mut new = head("/jellyfin/emby/Devices?id=a");
    assert_eq!(canonicalize(&mut new, "/jellyfin", Prefixes::Kept, false), Ok(Endpoint::Open));
    assert_eq!(new.uri, "/jellyfin/emby/Devices?id=a", "no endpoint of these pods");
}

#[test]
fn a_base_path_ends_at_a_slash_in_any_case() {
    assert_eq!(below_base("/jellyfin", "/JellyFin/Items"), "/Items");
    assert_eq!((below_base("/jellyfin", "/jellyfin"), below_base("", "/Items")), ("", "/Items"));
    assert_eq!(below_base("/jellyfin", "/jellyfinx/Items"), "/jellyfinx/Items");
}

proptest! {
    #[test]
    fn the_one_form_stays_as_it_is(raw in "/(Users|Devices|%55sers|\\.|\\.\\.|%2e|a b|Me|/){1,5}(\\?[a-zA-Z%0-9=&+]{0,20})?") {
        let raw = raw.replace(' ', "%20");
        if let Ok(once) = target(Method::GET, &raw) {
            prop_assert_eq!(target(Method::GET, &once), Ok(once.clone()), "{}", raw);
        }
    }
}
