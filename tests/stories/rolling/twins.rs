//! Twins: two servers with databases of their own, before the same media. Users are one by their names.

use http::Method;
use jellyfin_sim::{Cluster, FILM};
use serde_json::json;

use super::*;
use crate::stories::migration::{client_of, kill, start_again};
use crate::stories::world::{body_of, until_within};

const TWO_HOURS: Duration = Duration::from_secs(7200);
const MINUTE: i64 = 600_000_000;

fn plan() -> Plan {
    quick_starters(World::plan(2)).twins().spread_users(&[])
}

/// Waits until both servers have said which users they have.
async fn until_known(world: &World) {
    let is_known = |pod: &str| {
        let shared = world.proxy.shared();
        shared.pools[0].shown_server.users.as_ref().is_some_and(|users| users.is_known(&world.proxy.pod(pod)))
    };
    until_within(secs(30), "all users are known", || is_known("a") && is_known("b")).await;
}

/// A world whose two servers are known.
async fn known(plan: Plan) -> World {
    let world = started(plan).await;
    until_known(&world).await;
    world
}

/// The proxy restarts, and reads who is there now.
async fn restarted(world: &mut World) {
    world.restart(|_| {}).await;
    until_known(world).await;
}

/// The database of a pod.
fn database<'a>(world: &'a World, pod: &str) -> &'a Cluster {
    if pod == "a" { &world.cluster } else { world.twin() }
}

fn other_than(pod: &str) -> &'static str {
    if pod == "a" { "b" } else { "a" }
}

async fn favour(client: &mut Client, item: &str) {
    let request = client.request(Method::POST, &format!("/UserFavoriteItems/{item}"));
    assert_eq!(client.send(request, body_of("")).await.expect("an answer").status, 200);
}

async fn me(client: &mut Client) -> String {
    let me = client.get("/Users/Me").await;
    assert_eq!(me.status, 200);
    me.json()["Id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_film_goes_on_at_the_twin_and_back_home_again() {
    story(known(plan()).await, async |world| {
        let film = world.cluster.add_film("Long", TWO_HOURS);
        assert_eq!(world.twin().add_film("Long", TWO_HOURS), film);
        let fleet = Fleet::start(6, Work::Everything, Pace::BRISK, &[world.client()]).await;
        let (mut alice, home) = client_of(world, "alice", "sofa").await;
        let (other, id) = (other_than(&home), me(&mut alice).await);
        let (mine, theirs) = (database(world, &home), database(world, other));
        assert_ne!(mine.user_id("alice"), theirs.user_id("alice"));
        let row = |of: &Cluster, item: &str| of.user_data("alice", item).unwrap_or_default();

        // What the user does at home, the twin hears.
        favour(&mut alice, FILM).await;
        until("the favourite is at the twin", || row(theirs, FILM).favorite).await;
        alice.post("/Sessions/Playing", json!({"ItemId": film, "PositionTicks": 0})).await;
        alice.post("/Sessions/Playing/Progress", json!({"ItemId": film, "PositionTicks": 10 * MINUTE})).await;

        kill(world, &home).await;
        fleet.until_all_went_on().await;
        let resumed = alice.get(&format!("/Items/{film}")).await;
        assert_eq!((resumed.status, world.home(&resumed)), (200, other));
        assert_eq!(resumed.json()["UserData"]["PlaybackPositionTicks"], 10 * MINUTE, "{}", resumed.text());
        assert_eq!(me(&mut alice).await, id, "the client knows one id");
        let dashed = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
        for path in [format!("/Users/{id}"), format!("/Users/{dashed}"), format!("/Items/{film}?userId={dashed}")] {
            let answer = alice.get(&path).await;
            assert_eq!((answer.status, world.home(&answer)), (200, other), "{path}");
        }
        alice.post("/Sessions/Playing/Progress", json!({"ItemId": film, "PositionTicks": 20 * MINUTE})).await;
        alice.post("/Sessions/Playing/Stopped", json!({"ItemId": film, "PositionTicks": 30 * MINUTE})).await;

        // The home hears of it when it is back, though its process is another one.
        start_again(world, &home).await;
        until("the place is at home", || row(mine, &film).position == 30 * MINUTE).await;
        fleet.until_all_went_on().await;
        kill(world, other).await;
        fleet.until_all_went_on().await;
        let resumed = alice.get(&format!("/Items/{film}")).await;
        assert_eq!((resumed.status, world.home(&resumed)), (200, &*home));
        assert_eq!(resumed.json()["UserData"]["PlaybackPositionTicks"], 30 * MINUTE);
        assert_eq!(alice.get(&format!("/Items/{FILM}")).await.json()["UserData"]["IsFavorite"], true);
        assert_eq!(me(&mut alice).await, id);
        let saw = fleet.stop().await;
        println!("twins killed in turn under 6 clients: {saw}");
        saw.must_be_nothing();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_one_id_in_all_that_clients_see() {
    story(known(plan().server_id("0123456789abcdef0123456789abcdef")).await, async |world| {
        let (mut sofa, home) = client_of(world, "alice", "sofa").await;
        let shown = me(&mut sofa).await;
        kill(world, &home).await;
        let other = other_than(&home);
        // Signed in at one of them after the other.
        for (device, pod) in [("desk", other), ("bed", home.as_str())] {
            if pod == home {
                start_again(world, &home).await;
                kill(world, other).await;
            }
            let mut client = world.client().without_cookies().device(device);
            let log_in = client.log_in("alice").await;
            assert_eq!(world.home(&log_in), pod);
            let json = log_in.json();
            assert_eq!(
                (json["User"]["Id"].as_str(), json["SessionInfo"]["UserId"].as_str()),
                (Some(&*shown), Some(&*shown))
            );
            let path = format!("/socket?ApiKey={}", client.token.as_deref().expect("a token"));
            let mut socket = client.socket(&path).await.expect("a socket");
            favour(&mut client, FILM).await;
            let changed = next_of(&mut socket, "UserDataChanged").await;
            assert_eq!(changed["Data"]["UserId"], shown, "{changed}");
            let sessions = client.get("/Sessions").await.json();
            let rows = sessions.as_array().expect("sessions").iter();
            assert!(rows.clone().count() > 0 && rows.clone().all(|row| row["UserId"] == shown), "{sessions}");
        }
        assert_eq!(me(&mut sofa).await, shown);
    })
    .await;
}

async fn next_of(socket: &mut crate::stories::world::Socket, kind: &str) -> Value {
    use futures_util::StreamExt;
    loop {
        let message = tokio::time::timeout(secs(10), socket.next()).await.expect("a message in time");
        let message = message.expect("a message").expect("a message");
        let json: Value = serde_json::from_str(message.to_text().unwrap_or_default()).unwrap_or_default();
        if json["MessageType"] == kind {
            return json;
        }
    }
}

/// Bob's home is `a`, and dies. Bob is told, and goes on when it is back.
async fn bob_stays(world: &World) {
    let (mut bob, home) = client_of(world, "bob", "sofa").await;
    assert_eq!(home, "a", "the twin could not take him");
    let (mut alice, _) = client_of(world, "alice", "sofa").await;
    kill(world, "a").await;
    assert_eq!(alice.get("/Users/Me").await.status, 200);
    let answer = bob.get("/Users/Me").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("your account is not on the other one"), "{}", answer.text());
    start_again(world, "a").await;
    assert_eq!(bob.get("/Users/Me").await.status, 200, "nobody has logged him out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_the_twin_lacks_is_told_so_and_stays_signed_in() {
    story(known(plan().hold(millis(300))).await, async |world| {
        world.twin().remove_user("bob");
        restarted(world).await;
        bob_stays(world).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_disabled_at_the_twin_is_told_so_and_stays_signed_in() {
    story(known(plan().hold(millis(300))).await, async |world| {
        world.twin().disable_user("bob", true);
        restarted(world).await;
        bob_stays(world).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whom_one_server_has_alone_signs_in_there() {
    story(known(plan()).await, async |world| {
        world.twin().add_user("carol");
        world.cluster.add_user("dave");
        restarted(world).await;
        for (user, pod) in [("carol", "b"), ("dave", "a")] {
            for number in 0..4 {
                let mut client = world.client().without_cookies().device(&format!("device {number}"));
                let log_in = client.log_in(user).await;
                assert_eq!((log_in.status, world.home(&log_in)), (200, pod));
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_is_the_twins_too() {
    story(known(plan()).await, async |world| {
        let (mut alice, home) = client_of(world, "alice", "sofa").await;
        let change = json!({"CurrentPw": "alice-pw", "NewPw": "another", "ResetPassword": false});
        assert_eq!(alice.post("/Users/Password", change).await.status, 204);
        me(&mut alice).await;
        kill(world, &home).await;
        let mut desk = world.client().without_cookies().device("desk");
        let log_in = desk.post("/Users/AuthenticateByName", json!({"Username": "alice", "Pw": "another"})).await;
        assert_eq!(log_in.status, 200);
        assert_eq!(alice.get("/Users/Me").await.status, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_twin_had_of_its_own_is_left() {
    story(known(plan()).await, async |world| {
        let mut direct = world.client().without_cookies().device("direct").at(world.pod("b"));
        direct.log_in("alice").await;
        favour(&mut direct, FILM).await;
        let (mut alice, home) = client_of(world, "alice", "sofa").await;
        alice.post("/Sessions/Playing", json!({"ItemId": FILM, "PositionTicks": 0})).await;
        alice.post("/Sessions/Playing/Stopped", json!({"ItemId": FILM, "PositionTicks": 1000})).await;
        let count = |pod: &str| database(world, pod).user_data("alice", FILM).map_or(0, |row| row.play_count);
        until("the play is on both", || count(&home) == 1 && count(other_than(&home)) == 1).await;
        assert!(world.twin().user_data("alice", FILM).is_some_and(|row| row.favorite), "a favourite of old");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ids_that_clients_know_outlive_the_proxy() {
    let state = tempfile::tempdir().expect("a folder");
    story(known(plan().state_path(&state.path().to_string_lossy())).await, async |world| {
        let (mut alice, home) = client_of(world, "alice", "sofa").await;
        let id = me(&mut alice).await;
        let file = state.path().join("users-main.json");
        let is_kept = || std::fs::read_to_string(&file).is_ok_and(|ids| ids.contains(&id));
        until("the ids are kept", is_kept).await;
        kill(world, &home).await;
        world.restart(|_| {}).await;
        let mut alice = alice.moved_to(&world.proxy);
        assert_eq!(me(&mut alice).await, id);
        let mut desk = world.client().without_cookies().device("desk");
        assert_eq!(desk.log_in("alice").await.json()["User"]["Id"], id);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_takes_anothers_name_does_not_become_that_user() {
    let state = tempfile::tempdir().expect("a folder");
    let plan = plan().hold(millis(300)).state_path(&state.path().to_string_lossy());
    story(known(plan).await, async |world| {
        world.cluster.add_user("mallory");
        world.cluster.remove_user("bob");
        restarted(world).await;
        let (mut mallory, home) = client_of(world, "mallory", "sofa").await;
        assert_eq!(home, "a");
        let id = me(&mut mallory).await;
        let rename = json!({"Name": "bob"});
        for path in ["/Users", "/Users?userId={id}", "/users/{id}", "/%55sers/%FF/../{id}"] {
            let answer = mallory.post(&path.replace("{id}", &id), rename.clone()).await;
            assert_eq!((answer.status, world.saw(&answer).len()), (403, 0), "{path}");
        }
        let (mut root, _) = client_of(world, "root", "desk").await;
        let own = me(&mut root).await;
        assert_eq!(root.post(&format!("/Users/{own}"), json!({"Name": "Root"})).await.status, 204, "an administrator");

        // Past the proxy a user may still do it.
        let file = state.path().join("users-main.json");
        let is_kept = || std::fs::read_to_string(&file).is_ok_and(|ids| ids.contains("mallory"));
        until("the name is kept", is_kept).await;
        let mut direct = world.client().without_cookies().device("direct").at(world.pod("a"));
        direct.log_in("mallory").await;
        assert_eq!(direct.post("/Users", rename).await.status, 204);
        restarted(world).await;
        let mut mallory = mallory.moved_to(&world.proxy);
        assert_eq!(me(&mut mallory).await, id);
        kill(world, "a").await;
        assert_eq!(mallory.get("/Users/Me").await.status, 503, "there is another bob at the other server");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_approved_at_the_server_with_another_key() {
    story(known(plan()).await, async |world| {
        let is_leader = |world: &World| {
            let shared = world.proxy.shared();
            shared.pools[0].leader.current().is_some_and(|leader| &*leader.name == "b")
        };
        if !is_leader(world) {
            kill(world, "a").await;
            until("b leads", || is_leader(world)).await;
            start_again(world, "a").await;
        }
        let mut phones = Vec::new();
        for number in 0..50 {
            let (phone, home) = client_of(world, "alice", &format!("phone {number}")).await;
            phones.push(phone);
            if home == "a" {
                break;
            }
        }
        let phone = phones.last_mut().expect("a phone");
        assert!(is_leader(world));
        let mut tv = world.client().without_cookies().device("tv");
        let begun = tv.post("/QuickConnect/Initiate", json!({})).await.json();
        let path = format!("/QuickConnect/Authorize?code={}", begun["Code"].as_str().expect("a code"));
        let approved = phone.post(&path, json!({})).await;
        assert_eq!((approved.status, approved.text()), (200, "true"));
        let log_in = tv.post("/Users/AuthenticateWithQuickConnect", json!({"Secret": begun["Secret"]})).await;
        assert_eq!(log_in.json()["User"]["Name"], "alice");
        let key = world.cluster.api_key();
        let names_key =
            |seen: &jellyfin_sim::Seen| seen.header("authorization").is_some_and(|line| line.contains(&key));
        assert!(!world.pod("b").seen().iter().any(names_key), "each server hears its own key alone");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_compares_twins() {
    story(World::plan(2).twins(), async |world| {
        world.twin().disable_user("alice", true);
        world.twin().add_user("carol");
        let (code, said) = Program::check(world.settings(), world.folder());
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("pod b: its users that a lacks, whose sessions cannot go on there: 1"), "{said}");
        assert!(said.contains("pod b: users of a that it lacks, whose sessions cannot go on here: 950"), "{said}");
        assert!(said.contains("pod b: users that are disabled on it or on a alone: 1"), "{said}");
        let mut wrong = world.settings().clone();
        wrong.pod("b", world.pod("b").address());
        let (code, said) = Program::check(&wrong, world.folder());
        assert!(code != Some(0) && said.contains("pod b: it refuses its API key"), "{said}");
    })
    .await;
}
