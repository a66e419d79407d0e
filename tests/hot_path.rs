//! What knowing a client costs: allocations and time of a pinned request's way to its pod, and the memory of a pin; and what a
//! socket's message costs. One test alone in its program, since it counts what the whole program allocates.

use std::{alloc::System, hint::black_box, sync::Arc, time::Instant};

use http::{HeaderMap, HeaderValue, Uri, header};
use jellypin::{
    affinity::pins::{Kind, Pins},
    jellyfin::{self, Legacy, Prefixes, endpoint::Endpoint, message, sync_play},
    pod::{Epoch, Pod, PodConfig, PodInstance},
    sessions::{Bounds, Device, SessionLookup, Sessions, session_store::SessionStore},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PINS: usize = 100_000;
const ROUNDS: u32 = 200_000;
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Bytes that what was made holds, each.
fn bytes_each(region: &Region<'_, System>, count: usize) -> usize {
    let change = region.change();
    (change.bytes_allocated - change.bytes_deallocated) / count
}

#[test]
fn a_pinned_request_and_a_message_allocate_nothing_and_a_pin_is_small() {
    let pool: Arc<str> = "main".into();
    let pod = Pod::new(&pool, &PodConfig { name: "a".into(), authority: "h:1".into(), ..Default::default() });
    let home = PodInstance { pod: pod.id, epoch: Epoch(1) };

    let region = Region::new(ALLOCATOR);
    let pins = Pins::new(PINS, (1, 2));
    for number in 0..PINS - 1 {
        pins.learn(Kind::Token, &format!("{number:032x}"), home, [192, 0, 2, 1].into());
    }
    let pin = bytes_each(&region, PINS);
    pins.learn(Kind::Token, TOKEN, home, [192, 0, 2, 1].into());

    const SESSIONS: usize = 20_000;
    let region = Region::new(ALLOCATOR);
    let sessions = Sessions::new(PINS, Bounds::default(), &[(1, 2)], Vec::new(), SessionStore::in_memory());
    for number in 0..SESSIONS {
        let device = Device {
            client: "Jellyfin Web".into(),
            name: "Firefox".into(),
            id: format!("device {number:026}"),
            version: "12.0.0".into(),
        };
        drop(sessions.log_ins.record(&pod, &format!("{number:032x}"), device, &format!("{number:032x}")));
    }
    let session = bytes_each(&region, SESSIONS);

    let mut headers = HeaderMap::new();
    let line = format!(
        "MediaBrowser Client=\"Jellyfin Web\", Device=\"Firefox\", DeviceId=\"d1\", Version=\"12\", Token=\"{TOKEN}\""
    );
    headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&line).expect("a value"));
    let uri = Uri::from_static("/Users/0123456789abcdef0123456789abcdef/Items?Recursive=true&Limit=50&SortBy=Name");
    let find = || {
        let path = jellyfin::controller_path(uri.path(), Prefixes::Kept);
        let identity = jellyfin::identify(&uri, path, &headers, Legacy::Ignored);
        let endpoint = Endpoint::of(&http::Method::GET, path);
        let token = identity.token.as_deref().expect("a token");
        let known = matches!(sessions.known.find(token), SessionLookup::Active(_));
        (endpoint, known, pins.home(Kind::Token, token, |_, _| true))
    };
    assert_eq!(find(), (Endpoint::Authenticated, false, Some(home)));
    let region = Region::new(ALLOCATOR);
    let began = Instant::now();
    for _ in 0..ROUNDS {
        black_box(find());
    }
    let (time, allocations) = (began.elapsed() / ROUNDS, region.change().allocations);
    println!(
        "a pin: {pin} bytes; a session: {session} bytes; to identify a client and find its home: {time:?}, {allocations} \
         allocations in {ROUNDS} rounds"
    );
    assert_eq!(allocations, 0);

    let item = r#"{"Id":"0123456789abcdef","NowPlayingItem":{"Name":"Start","Overview":"ServerId"}},"#;
    let list = format!(r#"{{"MessageType":"Sessions","Data":[{}null]}}"#, item.repeat(4_000));
    let region = Region::new(ALLOCATOR);
    for text in [&*list, r#"{"MessageType":"KeepAlive"}"#] {
        assert_eq!(
            (message::subscription(text), message::is_shutdown_notice(text), sync_play::read(text)),
            (None, false, None)
        );
    }
    assert_eq!(region.change().allocations, 0, "messages that are none of those that are looked for");
    assert!(pin <= 300, "{pin} bytes a pin");
}
