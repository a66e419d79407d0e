//! Such a pool comes and goes with a reload, and is shown like the others.

use super::{PHOTOS, serve, service::Service};
use crate::stories::world::{Client, Program, World, story, until_so};

async fn reload(program: &Program) -> u16 {
    Client::at_address(program.admin()).post("/reload", serde_json::Value::Null).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_adds_such_a_route_changes_it_and_takes_it_away() {
    let (one, two) = (Service::start("one").await, Service::start("two").await);
    story(World::plan(1), async |world| {
        let mut settings = world.settings().clone();
        settings.set("reload.watch", "\"off\"");
        settings.route_rest("main");
        let program = Program::start(&settings, world.folder()).await;
        let mut visitor = program.client();
        visitor.host = PHOTOS.to_owned();
        assert_eq!(visitor.get("/x").await.status, 404, "Jellyfin's");

        let mut with_service = settings.clone();
        serve(&mut with_service, &[&one], "");
        program.rewrite(&with_service);
        assert_eq!(reload(&program).await, 200);
        assert_eq!(visitor.get("/x").await.text(), "one");
        let overview = Client::at_address(program.admin()).get("/overview").await.json();
        let rows = overview["overview"]["pods"].as_array().expect("pods");
        let row = rows.iter().find(|row| row["name"] == "one").expect("a row");
        assert_eq!((&row["kind"], &row["state"]), (&"http".into(), &"ready".into()), "{row}");
        let mut socket = visitor.socket("/live").await.expect("a socket");

        // Another pod, and a check that the first does not pass any more.
        let mut other = settings.clone();
        serve(&mut other, &[&two], "");
        other.set("pools.photos.health_path", "\"/ping\"");
        program.rewrite(&other);
        assert_eq!(reload(&program).await, 200);
        until_so("the other serves", async || visitor.get("/x").await.text() == "two").await;
        two.set_ping(500);
        let operators = || Client::at_address(program.admin());
        let states = async || {
            let pods = operators().get("/pods").await.json();
            let rows = pods.as_array().expect("pods").iter().filter(|row| row["kind"] == "http");
            rows.map(|row| format!("{} {}", row["name"], row["state"]).replace('"', "")).collect::<Vec<_>>()
        };
        until_so("the pod that left is let go", async || states().await.len() == 1).await;
        assert_eq!(visitor.get("/x").await.text(), "two", "an ill pod is better than none");

        program.rewrite(&settings);
        assert_eq!(reload(&program).await, 200);
        assert_eq!((visitor.get("/x").await.status, states().await.len()), (404, 0));
        // What was open goes on.
        use futures_util::{SinkExt, StreamExt};
        use tokio_tungstenite::tungstenite::Message;
        socket.send(Message::text("still there")).await.expect("it is sent");
        assert_eq!(socket.next().await.expect("a message").expect("a message"), Message::text("still there"));
        drop(socket);
        drop(program);
    })
    .await;
}
