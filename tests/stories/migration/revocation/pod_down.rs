//! What was ended while a pod was away is ended there too when it is back, and nothing that came after it.

use jellypin::pod::State;

use super::{
    Client, Method, RedisServer, World, at_home, body_of, delete, json, kill, plan, replicas, start_again, until,
};
use crate::stories::world::{secs, story};

/// Starts a pod again, and waits until it was told all that it is to be told.
async fn return_of(world: &World, pod: &str) {
    world.pod(pod).clear_seen();
    start_again(world, pod).await;
    // The last that is done for a pod that begins a life.
    world.pod(pod).until(|pod| pod.seen().iter().any(|seen| seen.path() == "/QuickConnect/Authorize")).await;
}

fn token_of(client: &Client) -> String {
    client.token.clone().expect("a token")
}

/// Signs in on a device with this password.
async fn sign_in(world: &World, user: &str, password: &str, device: &str) -> Client {
    let mut client = world.client().without_cookies().device(device);
    let answer = client.post("/Users/AuthenticateByName", json!({"Username": user, "Pw": password})).await;
    assert_eq!(answer.status, 200, "the log-in is refused: {}", answer.text());
    client.token = answer.json()["AccessToken"].as_str().map(str::to_owned);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_login_on_a_deleted_device_stays() {
    story(plan(2), async |world| {
        let mut root = at_home(world, "root", "b").await;
        let mut client = at_home(world, "user1", "a").await;
        let (old, device) = (token_of(&client), client.device.clone().expect("a device"));
        kill(world, "a").await;
        delete(&mut root, &format!("/Devices?id={}", device.replace(' ', "%20"))).await;
        assert_eq!(client.get("/Users/Me").await.status, 401);
        let mut again = sign_in(world, "user1", "pw", &device).await;
        let new = token_of(&again);
        return_of(world, "a").await;
        let rows = world.cluster.tokens();
        assert!(rows.contains(&new) && world.pod("a").knows_token(&new), "the new row is nobody's affair");
        assert!(!rows.contains(&old) && !world.pod("a").knows_token(&old), "the old one is gone");
        kill(world, "b").await;
        assert_eq!(again.get("/Users/Me").await.status, 200);
        start_again(world, "b").await;
        assert_eq!(again.get("/Users/Me").await.status, 200);
        assert_eq!(client.get("/Users/Me").await.status, 401);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_after_a_new_password_stays() {
    story(plan(2), async |world| {
        let mut client = at_home(world, "user1", "b").await;
        let mut tv = at_home(world, "user1", "a").await;
        let (old, device) = (token_of(&tv), tv.device.clone().expect("a device"));
        kill(world, "a").await;
        let wish = json!({"CurrentPw": "pw", "NewPw": "new"});
        assert_eq!(client.post("/Users/Password", wish).await.status, 204);
        assert_eq!(tv.get("/Users/Me").await.status, 401);
        let mut again = sign_in(world, "user1", "new", &device).await;
        return_of(world, "a").await;
        assert!(world.cluster.tokens().contains(&token_of(&again)));
        assert!(!world.cluster.tokens().contains(&old));
        kill(world, "b").await;
        for client in [&mut again, &mut client] {
            assert_eq!(client.get("/Users/Me").await.status, 200);
        }
        assert_eq!(tv.get("/Users/Me").await.status, 401);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_password_stays_dead() {
    story(plan(2), async |world| {
        let mut root = at_home(world, "root", "a").await;
        let user = world.cluster.user_id("user1").expect("a user");
        let b = world.pod("b");
        // It is slower than anybody waits.
        b.slow_first_byte(std::time::Duration::from_secs(4));
        let target = format!("/Users/Password?userId={user}");
        assert_eq!(root.post(&target, json!({"NewPw": "first"})).await.status, 204);
        b.slow_first_byte(std::time::Duration::ZERO);
        let mut client = sign_in(world, "user1", "first", "sofa").await;
        let wish = json!({"CurrentPw": "first", "NewPw": "second"});
        assert_eq!(client.post("/Users/Password", wish).await.status, 204);
        let mut again = sign_in(world, "user1", "second", "bed").await;
        kill(world, "b").await;
        return_of(world, "b").await;
        sign_in(world, "user1", "second", "kitchen").await;
        for client in [&mut client, &mut again] {
            assert_eq!(client.get("/Users/Me").await.status, 200);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_pod_is_told_as_soon_as_it_answers() {
    story(plan(2).silence(secs(2)), async |world| {
        let mut client = at_home(world, "user1", "a").await;
        let token = token_of(&client);
        let b = world.pod("b");
        kill(world, "b").await;
        start_again(world, "b").await;
        assert!(b.knows_token(&token), "it has read the row");
        b.hang(true);
        world.until_state("b", State::Down).await;
        assert_eq!(client.post("/Sessions/Logout", json!({})).await.status, 204);
        let life = world.proxy.pod("b").status().epoch;
        b.hang(false);
        world.until_state("b", State::Ready).await;
        assert_eq!(world.proxy.pod("b").status().epoch, life, "it is the same process");
        b.until(|pod| !pod.knows_token(&token)).await;
    })
    .await;
}

/// A logout that no pod knows of when the proxy stops. A pod that starts later is told, whatever its name.
async fn outlives_the_proxy(plan: super::Plan) {
    story(plan, async |world| {
        let mut client = at_home(world, "user1", "a").await;
        let token = token_of(&client);
        kill(world, "a").await;
        assert_eq!(client.post("/Sessions/Logout", json!({})).await.status, 204);
        let address = world.pod("a").address();
        world
            .restart(|settings| {
                settings.remove_pod("a");
                settings.pod("c", address);
            })
            .await;
        world.pod("a").start_again().await.expect("it starts");
        world.until_state("c", State::Ready).await;
        until("the row is gone", || !world.cluster.tokens().contains(&token)).await;
        assert_eq!(client.moved_to(&world.proxy).get("/Users/Me").await.status, 401);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_logout_survives_a_restart_on_disk() {
    outlives_the_proxy(plan(2).state_path("state")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_logout_survives_a_restart_in_redis() {
    let redis = RedisServer::start();
    outlives_the_proxy(replicas::plan(2, &redis).with_api_key()).await;
}

/// The replica that learns of an end from another one may be the only one that knows the token.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_known_to_another_replica_is_logged_out() {
    let redis = RedisServer::start();
    story(replicas::plan(2, &redis).with_api_key(), async |world| {
        let other = replicas::replica(world, |_| {}).await;
        replicas::until_up(&world.proxy).await;
        let root = at_home(world, "root", "b").await;
        let client = at_home(world, "user1", "a").await;
        let (token, device) = (token_of(&client), client.device.clone().expect("a device"));
        kill(world, "a").await;
        other.until_state("a", State::Down).await;
        // The other replica has never heard of the client.
        let mut root = root.moved_to(&other);
        let request = root.request(Method::DELETE, &format!("/Devices?id={}", device.replace(' ', "%20")));
        root.send(request, body_of("")).await.expect("an answer");
        world.pod("a").start_again().await.expect("it starts");
        until("the row is gone", || !world.cluster.tokens().contains(&token)).await;
    })
    .await;
}
