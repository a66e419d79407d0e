//! A group outlives its leader: killed, stopped or drained, and its members hear no more of it than its queue again.

use futures_util::StreamExt;
use humantime::parse_rfc3339;
use jellypin::{leader::Mode, pod::State};
use tokio::time::{Instant, timeout};

use super::{
    drain::{drain, following, member_of, two_of_each},
    *,
};
use crate::stories::{
    redis_server::RedisServer,
    replicas::{plan as plan_of_replicas, replica, until_up},
    world::{DEADLINE, World, story, until},
};

/// What a member's clients show for nothing: the group's own messages, by their names.
pub(in crate::stories) const UNSEEN: [&str; 5] = ["GroupLeft", "GroupJoined", "UserJoined", "UserLeft", "NotInGroup"];

/// How far apart the group's place and its members' may be afterwards: a player corrects that unseen.
const DRIFT: f64 = 1.5;

/// Ticks of a second.
const SECOND: f64 = 10_000_000.0;

/// All that a member hears of its group until it is told this, by the names of updates and commands.
pub(in crate::stories) async fn hears_until(member: &mut Member, command: &str) -> (Vec<String>, Value) {
    let mut heard = Vec::new();
    let hears = async {
        loop {
            let message = member.socket.next().await.expect("the socket is open").expect("a whole message");
            let Ok(text) = message.to_text() else { continue };
            let json: Value = serde_json::from_str(text).unwrap_or_default();
            let data = &json["Data"];
            let name = match json["MessageType"].as_str() {
                Some("SyncPlayGroupUpdate") => &data["Type"],
                Some("SyncPlayCommand") => &data["Command"],
                _ => continue,
            };
            // What the group does is shown by no client.
            if name != "StateUpdate" {
                heard.push(name.as_str().expect("a name").to_owned());
            }
            if name == command {
                return data.clone();
            }
        }
    };
    let told = timeout(DEADLINE, hears).await;
    let told = told.unwrap_or_else(|_| panic!("{} never heard {command}, only {heard:?}", member.home));
    (heard, told)
}

/// A group of these members plays a film together; gives its id and the command by which they began.
pub(in crate::stories) async fn watch(members: &mut [Member]) -> (String, Value) {
    let id = group(members).await;
    let queue = json!({"PlayingQueue": [jellyfin_sim::FILM], "PlayingItemPosition": 0, "StartPositionTicks": 6_000_000_000_i64});
    assert_eq!(members[0].does("SetNewQueue", queue).await.status, 204);
    for member in &mut *members {
        let queue = member.hears("PlayQueue").await;
        let ready = json!({
            "When": queue["Data"]["LastUpdate"], "PositionTicks": 6_000_000_000_i64, "IsPlaying": false,
            "PlaylistItemId": queue["Data"]["Playlist"][0]["PlaylistItemId"],
        });
        assert_eq!(member.does("Ready", ready).await.status, 204);
    }
    let mut told = Value::Null;
    for member in &mut *members {
        told = member.is_told("Unpause").await;
        while member.hears("StateUpdate").await["Data"]["State"] != "Playing" {}
    }
    (id, told)
}

/// How many seconds a member's player would have to jump to follow this command after that one.
fn drift(before: &Value, after: &Value) -> f64 {
    let when = |told: &Value| parse_rfc3339(told["When"].as_str().expect("a time")).expect("a time");
    let passed = when(after).duration_since(when(before)).unwrap_or_default().as_secs_f64();
    let moved =
        (after["PositionTicks"].as_f64().expect("ticks") - before["PositionTicks"].as_f64().expect("ticks")) / SECOND;
    (passed - moved).abs()
}

/// Every member goes on as one of the same group, and nobody is shown anything.
async fn all_go_on(members: &mut [Member], id: &str, before: &Value) -> (Value, f64) {
    let mut last = Value::Null;
    let mut worst: f64 = 0.0;
    for member in &mut *members {
        let (heard, told) = hears_until(member, "Unpause").await;
        assert!(!heard.iter().any(|name| UNSEEN.contains(&name.as_str())), "{heard:?}");
        assert_eq!(heard, ["PlayQueue", "Unpause"]);
        assert_eq!(told["GroupId"], id);
        worst = worst.max(drift(before, &told));
        last = told;
    }
    assert!(worst < DRIFT, "{worst} s");
    (last, worst)
}

/// A pause of each is heard by all.
async fn pause_and_go_on(members: &mut [Member], id: &str) {
    for number in 0..members.len() {
        for what in ["Pause", "Unpause"] {
            assert_eq!(members[number].does(what, json!({})).await.status, 204, "member {number}");
            for member in &mut *members {
                assert_eq!(member.is_told(what).await["GroupId"], id);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_outlives_its_leader() {
    for how in ["killed", "stopped", "drained"] {
        story(plan(3), async |world| {
            assert_eq!(world.leader().await, "a");
            let mut members = two_of_each(world).await;
            let (id, before) = watch(&mut members).await;
            let began = Instant::now();
            match how {
                "killed" => world.pod("a").kill().await,
                "stopped" => world.pod("a").stop().await,
                _ => drain(world, "a", "now").await,
            }
            // In the very moment somebody asks the group to pause.
            let paused = members[1].does("Ping", json!({"Ping": 20})).await;
            assert_eq!(paused.status, 204);
            let (_, drift) = all_go_on(&mut members, &id, &before).await;
            let together = began.elapsed();
            pause_and_go_on(&mut members, &id).await;
            assert_eq!(world.leader().await, "b");
            // It is listed, shown and joined by the id that everybody knows.
            let mut late = member_of(world, "user9", "c").await;
            let list = late.client.get("/SyncPlay/List").await.json();
            assert_eq!((&list[0]["GroupId"], &list[0]["GroupName"]), (&json!(id), &json!("evening")));
            assert_eq!(list[0]["Participants"].as_array().map(Vec::len), Some(6));
            assert_eq!(late.client.get(&format!("/SyncPlay/{id}")).await.json()["GroupId"], id);
            assert_eq!(late.does("Join", json!({"GroupId": id})).await.status, 204);
            assert_eq!(late.hears("GroupJoined").await["GroupId"], id);
            assert_eq!(members[0].hears("UserJoined").await["Data"], "user9");
            // And it is left as ever.
            assert_eq!(members[2].does("Leave", json!({})).await.status, 204);
            assert_eq!(members[2].hears("GroupLeft").await["GroupId"], id);
            let moves = [("outcome", "moved")];
            assert_eq!(world.proxy.metric("jellypin_sync_play_group_moves_total", &moves).await, 1.0);
            println!(
                "a leader {how} under 6 members with a film: 6 of 6 go on together after {together:?}, drift {drift:.3} s"
            );
            drop((members, late));
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_during_the_leaders_death_is_heard_by_all() {
    story(plan(3), async |world| {
        let mut members = two_of_each(world).await;
        let (id, before) = watch(&mut members).await;
        world.pod("a").kill().await;
        let began = Instant::now();
        assert_eq!(members[1].does("Pause", json!({})).await.status, 204);
        all_go_on(&mut members, &id, &before).await;
        for member in &mut members {
            assert_eq!(member.is_told("Pause").await["GroupId"], id);
        }
        println!("a pause in the moment of the leader's death: heard by all 6 after {:?}", began.elapsed());
        drop(members);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_outlives_one_leader_after_the_other() {
    story(plan(3), async |world| {
        let mut members = two_of_each(world).await;
        let (id, mut before) = watch(&mut members).await;
        for pod in ["a", "b"] {
            world.pod(pod).kill().await;
            world.until_state(pod, State::Down).await;
            (before, _) = all_go_on(&mut members, &id, &before).await;
        }
        assert_eq!(world.leader().await, "c");
        pause_and_go_on(&mut members, &id).await;
        drop(members);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_group_stays_paused() {
    story(plan(3), async |world| {
        let mut members = two_of_each(world).await;
        let (id, before) = watch(&mut members).await;
        assert_eq!(members[0].does("Pause", json!({})).await.status, 204);
        let mut paused = Value::Null;
        for member in &mut members {
            paused = member.is_told("Pause").await;
            while member.hears("StateUpdate").await["Data"]["State"] != "Paused" {}
        }
        world.pod("a").kill().await;
        world.until_state("a", State::Down).await;
        for member in &mut members {
            assert_eq!(member.hears("PlayQueue").await["GroupId"], id);
        }
        assert_eq!(members[3].does("Unpause", json!({})).await.status, 204);
        for member in &mut members {
            let (heard, told) = hears_until(member, "Unpause").await;
            assert_eq!(heard, ["Unpause"], "nothing else was heard meanwhile");
            assert_eq!(told["PositionTicks"], paused["PositionTicks"]);
        }
        assert!(drift(&before, &paused) < 0.1);
        drop(members);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_outlives_the_restart_of_the_only_pod() {
    story(plan(1), async |world| {
        let mut members = Vec::new();
        for number in 0..2 {
            members.push(member_of(world, &format!("user{number}"), "a").await);
        }
        let (id, before) = watch(&mut members).await;
        world.pod("a").kill().await;
        world.until_state("a", State::Down).await;
        world.pod("a").start_again().await.expect("it starts");
        all_go_on(&mut members, &id, &before).await;
        pause_and_go_on(&mut members, &id).await;
        drop(members);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_goes_where_the_group_is() {
    let redis = RedisServer::start();
    story(following(&redis), async |world| {
        let mut members = vec![member_of(world, "user0", "a").await, member_of(world, "user1", "b").await];
        let (id, _) = watch(&mut members).await;
        another_leads(world, &redis, "c").await;
        let mut late = member_of(world, "user2", "c").await;
        // It is shown where it is, beside one that begins at the new leader, and nobody moves for that.
        let mut other = vec![member_of(world, "user3", "b").await];
        let begun = group(&mut other).await;
        let listed = |list: &Answer| -> Vec<String> {
            let json = list.json();
            let ids = json.as_array().expect("a list").iter();
            ids.map(|row| row["GroupId"].as_str().expect("an id").to_owned()).collect()
        };
        for looker in [&mut late, &mut other[0], &mut members[0]] {
            let list = looker.client.get_with("/SyncPlay/List", &[("accept-encoding", "gzip")]).await;
            let mut ids = listed(&list);
            ids.sort();
            let mut both = [id.clone(), begun.clone()];
            both.sort();
            assert_eq!(ids, both, "{}", looker.home);
            let one = looker.client.get(&format!("/SyncPlay/{id}")).await;
            assert_eq!((one.status, one.json()["GroupId"].as_str()), (200, Some(&*id)), "{}", looker.home);
        }
        assert_eq!(world.home(&late.client.get("/Users/Me").await), "c");
        assert_eq!(late.does("Join", json!({"GroupId": id})).await.status, 204);
        assert_eq!(late.hears("GroupJoined").await["GroupId"], id);
        assert_eq!(world.home(&late.client.get("/Users/Me").await), "a");
        drop((members, late));
    })
    .await;
}

/// The pods elect another leader, and the last one lives on.
async fn another_leads(world: &World, redis: &RedisServer, pod: &str) {
    let other = world.proxy.pod(pod).info.latest().expect("its info").id.clone();
    redis.command(&["SET", "jellyfin:task-leader", &other]);
    let leads = || world.proxy.shared().pools[0].leader.current().is_some_and(|leader| *leader.name == *pod);
    until("another pod leads", leads).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_key_a_group_dies_with_its_pod() {
    story(World::plan(2), async |world| {
        let mut member = Member::new(world, 0).await;
        assert_eq!(member.does("New", json!({"GroupName": "alone"})).await.status, 200);
        let id = member.hears("GroupJoined").await["GroupId"].clone();
        let pod = member.home.clone();
        world.pod(&pod).kill().await;
        world.until_state(&pod, State::Down).await;
        world.pod(&pod).start_again().await.expect("it starts");
        assert_eq!(member.hears("GroupLeft").await["GroupId"], id);
        drop(member);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_two_replicas_stay_together() {
    let redis = RedisServer::start();
    story(plan_of_replicas(3, &redis).with_api_key().leader_mode(Mode::Elect), async |world| {
        until_up(&world.proxy).await;
        let other = replica(world, |_| {}).await;
        let leader = world.leader().await;
        let mut members = Vec::new();
        for (number, pod) in ["a", "b", "c", "a"].into_iter().enumerate() {
            let mut member = member_of(world, &format!("user{number}"), pod).await;
            if number % 2 == 1 {
                member.client = member.client.moved_to(&other);
                replicas::until_known(&mut member.client, &other).await;
                let path = format!("/socket?ApiKey={}&deviceId=d", member.client.token.as_deref().expect("a token"));
                member.socket = member.client.twin().socket(&path).await.expect("a socket");
                next_of(&mut member.socket, "ForceKeepAlive").await;
            }
            members.push(member);
        }
        let (id, _) = watch(&mut members).await;
        world.pod(&leader).kill().await;
        let began = Instant::now();
        for member in &mut members {
            let (heard, told) = hears_until(member, "Unpause").await;
            assert!(!heard.iter().any(|name| UNSEEN.contains(&name.as_str())), "{heard:?}");
            assert_eq!(told["GroupId"], id);
        }
        println!("members of two replicas are together again after {:?}", began.elapsed());
        // One group, and not one for each replica.
        let list = members[0].client.get("/SyncPlay/List").await.json();
        assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
        assert_eq!(list[0]["Participants"].as_array().map(Vec::len), Some(4));
        drop(members);
    })
    .await;
}
#[tokio::test(flavor = "multi_thread")]
async fn a_former_leader_keeps_its_group_while_it_drains_and_gives_it_to_the_leader_at_last() {
    let redis = RedisServer::start();
    story(following(&redis), async |world| {
        let mut members = vec![member_of(world, "user0", "a").await, member_of(world, "user1", "b").await];
        let (id, _) = watch(&mut members).await;
        another_leads(world, &redis, "c").await;
        drain(world, "a", "idle").await;
        let mut late = member_of(world, "user2", "b").await;
        assert_eq!(late.does("Join", json!({"GroupId": id})).await.status, 204);
        assert_eq!(late.hears("GroupJoined").await["GroupId"], id);
        assert_eq!(late.does("SetIgnoreWait", json!({"IgnoreWait": true})).await.status, 204);
        assert_eq!(world.home(&late.client.get("/Users/Me").await), "a");
        assert_eq!(members[0].hears("UserJoined").await["Data"], "user2");
        members.push(late);
        pause_and_go_on(&mut members, &id).await;
        drain(world, "a", "now").await;
        for member in &mut members {
            // The queue comes first: the group is at another pod.
            let (mut heard, _) = hears_until(member, "PlayQueue").await;
            let (rest, told) = hears_until(member, "Unpause").await;
            heard.extend(rest);
            assert!(!heard.iter().any(|name| UNSEEN.contains(&name.as_str())), "{heard:?}");
            assert_eq!(told["GroupId"], id);
            assert_eq!(world.home(&member.client.get("/Users/Me").await), "c", "{heard:?}");
        }
        pause_and_go_on(&mut members, &id).await;
        drop(members);
    })
    .await;
}
