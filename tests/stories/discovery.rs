//! Pods are found by a name.

use jellypin::pod::State;

use super::world::{World, story};

#[tokio::test]
async fn every_address_of_a_name_is_a_pod() {
    story(World::plan(1), async |world| {
        let port = world.pod("a").address().port();
        let proxy = world
            .replica(|settings| {
                settings.remove_pod("a");
                settings.dns("localhost", port);
            })
            .await;
        let pods = proxy.ask_admin("/pods").await.json();
        let found = pods.as_array().expect("a list").iter().find(|pod| pod["address"] == format!("127.0.0.1:{port}"));
        let name = found.expect("the address is a pod")["name"].as_str().expect("a name").to_owned();
        proxy.until_state(&name, State::Ready).await;
        // Where the name has an IPv6 address too, nobody listens there, and nobody is sent there.
        let mut client = proxy.client();
        for _ in 0..20 {
            let answer = client.get("/System/Info/Public").await;
            assert_eq!((answer.status, world.home(&answer)), (200, "a"));
        }

        // Looked up again and again, the same addresses stay the same pods.
        let (names, epoch) = (proxy.pod_names(), proxy.pod(&name).status().epoch);
        world.pod("a").kill().await;
        proxy.until_state(&name, State::Down).await;
        world.pod("a").start_again().await.expect("a start");
        proxy.until_state(&name, State::Ready).await;
        assert_eq!((proxy.pod_names(), proxy.pod(&name).status().epoch.0), (names, epoch.0 + 1));
        assert_eq!(client.get("/System/Info/Public").await.set_cookie(), None, "its clients are its clients still");
    })
    .await;
}

#[tokio::test]
async fn a_name_without_addresses_does_no_harm() {
    story(World::plan(2), async |world| {
        let port = world.pod("b").address().port();
        let proxy = world
            .replica(|settings| {
                settings.remove_pod("b");
                settings.dns("localhost", port);
            })
            .await;
        assert!(proxy.pod_names().len() >= 2, "{:?}", proxy.pod_names());
        let mut homes = std::collections::BTreeSet::new();
        for _ in 0..20 {
            homes.insert(world.home(&proxy.client().get("/System/Info/Public").await).to_owned());
        }
        assert_eq!(homes.len(), 2, "{homes:?}");
        proxy.stop().await;

        let proxy = world.replica(|settings| settings.dns("no-such-host.invalid", 1)).await;
        assert_eq!(proxy.pod_names(), ["a", "b"]);
        assert_eq!(proxy.client().get("/System/Info/Public").await.status, 200);
    })
    .await;
}
