//! A 401 may come from the endpoint alone: the pod is asked about the token before the token counts as dead.

use std::time::Instant;

use super::{MADE_UP, ask_with_made_up_tokens, by_query};
use crate::stories::migration::{client_of, count};
use crate::stories::world::{World, story};

const LIST: &str = "/SyncPlay/List";

#[tokio::test]
async fn an_api_key_survives_endpoints_that_need_a_user() {
    for plan in [World::plan(3), World::plan(3).with_api_key()] {
        story(plan, async |world| {
            let mut client = world.client().without_cookies();
            client.token = Some(world.cluster.api_key().to_owned());
            for _ in 0..3 {
                let list = client.get(LIST).await;
                assert_eq!((list.status, list.text()), (400, "Error processing request."));
                assert_eq!(world.saw(&list).len(), 1, "the first pod's answer is the client's");
                assert_eq!(client.get("/Items").await.status, 200);
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_plug_ins_own_401_keeps_the_login() {
    const OF_PLUG_IN: &str = "/_sim/status/401";
    story(World::plan(3), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        for _ in 0..3 {
            let refused = client.get(OF_PLUG_IN).await;
            assert_eq!((refused.status, world.home(&refused)), (401, home.as_str()));
            let items = client.get("/Items").await;
            assert_eq!((items.status, world.home(&items)), (200, home.as_str()));
        }
    })
    .await;
}

#[tokio::test]
async fn an_api_key_works_while_its_pod_is_down() {
    story(World::plan(2), async |world| {
        let mut client = world.client().without_cookies();
        client.token = Some(world.cluster.api_key().to_owned());
        let home = world.home(&client.get("/Items").await).to_owned();
        world.pod(&home).kill().await;
        let began = Instant::now();
        assert_eq!(client.get(LIST).await.status, 400);
        assert!(began.elapsed().as_secs() < 10, "it is not held for a home that it has not");
    })
    .await;
}

#[tokio::test]
async fn a_dead_token_is_checked_once_on_each_pod() {
    story(World::plan(3), async |world| {
        let mut client = world.client().without_cookies();
        assert_eq!(client.get(&by_query(LIST, MADE_UP)).await.status, 400);
        for path in [LIST, "/Items", "/Sessions"] {
            assert_eq!(client.get(&by_query(path, MADE_UP)).await.status, 401, "{path}");
        }
        let seen = |path| world.pods.iter().map(|pod| count(pod, path)).collect::<Vec<_>>();
        assert_eq!((seen(LIST), seen("/Users/Me")), (vec![1; 3], vec![1; 3]));
        assert_eq!((seen("/Items"), seen("/Sessions")), (vec![0; 3], vec![0; 3]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_tokens_do_not_multiply_checks() {
    const TOKENS: usize = 2000;
    story(World::plan(3), async |world| {
        let began = Instant::now();
        ask_with_made_up_tokens(world, TOKENS, LIST, 400).await;
        let [lists, questions] =
            [LIST, "/Users/Me"].map(|path| world.pods.iter().map(|pod| count(pod, path)).sum::<usize>());
        let extra = 1024 + 32 * (began.elapsed().as_secs() as usize + 1);
        println!("{TOKENS} made-up tokens from one address, 3 pods: {lists} requests and {questions} questions");
        assert!(lists <= TOKENS + extra && questions <= extra, "{lists} requests, {questions} questions");
    })
    .await;
}
