//! What is ended in one pool is nobody's affair in another, though the device or the user bears the same id.

use crate::stories::world::story;
use jellyfin_sim::{Cluster, Pod};

use super::{Client, World, body_of, json, plan};

const MAIN: &str = "main.example.org";
const OTHER: &str = "other.example.org";

/// A pool of pod `a`, and another of a pod of another cluster; each has its host.
async fn two_clusters() -> (World, Pod) {
    let mut world = plan(1).state_path("state").start().await;
    let other = Pod::builder(&Cluster::new()).name("z").start().await.expect("a pod starts");
    let address = other.address();
    world
        .restart(|settings| {
            settings.pod_of("other", "z", address);
            settings.route_host(MAIN, "main");
            settings.route_host(OTHER, "other");
        })
        .await;
    (world, other)
}

fn at(world: &World, host: &str, device: &str) -> Client {
    let mut client = world.client().without_cookies().device(device);
    client.host = host.to_owned();
    client
}

async fn status(client: &Client, world: &World) -> u16 {
    let mut now = client.moved_to(&world.proxy);
    now.host.clone_from(&client.host);
    now.get("/Users/Me").await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_sessions_of_its_own_pool_only() {
    let (world, other) = two_clusters().await;
    story(world, async |world| {
        let mut root = at(world, MAIN, "throne");
        root.log_in("root").await;
        let mut clients = Vec::new();
        for number in 0..4 {
            let (user, device) = (format!("user{number}"), format!("device-{number}"));
            let (mut here, mut there) = (at(world, MAIN, &device), at(world, OTHER, &device));
            here.log_in(&user).await;
            there.log_in(&user).await;
            clients.push((here, there));
        }
        let user = |number: usize| world.cluster.user_id(&format!("user{number}")).expect("a user");
        for (method, target, body) in [
            ("DELETE", "/Devices?id=device-0".to_owned(), json!(null)),
            ("DELETE", format!("/Users/{}", user(1)), json!(null)),
            ("POST", format!("/Users/{}/Policy", user(2)), json!({"IsDisabled": true})),
            ("POST", format!("/Users/Password?userId={}", user(3)), json!({"NewPw": "new"})),
        ] {
            let request = root.request(method.parse().expect("a method"), &target);
            let request = request.header("content-type", "application/json");
            let status = root.send(request, body_of(body.to_string())).await.expect("an answer").status;
            assert_eq!(status, 204, "{method} {target}");
        }
        for restarts in [false, true] {
            if restarts {
                world.restart(|_| {}).await;
            }
            for (number, (here, there)) in clients.iter().enumerate() {
                let both = (status(here, world).await, status(there, world).await);
                assert_eq!(both, (401, 200), "client {number}, restarted: {restarts}");
            }
        }
    })
    .await;
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_pool_ends_no_session() {
    let (world, other) = two_clusters().await;
    story(world, async |world| {
        let mut client = at(world, MAIN, "sofa");
        client.log_in("alice").await;
        assert_eq!(status(&client, world).await, 200);
        let mut astray = client.twin();
        astray.host = OTHER.to_owned();
        assert_eq!(astray.post("/Sessions/Logout", json!({})).await.status, 401);
        assert_eq!(status(&client, world).await, 200);
    })
    .await;
    drop(other);
}
