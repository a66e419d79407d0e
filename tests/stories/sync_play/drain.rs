//! The leader drains: groups go on at the next one, or where they are.

use jellypin::leader::Mode;
use jellypin::pod::State;

use super::*;
use crate::stories::{
    migration::{drain::page, revocation::at_home},
    redis_server::RedisServer,
    world::{Plan, World, secs, story, until, until_so},
};

/// Waits until only so many clients live on a pod.
async fn until_sessions(world: &World, pod: &str, count: u64) {
    until_so("its clients leave a pod", async || page(world, pod).await["sessions"] == count).await;
}

pub(super) async fn drain(world: &World, pod: &str, when: &str) {
    assert_eq!(world.proxy.post_admin(&format!("/pods/main/{pod}/drain?when={when}")).await.status, 202);
}

/// A member whose home is this pod.
pub(in crate::stories) async fn member_of(world: &World, user: &str, home: &str) -> Member {
    let client = at_home(world, user, home).await;
    let socket = socket_of(world, client.token.as_deref().expect("a token")).await;
    Member { client, socket, home: home.to_owned() }
}

/// Two members of each pod.
pub(super) async fn two_of_each(world: &World) -> Vec<Member> {
    let mut members = Vec::new();
    for (number, pod) in ["a", "b", "c", "a", "b", "c"].into_iter().enumerate() {
        members.push(member_of(world, &format!("user{number}"), pod).await);
    }
    members
}

/// Every member hears what each of them does. Two rounds of a drain pass meanwhile.
async fn are_together(members: &mut [Member]) {
    let end = tokio::time::Instant::now() + std::time::Duration::from_millis(1200);
    let queue = json!({"PlayingQueue": [jellyfin_sim::FILM], "PlayingItemPosition": 0, "StartPositionTicks": 0});
    assert_eq!(members[0].does("SetNewQueue", queue).await.status, 204);
    while tokio::time::Instant::now() < end {
        for number in 0..members.len() {
            for what in ["Unpause", "Pause"] {
                let done = members[number].does(what, json!({})).await;
                assert_eq!(done.status, 204, "member {number} of {}", members.len());
                for member in &mut *members {
                    member.is_told(what).await;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_a_draining_leader_begins_on_the_next() {
    let begins_on_next = async |by: &'static str| {
        story(plan(3).drain_removed("now"), async |world| {
            assert_eq!(world.leader().await, "a");
            let mut members = two_of_each(world).await;
            let a = world.proxy.pod("a");
            if by == "removal" {
                let pool = world.proxy.shared().pools[0].pool.clone();
                pool.set_pods(vec![world.proxy.pod("b"), world.proxy.pod("c")]);
            } else {
                drain(world, "a", by).await;
            }
            // Beginning with those of the leader, in the very moment.
            group(&mut members).await;
            assert_eq!(world.leader().await, "b", "{by}");
            assert_eq!(world.proxy.metric("jellypin_leader_changes_total", &[("why", "pod_draining")]).await, 1.0);
            are_together(&mut members).await;
            world.pod("a").until(|pod| pod.open_sockets() == 0).await;
            let gone = if by == "removal" { State::Down } else { State::Draining };
            until("it has left", || a.status().state == gone).await;
            are_together(&mut members).await;
            println!("a drained leader, {by}: 6 members of 3 pods are together at the next one");
            drop(members);
        })
        .await;
    };
    tokio::join!(begins_on_next("now"), begins_on_next("idle"), begins_on_next("removal"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_drain_keeps_the_leaders_groups() {
    story(plan(3), async |world| {
        let leads = |pod: &str| {
            let shared = world.proxy.shared();
            shared.pools[0].leader.current().is_some_and(|leader| *leader.name == *pod)
        };
        let mut members = two_of_each(world).await;
        // One of the leader's own clients is in no group.
        let mut alone = members.remove(3);
        let id = group(&mut members[..3]).await;
        drain(world, "a", "idle").await;
        until_sessions(world, "a", 3).await;
        assert!(leads("a"));
        assert_ne!(world.home(&alone.client.get("/Users/Me").await), "a");
        are_together(&mut members[..3]).await;
        // Who comes later finds the group, and stays with it.
        for late in &mut members[3..] {
            assert!(leads("a"));
            assert_eq!(late.does("Join", json!({"GroupId": id})).await.status, 204);
            late.hears("GroupJoined").await;
        }
        are_together(&mut members).await;
        // A new group begins elsewhere, and the old one goes on.
        let mut others = [alone, member_of(world, "user9", "c").await];
        group(&mut others).await;
        assert!(leads("b"));
        are_together(&mut members).await;
        are_together(&mut others).await;
        until_sessions(world, "a", 5).await;
        for member in &mut members {
            assert_eq!(member.does("Leave", json!({})).await.status, 204);
            member.hears("GroupLeft").await;
        }
        until_sessions(world, "a", 0).await;
        // Where none begins, the lead goes with the last member.
        drain(world, "b", "idle").await;
        assert_eq!(world.proxy.post_admin("/pods/main/a/undrain").await.status, 202);
        are_together(&mut others).await;
        assert!(leads("b"));
        for member in &mut others {
            assert_eq!(member.does("Leave", json!({})).await.status, 204);
            member.hears("GroupLeft").await;
        }
        until("the first leads again", || leads("a")).await;
        until_sessions(world, "b", 0).await;
        drop((members, others));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_leader_leads_until_another_can() {
    story(plan(2), async |world| {
        let mut members = Vec::new();
        for number in 0..3 {
            members.push(member_of(world, &format!("user{number}"), "a").await);
        }
        world.pod("b").kill().await;
        world.until_state("b", State::Down).await;
        drain(world, "a", "now").await;
        group(&mut members).await;
        are_together(&mut members).await;
        world.pod("b").start_again().await.expect("it starts");
        world.until_state("b", State::Ready).await;
        // The group goes on there, unseen.
        for member in &mut members {
            member.hears("PlayQueue").await;
        }
        are_together(&mut members).await;
        assert_eq!(world.leader().await, "b");
        until_sessions(world, "a", 0).await;
        drop(members);
    })
    .await;
}

/// A world whose pods elect among themselves, and have elected the first.
pub(super) fn following(redis: &RedisServer) -> Plan {
    let id = "0123456789abcdef0123456789abcdef";
    redis.command(&["SET", "jellyfin:task-leader", id]);
    let plan = plan(3).redis_url(&redis.url()).redis_deadline(secs(1));
    let plan = plan.keys(&["a key of more than sixteen bytes"]).leader_mode(Mode::Follow);
    plan.build_one("a", move |pod| pod.server_id(Some(id)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_leader_named_by_the_pods_takes_members() {
    for when in ["now", "idle"] {
        let redis = RedisServer::start();
        story(following(&redis), async |world| {
            let mut members = two_of_each(world).await;
            drain(world, "a", when).await;
            until_sessions(world, "a", 0).await;
            group(&mut members).await;
            assert_eq!(world.leader().await, "a");
            are_together(&mut members).await;
            assert_eq!(page(world, "a").await["sessions"].as_u64(), Some(6));
            // Once more all of them are sent away.
            drain(world, "a", "now").await;
            for member in &mut members {
                member.hears("GroupLeft").await;
            }
            until_sessions(world, "a", 0).await;
            drop(members);
        })
        .await;
    }
}
