//! A session's stored entry outlives the proxy, and is of no use to a thief.

use super::{client_of, kill, plan, start_again};
use crate::stories::replicas::assert_no_secret;
use crate::stories::world::story;

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_no_migrated_session() {
    let state = tempfile::tempdir().expect("a folder");
    story(plan(2).state_path(&state.path().to_string_lossy()), async |world| {
        let (client, home) = client_of(world, "alice", "sofa").await;
        kill(world, &home).await;
        let mut client = client;
        assert_eq!(client.get("/Users/Me").await.status, 200);
        let token = client.token.clone().expect("a token");
        world.restart(|_| {}).await;
        let mut again = client.moved_to(&world.proxy);
        assert_eq!(again.get("/Users/Me").await.status, 200, "the other pod knows it by another token only");
        // The first pod comes back and dies once more on the way: its own token is dead there, and the minted one is known.
        start_again(world, &home).await;
        let other = world.pods_but(&home).next().expect("another pod").name().to_owned();
        kill(world, &other).await;
        world.restart(|_| {}).await;
        let mut again = client.moved_to(&world.proxy);
        assert_eq!(again.get("/System/Info").await.status, 200);
        for file in std::fs::read_dir(state.path()).expect("the folder") {
            let bytes = std::fs::read(file.expect("a file").path()).expect("its content");
            let user = world.cluster.user_id("alice").expect("alice");
            assert_no_secret(&bytes, &[&token, "sofa", "Story", &user]);
        }
    })
    .await;
}
