//! Clients of two real libraries watch a film together.

use std::collections::BTreeMap;

use jellyfin_sim::FILM;
use serde_json::json;

use super::{Library, Visitors, World, device_on};

/// Two libraries, and the devices of so many users of both in turn, homed on each of the pods; whether a device is the SDK's.
fn log_members_in(world: &World, count: usize) -> (Library, Library, Vec<(String, bool)>) {
    let (mut sdk, mut python) = (Library::sdk(&world.url(0)), Library::python(&world.url(0)));
    let pods = ["a", "b", "c"];
    let name = |number: usize| device_on(pods[number % 3], &format!("member-{number}"));
    let members: Vec<(String, bool)> = (0..count).map(|number| (name(number), number % 2 == 0)).collect();
    for (number, (member, is_sdk)) in members.iter().enumerate() {
        let user = json!({"user": format!("user{number}"), "password": "pw"});
        if *is_sdk {
            sdk.does(member, "log_in", user);
            sdk.does(member, "listen", json!({}));
        } else {
            python.does(member, "log_in", user);
        }
    }
    (sdk, python, members)
}

async fn watch_together(count: usize) {
    let world = World::start().await;
    let (mut sdk, mut python, members) = log_members_in(&world, count);
    let visitors = Visitors::come(&world);
    let first = members[0].0.clone();
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    let group = sdk.does(&first, "new_group", json!({}))["group"].clone();
    for (member, is_sdk) in &members[1..] {
        let library = if *is_sdk { &mut sdk } else { &mut python };
        library.does(member, "join", json!({"group": group}));
        library.until_heard(member, "GroupJoined", 1);
    }
    sdk.until_heard(&first, "UserJoined", count as u64 - 1);
    sdk.does(&first, "queue", json!({"item": FILM}));
    expected.insert("PlayQueue", 1);
    for (deed, command) in [("unpause", "Unpause"), ("pause", "Pause"), ("seek", "Seek")] {
        sdk.does(&first, deed, json!({"ticks": 100_000_000_u64}));
        expected.insert(command, 1);
        for (member, is_sdk) in &members {
            let library = if *is_sdk { &mut sdk } else { &mut python };
            library.until_heard(member, command, 1);
        }
    }
    let (mut lost, mut doubled) = (0, 0);
    for (member, is_sdk) in &members {
        let library = if *is_sdk { &mut sdk } else { &mut python };
        let heard = library.does(member, "heard", json!({}))["heard"].clone();
        for (kind, times) in &expected {
            let heard = heard[*kind].as_u64().unwrap_or(0);
            lost += times.saturating_sub(heard);
            doubled += heard.saturating_sub(*times);
        }
    }
    println!("SyncPlay, {count} members of two libraries on three pods: {lost} lost, {doubled} doubled");
    assert_eq!((lost, doubled), (0, 0));
    visitors.leave("SyncPlay");
    drop((sdk, python));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_of_two_libraries_watch_together() {
    watch_together(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_clients_of_two_libraries_watch_together() {
    watch_together(20).await;
}

/// Two real libraries watch together, and their leader is killed: they hear the queue again, and how it goes on, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_two_libraries_outlives_its_leader() {
    const COUNT: usize = 6;
    let world = World::start().await;
    let (mut sdk, mut python, members) = log_members_in(&world, COUNT);
    let first = members[0].0.clone();
    let group = sdk.does(&first, "new_group", json!({}))["group"].clone();
    let mut until_all_heard = |sdk: &mut Library, kind: &str, times: u64| {
        for (member, is_sdk) in &members {
            let library = if *is_sdk { &mut *sdk } else { &mut python };
            if kind == "GroupJoined" && *member != first {
                library.does(member, "join", json!({"group": group}));
            }
            library.until_heard(member, kind, times);
        }
    };
    until_all_heard(&mut sdk, "GroupJoined", 1);
    sdk.does(&first, "queue", json!({"item": FILM}));
    sdk.does(&first, "unpause", json!({}));
    until_all_heard(&mut sdk, "Unpause", 1);
    let leader = world.leader();
    world.pods.iter().find(|pod| pod.name() == leader).expect("the leader").kill().await;
    until_all_heard(&mut sdk, "Unpause", 2);
    sdk.does(&first, "pause", json!({}));
    until_all_heard(&mut sdk, "Pause", 1);
    for (member, is_sdk) in &members {
        let library = if *is_sdk { &mut sdk } else { &mut python };
        let heard = library.does(member, "heard", json!({}))["heard"].clone();
        let times = |kind: &str| heard[kind].as_u64().unwrap_or(0);
        assert_eq!(
            ["GroupLeft", "NotInGroup", "GroupJoined", "PlayQueue"].map(times),
            [0, 0, 1, 2],
            "{member}: {heard}"
        );
    }
    println!("the leader killed under {COUNT} members of two libraries: none was shown more than the queue again");
    drop((sdk, python));
    world.stop().await;
}
