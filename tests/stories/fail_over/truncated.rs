//! A pod breaks its answer off: the client must see that, and never take a part for the whole.

use jellyfin_sim::FILM;

use super::PUBLIC;
use crate::stories::world::{Failed, World, body_of, story};

/// Asks for something whose body the pod cuts after so many bytes.
async fn cut(path: &str, after: u64) {
    story(World::plan(1), async |world| {
        let mut client = world.client();
        client.log_in("alice").await;
        world.pod("a").cut_bodies_after(Some(after));
        let request = client.request(http::Method::GET, path);
        let failed = client.send(request, body_of("")).await.expect_err("a broken answer");
        match failed {
            Failed::Cut { status, received } => {
                assert_eq!(status, 200);
                assert!(received as u64 <= after, "{received} bytes, and the pod sent {after}");
            }
            // What the pod sent may be lost together with the head.
            Failed::NoAnswer => assert_eq!(after, 0),
            Failed::Connect(error) => panic!("{error}"),
        }
        let lines = world.proxy.lines_of(path.split('?').next().unwrap_or_default(), 1).await;
        assert_eq!((&lines[0]["outcome"], &lines[0]["http.status"]), (&"pod_broke".into(), &200.into()));

        world.pod("a").cut_bodies_after(None);
        assert_eq!(client.get(PUBLIC).await.status, 200, "one broken answer takes nobody out");
    })
    .await;
}

#[tokio::test]
async fn a_cut_answer_of_known_length_is_not_complete() {
    cut(&format!("/Items/{FILM}/Images/Primary"), 500).await;
}

#[tokio::test]
async fn a_cut_chunked_answer_is_not_complete() {
    cut(&format!("/Videos/{FILM}/stream"), 100_000).await;
}

#[tokio::test]
async fn a_small_chunked_answer_that_is_cut_is_not_complete() {
    cut("/Users/Me", 20).await;
}
