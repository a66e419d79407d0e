//! Clients without cookies: known by token and device, in whatever carrier.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use jellyfin_sim::{FILM, Generation};
use serde_json::json;

use super::reached;
use crate::stories::world::{Client, World, story};

/// Enough devices for every pod to be the home of some.
const DEVICES: usize = 8;

#[tokio::test]
async fn an_app_without_cookies_stays_with_the_pod_that_minted_its_token() {
    story(World::plan(3), async |world| {
        let mut homes = BTreeSet::new();
        for number in 0..DEVICES {
            let mut app = world.client().without_cookies().device(&format!("app {number}"));
            let user = format!("user{number}");
            let log_in = app.log_in(&user).await;
            let home = world.home(&log_in).to_owned();
            let token = app.token.clone().expect("a token");
            assert_eq!(app.get("/Users/Me").await.status, 200);
            assert_eq!(app.post("/Sessions/Capabilities/Full", json!({})).await.status, 204);

            // A player and a socket that have the token and nothing else.
            let mut player = world.client().without_cookies();
            player.is_fresh = true;
            for path in ["/Items", "/System/Info", "/UserViews", &format!("/Items/{FILM}/Download")] {
                let answer = player.get(&format!("{path}?ApiKey={token}")).await;
                assert_eq!((answer.status, world.home(&answer)), (200, &*home), "{path}");
            }
            let socket = player.socket(&format!("/socket?ApiKey={token}")).await.expect("a socket");
            assert_eq!(world.pod(&home).open_sockets(), 1);
            drop(socket);
            world.pod(&home).until(|pod| pod.open_sockets() == 0).await;
            assert_eq!(reached(world, &token), BTreeSet::from([home.clone()]));
            homes.insert(home);
        }
        assert!(homes.len() > 1, "the apps are spread: {homes:?}");
    })
    .await;
}

#[tokio::test]
async fn parallel_requests_of_an_unknown_client_share_one_pod() {
    story(World::plan(3), async |world| {
        for device in (0..DEVICES).map(|number| format!("app {number}")) {
            let mut twins: Vec<Client> = (0..10).map(|_| world.client().without_cookies().device(&device)).collect();
            let asked = twins.iter_mut().map(|twin| twin.get("/System/Info/Public"));
            let answers = futures_util::future::join_all(asked).await;
            let homes: BTreeSet<_> = answers.iter().map(|answer| world.home(answer)).collect();
            assert_eq!(homes.len(), 1, "{device}: {homes:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_weighs_more_than_the_device_that_sends_it() {
    story(World::plan(3), async |world| {
        let mut phone = world.client().without_cookies().device("phone");
        phone.log_in("alice").await;
        let token = phone.token.clone().expect("a token");
        for number in 0..DEVICES {
            // A television has a device id of its own and the sender's token.
            let mut television = phone.twin().device(&format!("television {number}"));
            assert_eq!(television.get("/Users/Me").await.status, 200);
            let path = format!("/Videos/{FILM}/stream?static=true&ApiKey={token}&DeviceId=television%20{number}");
            let request = television.request(Method::HEAD, &path);
            assert_eq!(television.send(request, Default::default()).await.expect("an answer").status, 200);
        }
        assert_eq!(reached(world, &token).len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_token_weighs_more_than_a_cookie() {
    story(World::plan(3), async |world| {
        let mut app = world.client().without_cookies().device("app");
        app.log_in("alice").await;
        let home = world.home(&app.get("/Users/Me").await).to_owned();
        let mut browser = world.client();
        while world.home(&browser.get("/System/Info/Public").await) == home {
            browser = world.client();
        }
        browser.token = app.token.clone();
        let answer = browser.get("/Users/Me").await;
        assert_eq!((answer.status, world.home(&answer)), (200, &*home));
        assert!(answer.set_cookie().is_some(), "the cookie follows the token");
        assert_eq!(world.home(&browser.get("/System/Info/Public").await), home);
    })
    .await;
}

#[tokio::test]
async fn tokens_carried_as_in_10_11_lead_home() {
    let plan = World::plan(3).build(|pod| pod.generation(Generation::V10_11));
    story(plan, async |world| {
        for number in 0..DEVICES {
            let mut app = world.client().without_cookies().device(&format!("app {number}"));
            app.log_in(&format!("user{number}")).await;
            assert_eq!(app.get("/Users/Me").await.status, 200);
            let token = app.token.clone().expect("a token");
            let mut bare = world.client().without_cookies();
            let by_header = [
                ("x-emby-token", token.clone()),
                ("x-mediabrowser-token", token.clone()),
                ("x-emby-authorization", format!("MediaBrowser Token=\"{token}\"")),
                ("authorization", format!("Emby Token={token}")),
            ];
            for (name, value) in &by_header {
                assert_eq!(bare.get_with("/Users/Me", &[(name, value)]).await.status, 200, "{name}");
            }
            for path in ["/Users/Me?api_key=", "/emby/Users/Me?api_key=", "/mediabrowser/users/me?API_KEY="] {
                assert_eq!(bare.get(&format!("{path}{token}")).await.status, 200, "{path}");
            }
            let socket = bare.socket(&format!("/socket?api_key={token}&deviceId=other")).await;
            drop(socket.expect("a socket"));
            assert_eq!(reached(world, &token).len(), 1);
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_that_12_0_ignores_still_identifies_the_client() {
    story(World::plan(3), async |world| {
        let mut homes = BTreeSet::new();
        for number in 0..DEVICES {
            let mut app = world.client().without_cookies().device(&format!("app {number}"));
            app.log_in(&format!("user{number}")).await;
            let home = world.home(&app.get("/Users/Me").await).to_owned();
            let token = app.token.clone().expect("a token");
            let mut player = world.client().without_cookies();
            let range = [("range", "bytes=0-99")];
            let film = player.get_with(&format!("/Videos/{FILM}/stream?static=true&api_key={token}"), &range).await;
            assert_eq!((film.status, world.home(&film)), (206, &*home));
            homes.insert(home);
        }
        assert!(homes.len() > 1, "the apps are spread: {homes:?}");
    })
    .await;
}

#[tokio::test]
async fn junk_tokens_become_no_pins() {
    story(World::plan(2).pins(64), async |world| {
        for number in 0..40 {
            let mut stranger = world.client().without_cookies();
            stranger.token = Some(format!("{number:032x}"));
            assert_eq!(stranger.get("/Users/Me").await.status, 401);
            assert_eq!(stranger.get("/System/Info/Public").await.status, 200);
        }
        assert_eq!(world.proxy.metric("jellypin_pins", &[]).await, 0.0, "nobody's word makes a pin");
        for number in 0..150 {
            let mut app = world.client().without_cookies().device(&format!("app {number}"));
            app.log_in(&format!("user{number}")).await;
            assert_eq!(app.get("/Users/Me").await.status, 200);
            // Tokens and devices have a bound each.
            assert!(world.proxy.metric("jellypin_pins", &[]).await <= 130.0);
        }
        assert!(world.proxy.metric("jellypin_pins", &[]).await > 64.0);
    })
    .await;
}

#[tokio::test]
async fn a_socket_with_an_unknown_token_is_refused_by_the_pod_itself() {
    story(World::plan(2), async |world| {
        let mut client = world.client().without_cookies();
        let refusal = client.socket("/socket?ApiKey=00000000000000000000000000000000").await;
        assert_eq!(refusal.err(), Some(StatusCode::FORBIDDEN));
    })
    .await;
}
