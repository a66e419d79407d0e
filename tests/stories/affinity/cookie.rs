//! The cookie: when it is set, how, and what is made of the one that comes back.

use jellypin::affinity::cookie::{SameSite, Secure};
use std::collections::BTreeSet;

use jellyfin_sim::FILM;

use crate::stories::world::{World, secs, story};

const PUBLIC: &str = "/System/Info/Public";

#[tokio::test]
async fn a_first_visit_gets_an_opaque_cookie() {
    story(World::plan(3), async |world| {
        let mut client = world.client();
        let answer = client.get(PUBLIC).await;
        let pin = client.pin().expect("a pin").to_owned();
        assert_eq!(answer.set_cookie(), Some(&*format!("jellyfin_server_id={pin}; HttpOnly; SameSite=Strict; Path=/")));
        assert_eq!(pin.len(), 22, "{pin}");
        assert!(pin.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{pin}");

        // Every pod has its own, and it is neither the pod's name nor its address in base64.
        let mut pins = BTreeSet::from([pin]);
        for _ in 0..60 {
            let mut other = world.client();
            other.get(PUBLIC).await;
            pins.insert(other.pin().expect("a pin").to_owned());
        }
        assert_eq!(pins.len(), 3, "one value for each pod");
    })
    .await;
}

#[tokio::test]
async fn a_browser_stays_with_its_pod() {
    story(World::plan(3), async |world| {
        let mut client = world.client();
        let first = client.get(PUBLIC).await;
        let home = world.home(&first).to_owned();
        for turn in 0..50 {
            client.is_fresh = turn % 2 == 0;
            let answer = client.get(PUBLIC).await;
            assert_eq!(world.home(&answer), home, "request {turn}");
            assert_eq!(answer.set_cookie(), None, "nothing has changed");
        }
        let mut other = client.twin();
        assert_eq!(world.home(&other.get(PUBLIC).await), home, "another connection");
    })
    .await;
}

#[tokio::test]
async fn new_browsers_are_spread_over_all_pods() {
    story(World::plan(3), async |world| {
        for _ in 0..60 {
            world.client().get(PUBLIC).await;
        }
        for pod in &world.pods {
            let visits = pod.seen().iter().filter(|seen| seen.header("x-story-request").is_some()).count();
            assert!((8..=32).contains(&visits), "{visits} of 60 visits came to {}", pod.name());
        }
    })
    .await;
}

#[tokio::test]
async fn the_cookie_is_secure_only_when_a_trusted_peer_says_so() {
    story(World::plan(2), async |world| {
        let over_tls = [("x-forwarded-proto", "https")];
        let claimed = world.client().get_with(PUBLIC, &over_tls).await;
        assert!(!claimed.set_cookie().expect("a cookie").contains("Secure"), "a stranger is not believed");

        world.restart(|settings| settings.trusted_proxies(&["127.0.0.0/8"])).await;
        let said = world.client().get_with(PUBLIC, &over_tls).await;
        assert!(said.set_cookie().expect("a cookie").ends_with("; Secure; Path=/"), "{:?}", said.set_cookie());
        let cleartext = world.client().get_with(PUBLIC, &[("x-forwarded-proto", "http")]).await;
        assert!(!cleartext.set_cookie().expect("a cookie").contains("Secure"));

        world.restart(|settings| settings.cookie_secure(Secure::Never)).await;
        let never = world.client().get_with(PUBLIC, &over_tls).await;
        assert!(!never.set_cookie().expect("a cookie").contains("Secure"));
    })
    .await;
}

#[tokio::test]
async fn every_attribute_can_be_set() {
    let plan = World::plan(1)
        .cookie_name("pod")
        .cookie_http_only(false)
        .cookie_same_site(SameSite::None)
        .cookie_secure(Secure::Always)
        .cookie_path("/media")
        .cookie_domain("example.org")
        .cookie_max_age(secs(3600))
        .cookie_partitioned(true);
    story(plan, async |world| {
        let answer = world.client().get(PUBLIC).await;
        let cookie = answer.set_cookie().expect("a cookie");
        assert!(cookie.starts_with("pod="), "{cookie}");
        for attribute in ["SameSite=None", "Secure", "Path=/media", "Domain=example.org", "Max-Age=3600", "Partitioned"]
        {
            assert!(cookie.split("; ").any(|part| part == attribute), "{attribute} is missing in {cookie}");
        }
        assert!(!cookie.contains("HttpOnly"), "{cookie}");
    })
    .await;
}

#[tokio::test]
async fn a_public_response_sets_no_cookie() {
    story(World::plan(2), async |world| {
        let mut client = world.client();
        let image = client.get(&format!("/Items/{FILM}/Images/Primary")).await;
        assert_eq!((image.status, image.header("cache-control")), (200, "public"));
        assert_eq!(image.set_cookie(), None);
        let film = client.get_with(&format!("/Videos/{FILM}/stream?static=true"), &[("range", "bytes=0-99")]).await;
        assert_eq!((film.status, film.set_cookie()), (206, None), "a player's stream needs no home");
        assert!(client.get(PUBLIC).await.set_cookie().is_some(), "the next ordinary answer binds");
    })
    .await;
}

#[tokio::test]
async fn attributes_sent_back_by_a_client_are_ignored() {
    story(World::plan(3), async |world| {
        let mut client = world.client();
        let home = world.home(&client.get(PUBLIC).await).to_owned();
        let pin = client.pin().expect("a pin").to_owned();
        client.cookies = None;
        for line in [
            format!("jellyfin_server_id={pin}; Path=/; HttpOnly; SameSite=Strict"),
            format!("theme=dark; jellyfin_server_id=\"{pin}\"; lang=de"),
            format!("jellyfin_server_id=of-old; jellyfin_server_id={pin}"),
            format!(";;a; =b; jellyfin_server_id={pin};"),
        ] {
            let answer = client.get_with(PUBLIC, &[("cookie", &line)]).await;
            assert_eq!((world.home(&answer), answer.set_cookie()), (&*home, None), "{line}");
        }
    })
    .await;
}

#[tokio::test]
async fn junk_and_forged_cookies_are_ignored_and_replaced() {
    story(World::plan(3).keys(&["the key of this proxy"]), async |world| {
        let stranger = world.replica(|settings| settings.keys(&["the key of another one"])).await;
        let mut elsewhere = stranger.client();
        elsewhere.get(PUBLIC).await;
        let forged = elsewhere.pin().expect("a pin").to_owned();

        let mut real = world.client();
        real.get(PUBLIC).await;
        let real = real.pin().expect("a pin").to_owned();
        let flipped = real.replacen(real.as_bytes()[0] as char, if real.starts_with('A') { "B" } else { "A" }, 1);
        let long = "x".repeat(4000);
        for junk in [&*forged, &flipped, "", "a", "127.0.0.1", "\"\"", "%00", &long, &real[..21], &format!("{real}=")] {
            let mut client = world.client();
            client.set_pin(junk);
            let answer = client.get(PUBLIC).await;
            assert_eq!(answer.status, 200, "{junk}");
            assert!(answer.set_cookie().is_some(), "a new one replaces {junk:?}");
            let home = world.home(&answer).to_owned();
            assert_eq!(world.home(&client.get(PUBLIC).await), home, "and that one counts");
        }
    })
    .await;
}

#[tokio::test]
async fn only_the_affinity_cookie_is_kept_from_the_pod() {
    story(World::plan(1), async |world| {
        let mut client = world.client();
        client.get(PUBLIC).await;
        client.cookies.as_mut().expect("a jar").insert("theme".into(), "dark".into());
        client.get(PUBLIC).await;
        let seen = world.pod("a").seen().pop().expect("a request");
        assert_eq!(seen.header("cookie"), Some("theme=dark"));
    })
    .await;
}
