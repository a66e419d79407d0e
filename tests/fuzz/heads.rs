//! Heads of requests: targets, queries, `Authorization`, cookies.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header, request::Parts};
use jellypin::{
    affinity::{
        Secret,
        cookie::{self, CookieConfig, Cookies, SameSite, Secure},
    },
    jellyfin::{self, Legacy, Prefixes, authorization::Device, canonical, endpoint::Endpoint, translation},
    pod::{Pod, PodConfig},
};
use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestCaseError};

use super::budget::fuzz;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";

/// Pieces of which targets are made.
#[rustfmt::skip]
const TARGET: [&str; 46] = [
    "/", "//", "Users", "Me", "Items", "Sessions", "Devices", "Videos", "hls1", "main", "0.ts", "live.m3u8", "stream.mp4", "emby", "mediabrowser",
    "%2F", "%2e", "%2E%2E", ".", "..", "%25", "%00", "%", "%u0041", "%C3%A4", "%ff", "+", "\\", ";", "?", "&", "=", "ApiKey", "api_key", "APIKEY",
    "%41piKey", "userId", "DeviceId", "PlaySessionId", "LiveStreamId", "id", "PlayedItems", TOKEN, OTHER, "~", "[]",
];

/// Pieces of which the values of fields are made.
#[rustfmt::skip]
const VALUE: [&str; 36] = [
    "MediaBrowser ", "Emby ", "Bearer ", "Token", "token", "DeviceId", "Device", "Client", "Version", "=", "=\"", "\"", "\", ", ",", ", ", " ", "\t",
    "\\\"", "\\", "%22", "%2C", "%", "+", "ä", "a", TOKEN, OTHER, ";", "jellyfin_server_id", "jellyfin_server_id=", "; ", "=x", "x=y", "\u{80}", "", "'",
];

const NAMES: [HeaderName; 7] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-emby-authorization"),
    HeaderName::from_static("x-emby-token"),
    HeaderName::from_static("x-mediabrowser-token"),
    header::COOKIE,
    header::CONNECTION,
    header::HOST,
];

fn target() -> impl Strategy<Value = String> {
    vec(select(&TARGET[..]), 0..14).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn fields() -> impl Strategy<Value = Vec<(HeaderName, HeaderValue)>> {
    let value = vec(select(&VALUE[..]), 0..10).prop_filter_map("a value", |pieces| {
        let bytes = pieces.concat().into_bytes();
        HeaderValue::from_bytes(bytes.trim_ascii()).ok()
    });
    vec((select(NAMES.to_vec()), value), 0..6)
}

fn head() -> impl Strategy<Value = (Method, String, Vec<(HeaderName, HeaderValue)>)> {
    (select(&[Method::GET, Method::POST, Method::DELETE][..]), target(), fields())
}

fn parts((method, target, fields): &(Method, String, Vec<(HeaderName, HeaderValue)>)) -> Option<Parts> {
    let (mut head, ()) = Request::builder().method(method).uri(target.parse::<Uri>().ok()?).body(()).ok()?.into_parts();
    head.headers.extend(fields.iter().cloned());
    Some(head)
}

/// What pods of today accept, and pods of old.
const PODS: [(Prefixes, Legacy); 2] = [(Prefixes::Kept, Legacy::Ignored), (Prefixes::Stripped, Legacy::Accepted)];

fn token_of(head: &Parts, (prefixes, legacy): (Prefixes, Legacy)) -> Option<String> {
    let path = jellyfin::controller_path(head.uri.path(), prefixes);
    jellyfin::identify(&head.uri, path, &head.headers, legacy).token.map(|token| token.into_owned())
}

#[test]
fn the_canonical_form_of_a_head_stays_as_it_is_and_says_the_same() {
    fuzz("canonical", (head(), any::<bool>()), |(head, is_old)| {
        let pods = PODS[usize::from(is_old)];
        let Some(mut once) = parts(&head) else { return Ok(()) };
        let before = token_of(&once, pods);
        if canonical::canonicalize(&mut once, "", pods.0, false).is_err() {
            return Ok(());
        }
        prop_assert_eq!(token_of(&once, pods), before, "another token");
        let mut twice = parts(&head).expect("a head");
        (twice.uri, twice.headers) = (once.uri.clone(), once.headers.clone());
        let again = canonical::canonicalize(&mut twice, "", pods.0, false);
        prop_assert!(again.is_ok(), "refused at the second time: {:?} for {}", again, once.uri);
        prop_assert_eq!((twice.uri, twice.headers), (once.uri, once.headers));
        Ok(())
    });
}

#[test]
fn a_translated_head_bears_the_new_token_and_no_trace_of_the_old() {
    const NEW: &str = "abababababababababababababababab";
    fuzz("translation", (head(), any::<bool>()), |(head, is_old)| {
        let pods = PODS[usize::from(is_old)];
        let Some(mut head) = parts(&head) else { return Ok(()) };
        let before = token_of(&head, pods);
        translation::translate(&mut head.uri, &mut head.headers, |token| token == TOKEN, NEW);
        let expected = before.map(|token| if token == TOKEN { NEW.to_owned() } else { token });
        prop_assert_eq!(token_of(&head, pods), expected);
        Ok(())
    });
}

#[test]
fn a_device_that_was_read_is_written_as_it_was() {
    let device = ("\\PC{0,12}", "\\PC{0,12}", "\\PC{1,12}", "[0-9.]{0,5}");
    fuzz("device", device, |(client, name, id, version)| {
        let device = Device { client, name, id, version };
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, device.header(Some(TOKEN)))]);
        let read = Device::claimed(&headers, Legacy::Ignored);
        prop_assert_eq!(read, device);
        Ok(())
    });
}

#[test]
fn the_parts_of_a_head_are_read_without_harm() {
    fuzz("parts", head(), |head| {
        let Some(head) = parts(&head) else { return Ok(()) };
        for (prefixes, legacy) in PODS {
            let path = jellyfin::controller_path(head.uri.path(), prefixes);
            let _ = (Endpoint::of(&head.method, path), Device::of(&head.headers, legacy));
            let _ = canonical::decoded_path(path);
        }
        Ok(())
    });
}

#[test]
fn a_cookie_is_read_among_others_and_taken_out_without_touching_them() {
    const NAME: &str = "jellyfin_server_id";
    let config = CookieConfig {
        name: NAME.into(),
        http_only: true,
        same_site: SameSite::Strict,
        secure: Secure::Auto,
        path: "/".into(),
        domain: None,
        max_age: None,
        partitioned: false,
    };
    let pool: Arc<str> = "main".into();
    let pod = Arc::new(Pod::new(&pool, &PodConfig { name: "a".into(), authority: "h:1".into(), ..Default::default() }));
    let cookies = Cookies::new(&config, &[Secret::new(*b"key")], std::slice::from_ref(&pod));
    let set = cookies.bind(pod.id, false).expect("a cookie");
    let own = set.to_str().expect("text").split(';').next().expect("a pair").to_owned();
    let others = vec("[a-z]{1,4}=[!#-+\\--:<-\\[\\]-~]{0,6}", 0..5);
    fuzz("cookie", (others, any::<prop::sample::Index>(), fields()), |(others, at, fields)| {
        let mut with = others.clone();
        with.insert(at.index(others.len() + 1), own.clone());
        let line =
            |pairs: &[String]| HeaderValue::from_str(&pairs.join("; ")).map_err(|_| TestCaseError::reject("a value"));
        let mut headers = HeaderMap::from_iter([(header::COOKIE, line(&with)?)]);
        prop_assert_eq!(cookies.read(&headers).claim.map(|claim| claim.pod), Some(pod.id));
        cookie::strip(&mut headers, &[NAME]);
        let left = if others.is_empty() { None } else { Some(line(&others)?) };
        prop_assert_eq!(headers.get(header::COOKIE), left.as_ref());
        // Whatever else stands there.
        let mut headers = HeaderMap::from_iter(fields);
        cookie::strip(&mut headers, &[NAME]);
        prop_assert!(!cookies.read(&headers).is_sent, "{headers:?}");
        Ok(())
    });
}
