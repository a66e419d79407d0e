//! What an act costs the pods: the requests that reach them beyond the client's own.

use std::time::{Duration, Instant};

use http::{Method, header};
use jellyfin_sim::{FILM, Pod};
use serde_json::{Value, json};

use super::{act, assert_done, house};
use crate::stories::{
    migration::revocation::at_home,
    world::{Client, World, body_of, story, until},
};

const TWO_HOURS: Duration = Duration::from_secs(7200);
const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// Requests that reached the pods, without probes.
fn requests(world: &World) -> usize {
    let is_probe = |path: &str| path == "/health" || path == "/System/Info/Public";
    let of = |pod: &Pod| pod.seen().iter().filter(|seen| !is_probe(seen.path())).count();
    world.pods.iter().map(of).sum()
}

/// Does something by one request while the pods are left alone, and counts those that they get beyond it, until no more
/// come.
async fn cost(world: &World, act: impl Future<Output = ()>) -> usize {
    let before = requests(world);
    act.await;
    quiet(world).await - before - 1
}

/// Waits until no pod has got a request for a while. Gives how many there are.
async fn quiet(world: &World) -> usize {
    let (mut last, mut since) = (requests(world), Instant::now());
    until("the pods are left alone", || {
        let now = requests(world);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(400)
    })
    .await;
    last
}

/// Acts, each with its cost and the most that it may cost.
struct Table<'a> {
    world: &'a World,
    rows: Vec<(&'static str, usize, usize)>,
}

impl Table<'_> {
    async fn row(&mut self, what: &'static str, most: usize, act: impl Future<Output = ()>) {
        let cost = cost(self.world, act).await;
        self.rows.push((what, cost, most));
    }
}

async fn upload(client: &mut Client, path: &str) {
    let request = client.request(Method::POST, path).header(header::CONTENT_TYPE, "image/png");
    assert_done(&client.send(request, body_of(PICTURE)).await.expect("an answer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_other_pod_needs_costs_nothing_and_the_rest_a_few_calls() {
    story(house(), async |world| {
        let film = world.cluster.add_film("Long", TWO_HOURS);
        let mut alice = at_home(world, "alice", "a").await;
        let mut bob = at_home(world, "bob", "b").await;
        let mut root = at_home(world, "root", "c").await;
        assert_eq!(alice.get(&format!("/Items/{film}")).await.status, 200);
        let session = |client: &Client| jellyfin_sim::session_id("Story", client.device.as_deref().expect("a device"));
        let (of_alice, of_bob) = (session(&alice), session(&bob));
        let text = json!({"Text": "x"});
        let report = |minutes: i64| json!({"ItemId": film, "PositionTicks": minutes * 600_000_000});
        let mut system = root.get("/System/Configuration").await.json();
        system["ServerName"] = json!("Renamed");
        let mut edited = root.get(&format!("/Items/{film}")).await.json();
        edited["Overview"] = json!("edited");

        quiet(world).await;
        let mut table = Table { world, rows: Vec::new() };
        table.row("an item", 0, async { drop(alice.get(&format!("/Items/{film}")).await) }).await;
        table.row("the home page's lists", 0, async { drop(alice.get("/UserItems/Resume").await) }).await;
        table
            .row("a favourite", 3, async {
                assert_done(&act(&mut alice, Method::POST, &format!("/UserFavoriteItems/{film}")).await)
            })
            .await;
        table.row("a film begins", 3, async { assert_done(&alice.post("/Sessions/Playing", report(0)).await) }).await;
        table
            .row("progress", 0, async { assert_done(&alice.post("/Sessions/Playing/Progress", report(10)).await) })
            .await;
        table
            .row("a film stops", 3, async { assert_done(&alice.post("/Sessions/Playing/Stopped", report(20)).await) })
            .await;
        table.row("a user's sessions", 3, async { drop(alice.get("/Sessions").await) }).await;
        table.row("an administrator's sessions", 3, async { drop(root.get("/Sessions").await) }).await;
        table.row("an administrator's devices", 2, async { drop(root.get("/Devices").await) }).await;
        let path = format!("/Sessions/{of_alice}/Message");
        table.row("a message on one pod", 0, async { assert_done(&alice.post(&path, text.clone()).await) }).await;
        let path = format!("/Sessions/{of_bob}/Message");
        table
            .row("the first message to a client of another pod", 6, async {
                assert_done(&alice.post(&path, text.clone()).await)
            })
            .await;
        table.row("the next one", 2, async { assert_done(&alice.post(&path, text.clone()).await) }).await;
        table
            .row("an edited item", 2, async { assert_done(&root.post(&format!("/Items/{film}"), edited).await) })
            .await;
        table.row("a picture", 16, async { upload(&mut root, &format!("/Items/{film}/Images/Thumb")).await }).await;
        table.row("settings", 18, async { assert_done(&root.post("/System/Configuration", system).await) }).await;
        let add = "/Library/VirtualFolders?name=Shows&paths=/shows&refreshLibrary=false";
        table.row("a library", 10, async { assert_done(&root.post(add, Value::Null).await) }).await;
        table
            .row("a deleted item", 3, async {
                assert_done(&act(&mut root, Method::DELETE, &format!("/Items/{FILM}")).await)
            })
            .await;
        let id = world.cluster.user_id("bob").expect("bob");
        table
            .row("a deleted user", 10, async {
                assert_done(&act(&mut root, Method::DELETE, &format!("/Users/{id}")).await)
            })
            .await;
        assert_eq!(bob.get("/Users/Me").await.status, 401);

        println!("| what | calls on three pods |\n|---|---|");
        table.rows.iter().for_each(|(what, cost, _)| println!("| {what} | {cost} |"));
        // Together: beside load, a call may come so late that it counts for the next act.
        let (costs, most) = table.rows.iter().fold((0, 0), |sum, row| (sum.0 + row.1, sum.1 + row.2));
        assert!(costs <= most, "{costs} of {most}: {:?}", table.rows);
    })
    .await;
}
