//! The id that clients see stays the same.

use crate::stories::world::{Proxy, World, story};

/// The id that clients of this proxy see.
pub(crate) async fn id_at(proxy: &Proxy) -> String {
    proxy.client().get("/System/Info/Public").await.json()["Id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shown_id_outlives_proxy_and_pod() {
    story(World::plan(3).state_path("state"), async |world| {
        let first = world.pod("a").server_id().to_owned();
        assert_eq!(id_at(&world.proxy).await, first);
        world.pod("a").kill().await;
        world.restart(|settings| settings.remove_pod("a")).await;
        assert_eq!(id_at(&world.proxy).await, first);
        world.restart(|settings| settings.remove_state_path()).await;
        assert_eq!(
            id_at(&world.proxy).await,
            world.pod("b").server_id(),
            "nothing is kept: the first pod by name gives it"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_id_wins_over_the_stored_one() {
    story(World::plan(2).state_path("state"), async |world| {
        let id = "0123456789abcdef0123456789abcdef";
        world.restart(|settings| settings.server_id(&id.to_uppercase())).await;
        assert_eq!(id_at(&world.proxy).await, id);
        world.restart(|settings| settings.remove_server_id()).await;
        assert_eq!(id_at(&world.proxy).await, world.pod("a").server_id(), "and is not kept itself");
    })
    .await;
}
