//! The writer leads its pool (`[leader] mode = "probe"`).

use jellypin::leader::Mode;

use super::{build, until_so, writer};
use crate::stories::world::{World, story};

async fn leads(world: &World, pod: &str) -> bool {
    world.proxy.metric("jellypin_leader", &[("pod", pod)]).await == 1.0
}

#[tokio::test]
async fn the_writer_leads_and_the_lead_goes_with_it() {
    story(build(3).leader_mode(Mode::Probe), async |world| {
        world.cluster.move_writer("b");
        until_so("the writer leads", async || leads(world, "b").await || moved(world).await).await;
        world.pod(&writer(world)).kill().await;
        until_so("another pod writes and leads", async || {
            let writer = world.cluster.writer();
            match writer.filter(|writer| world.pod(writer).is_running()) {
                Some(writer) => leads(world, &writer).await,
                None => false,
            }
        })
        .await;
        assert_eq!(world.proxy.metric("jellypin_writer", &[("pod", &writer(world))]).await, 1.0);
    })
    .await;
}

/// Whether a write made jellypin look who writes; until then nothing says that the lock has moved.
async fn moved(world: &World) -> bool {
    let mut program = world.client().without_cookies();
    program.token = Some(world.cluster.api_key());
    program.post("/Library/Media/Updated", serde_json::json!({"Updates": []})).await.status == 204
        && leads(world, &writer(world)).await
}
