//! Apps that look for a server in the local network find the proxy, and one server.

use serde_json::Value;
use tokio::net::UdpSocket;

use super::{
    wire::within,
    world::{DEADLINE, World, story},
};

/// What an app gets that asks so.
async fn asked(world: &World, app: &UdpSocket, question: &[u8]) -> Value {
    let at = world.proxy.autodiscovery();
    app.send_to(question, at).await.expect("sent");
    let mut answer = [0; 1024];
    let (length, _) = within(DEADLINE, "an answer", app.recv_from(&mut answer)).await.expect("an answer");
    serde_json::from_slice(&answer[..length]).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_finds_the_proxy_and_the_server_that_its_clients_see() {
    let url = "https://media.example.org/jellyfin";
    let plan = World::plan(2).autodiscovery("127.0.0.1:0").public_url(url);
    story(plan, async |world| {
        let app = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let server = asked(world, &app, b"who is JellyfinServer?").await;
        let shown = world.client().get("/System/Info/Public").await.json();
        assert_eq!(server["Address"], "https://media.example.org/jellyfin");
        assert_eq!((&server["Id"], &server["Name"]), (&shown["Id"], &shown["ServerName"]));
        assert!(server.as_object().is_some_and(|fields| fields.len() == 4 && fields["EndpointAddress"].is_null()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_public_url_an_app_is_told_the_address_that_it_can_reach_over_ipv6_too() {
    story(World::plan(1).autodiscovery("[::]:0"), async |world| {
        let address = world.proxy.address;
        let port = world.proxy.autodiscovery().port();
        let app = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        app.connect(("127.0.0.1", port)).await.expect("connected");
        // The first is no question, and stays without an answer.
        app.send(b"who is EmbyServer?").await.expect("sent");
        app.send(b"Who is JellyfinServer?").await.expect("sent");
        let mut answer = [0; 1024];
        let length = within(DEADLINE, "an answer", app.recv(&mut answer)).await.expect("an answer");
        let server: Value = serde_json::from_slice(&answer[..length]).expect("JSON");
        assert_eq!(server["Address"], format!("http://{address}"));
        assert_eq!(world.proxy.metric("jellypin_autodiscovery_total", &[("outcome", "no_question")]).await, 1.0);

        // An app that asks again and again is answered a few times.
        for _ in 0..100 {
            app.send(b"who is JellyfinServer?").await.expect("sent");
        }
        let limited = async || world.proxy.metric("jellypin_autodiscovery_total", &[("outcome", "limited")]).await;
        super::world::until_so("most are left unanswered", async || limited().await > 80.0).await;
    })
    .await;
}
