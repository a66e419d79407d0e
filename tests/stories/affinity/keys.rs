//! The keys of the cookie: rotated, shared by replicas, kept over a restart.

use crate::stories::world::{Client, World, story};

const PUBLIC: &str = "/System/Info/Public";

/// Browsers with their homes, enough of them for every pod to have some.
async fn browsers(world: &World) -> Vec<(Client, String)> {
    let mut browsers = Vec::new();
    for _ in 0..12 {
        let mut client = world.client();
        let home = world.home(&client.get(PUBLIC).await).to_owned();
        browsers.push((client, home));
    }
    browsers
}

#[tokio::test]
async fn a_rotated_key_renews_the_cookie_and_moves_no_client() {
    story(World::plan(3).keys(&["the first of two keys"]), async |world| {
        let before = browsers(world).await;
        world.restart(|settings| settings.keys(&["the new key of both", "the first of two keys"])).await;
        for (client, home) in &before {
            let mut client = client.moved_to(&world.proxy);
            let answer = client.get(PUBLIC).await;
            assert_eq!(world.home(&answer), home);
            assert!(answer.set_cookie().is_some(), "the cookie is renewed under the new key");
            let again = client.get(PUBLIC).await;
            assert_eq!((world.home(&again), again.set_cookie()), (&**home, None));
        }
    })
    .await;
}

#[tokio::test]
async fn two_proxies_with_one_key_choose_the_same_pods() {
    story(World::plan(3).keys(&["the key that both have"]), async |world| {
        let replica = world.replica(|_| ()).await;
        for (client, home) in &browsers(world).await {
            let answer = client.moved_to(&replica).get(PUBLIC).await;
            assert_eq!((world.home(&answer), answer.set_cookie()), (&**home, None));
        }
        let mut homes = std::collections::BTreeSet::new();
        for device in (0..12).map(|number| format!("device {number}")) {
            let here = world.client().without_cookies().device(&device).get(PUBLIC).await;
            let there = replica.client().without_cookies().device(&device).get(PUBLIC).await;
            assert_eq!(world.home(&here), world.home(&there), "{device}");
            homes.insert(world.home(&here));
        }
        assert!(homes.len() > 1, "the devices are spread");
    })
    .await;
}

#[tokio::test]
async fn the_key_survives_a_restart() {
    story(World::plan(3).state_path("state"), async |world| {
        let before = browsers(world).await;
        world.restart(|_| ()).await;
        for (client, home) in &before {
            let answer = client.moved_to(&world.proxy).get(PUBLIC).await;
            assert_eq!((world.home(&answer), answer.set_cookie()), (&**home, None));
        }
        world.restart(|settings| settings.remove_state_path()).await;
        let answer = before[0].0.moved_to(&world.proxy).get(PUBLIC).await;
        assert!(answer.set_cookie().is_some(), "without the folder the key is another one");
    })
    .await;
}
