//! A QuickConnect code that a client shows and one that a mint uses never cross.

use serde_json::{Value, json};

use crate::stories::{
    migration::{client_of, kill, plan, start_again},
    world::{Client, World, story},
};

async fn initiate(world: &World, device: &str) -> (Client, Value) {
    let mut client = world.client().without_cookies().device(device);
    let begun = client.post("/QuickConnect/Initiate", json!({})).await;
    (client, begun.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mint_never_approves_a_clients_code() {
    story(plan(2), async |world| {
        let (mut alice, home) = client_of(world, "alice", "sofa").await;
        let other = if home == "a" { "b" } else { "a" };
        kill(world, &home).await;
        // From now on the pod's next code is the one that a television shows.
        let (mut tv, begun) = initiate(world, "tv").await;
        let code = begun["Code"].as_str().expect("a code").to_owned();
        world.pod(other).next_code(&code);
        assert_eq!(alice.get("/Users/Me").await.status, 200, "migrated, by another code");
        let asked =
            tv.get(&format!("/QuickConnect/Connect?secret={}", begun["Secret"].as_str().expect("a secret"))).await;
        assert!(
            asked.status == 404 || asked.json()["Authenticated"] == false,
            "nobody has authorized it: {}",
            asked.text()
        );
        let log_in = tv.post("/Users/AuthenticateWithQuickConnect", json!({"Secret": begun["Secret"]})).await;
        assert_eq!(log_in.status, 404, "the television is nobody's");
        start_again(world, &home).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_never_gets_a_mints_code() {
    story(plan(2), async |world| {
        let (mut alice, home) = client_of(world, "alice", "sofa").await;
        let other = if home == "a" { "b" } else { "a" };
        kill(world, &home).await;
        world.pod(other).next_code("123456");
        assert_eq!(alice.get("/Users/Me").await.status, 200);
        world.pod(other).next_code("123456");
        let (_, begun) = initiate(world, "tv").await;
        assert_ne!(begun["Code"], "123456");
        assert!(begun["Secret"].as_str().is_some_and(|secret| secret.len() == 64), "and still it is given one");
        start_again(world, &home).await;
    })
    .await;
}
