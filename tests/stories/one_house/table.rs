//! What a user or an administrator does on one device, and how many of the others see it: one line
//! for each act. Pods that nobody keeps in step fail at every line.

use std::time::Duration;

use http::{Method, header};
use serde_json::{Value, json};

use super::{
    act, assert_done, devices_of, house, property, seen_within,
    sessions::{close, devices_in, message, open},
};
use crate::stories::world::{Answer, Client, World, body_of, secs, story};

const DEVICES: usize = 8;
const ADMINISTRATORS: usize = 4;
const TWO_HOURS: Duration = Duration::from_secs(7200);
const HOUR_IN_TICKS: i64 = 36_000_000_000;

/// A picture of one point in base64.
const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// An act, by how many it was seen, and of how many.
type Line = (&'static str, usize, usize);

#[tokio::test(flavor = "multi_thread")]
async fn what_one_device_does_all_others_see() {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    // Without its key, jellypin leaves pods to themselves.
    story(World::plan(3).in_step("off"), async |world| before = table(world, Duration::ZERO).await).await;
    story(house(), async |world| after = table(world, secs(5)).await).await;
    println!("| what | pods by themselves | in step |\n|---|---|---|");
    for ((what, seen, of), (_, now, _)) in before.iter().zip(&after) {
        println!("| {what} | {seen} of {of} | {now} of {of} |");
    }
    let unseen: Vec<&Line> = after.iter().filter(|(_, seen, of)| seen != of).collect();
    assert!(unseen.is_empty(), "{unseen:?}");
    let seen: Vec<&Line> = before.iter().filter(|(_, seen, of)| seen == of).collect();
    assert!(seen.is_empty(), "the simulated pods tell each other: {seen:?}");
}

/// Goes through all acts. What is not seen at once is looked for again for so long.
async fn table(world: &World, patience: Duration) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut alices = devices_of(world, "alice", DEVICES).await;
    let mut roots = devices_of(world, "root", ADMINISTRATORS).await;
    let _bobs = devices_of(world, "bob", 2).await;
    user_data(world, &mut alices, patience, &mut lines).await;
    sessions(&mut alices, &mut roots, &mut lines).await;
    catalogue(world, &mut alices, &mut roots[0], patience, &mut lines).await;
    administration(world, &mut alices, &mut roots, patience, &mut lines).await;
    lines
}

async fn user_data(world: &World, alices: &mut [Client], patience: Duration, lines: &mut Vec<Line>) {
    let [one, two] = ["First", "Second"].map(|name| world.cluster.add_film(name, TWO_HOURS));
    for device in alices.iter_mut() {
        for film in [&one, &two] {
            assert_eq!(device.get(&format!("/Items/{film}")).await.status, 200);
        }
    }
    let path = format!("/Items/{one}");
    assert_done(&act(&mut alices[0], Method::POST, &format!("/UserFavoriteItems/{one}")).await);
    let is_favorite = |answer: &Answer| property(answer, "/UserData/IsFavorite") == true;
    lines.push(("favourite", seen_within(alices, &path, is_favorite, patience).await, DEVICES));

    for device in &mut alices[1..] {
        let report = |hours: i64| json!({"ItemId": one, "PositionTicks": hours * HOUR_IN_TICKS});
        assert_done(&device.post("/Sessions/Playing", report(0)).await);
        assert_done(&device.post("/Sessions/Playing/Stopped", report(1)).await);
    }
    let is_kept = world.cluster.user_data("alice", &one).is_some_and(|row| row.favorite);
    lines.push(("the film is watched on the others: still a favourite in the database", usize::from(is_kept), 1));

    assert_done(&act(&mut alices[0], Method::POST, &format!("/UserPlayedItems/{two}")).await);
    let is_played = |answer: &Answer| property(answer, "/UserData/Played") == true;
    lines.push(("played", seen_within(alices, &format!("/Items/{two}"), is_played, patience).await, DEVICES));
}

async fn sessions(alices: &mut [Client], roots: &mut [Client], lines: &mut Vec<Line>) {
    const ALL: usize = DEVICES + ADMINISTRATORS + 2;
    let mut listed = ALL;
    for root in roots.iter_mut() {
        listed = listed.min(devices_in(&root.get("/Sessions").await.json()).len());
    }
    lines.push(("sessions listed to an administrator", listed, ALL));
    let mut listed = ALL;
    for root in roots.iter_mut() {
        listed = listed.min(property(&root.get("/Devices").await, "/TotalRecordCount").as_u64().unwrap_or(0) as usize);
    }
    lines.push(("devices listed to an administrator", listed, ALL));

    let (mut told, mut played) = (0, 0);
    for (number, device) in alices.iter_mut().enumerate() {
        let mut socket = open(device).await;
        let session = jellyfin_sim::session_id("Story", &format!("alice-{number}"));
        if roots[0].post(&format!("/Sessions/{session}/Message"), json!({"Text": "x"})).await.status == 204 {
            message(&mut socket, "GeneralCommand").await;
            told += 1;
        }
        let play = format!("/Sessions/{session}/Playing?playCommand=PlayNow&itemIds={}", jellyfin_sim::FILM);
        if roots[0].post(&play, Value::Null).await.status == 204 {
            message(&mut socket, "Play").await;
            played += 1;
        }
        close(socket).await;
    }
    lines.push(("message to a device", told, DEVICES));
    lines.push(("\"Play on\" a device", played, DEVICES));
}

async fn catalogue(world: &World, alices: &mut [Client], root: &mut Client, patience: Duration, lines: &mut Vec<Line>) {
    let film = world.cluster.add_film("Third", TWO_HOURS);
    let path = format!("/Items/{film}");
    for device in alices.iter_mut() {
        assert_eq!(device.get(&path).await.status, 200);
    }
    let mut document = root.get(&path).await.json();
    document["Overview"] = json!("edited");
    assert_done(&root.post(&path, document).await);
    let is_edited = |answer: &Answer| property(answer, "/Overview") == "edited";
    lines.push(("metadata edited", seen_within(alices, &path, is_edited, patience).await, DEVICES));

    let picture = format!("{path}/Images/Thumb");
    let request = root.request(Method::POST, &picture).header(header::CONTENT_TYPE, "image/png");
    assert_done(&root.send(request, body_of(PICTURE)).await.expect("an answer"));
    let is_there = |answer: &Answer| answer.status == 200;
    lines.push(("image uploaded", seen_within(alices, &picture, is_there, patience).await, DEVICES));

    assert_done(&act(root, Method::DELETE, &path).await);
    let is_gone = |answer: &Answer| answer.status == 404;
    lines.push(("item deleted: gone by id", seen_within(alices, &path, is_gone, patience).await, DEVICES));
}

async fn administration(
    world: &World,
    alices: &mut [Client],
    roots: &mut [Client],
    patience: Duration,
    lines: &mut Vec<Line>,
) {
    let mut document = roots[0].get("/System/Configuration").await.json();
    document["ServerName"] = json!("Renamed");
    assert_done(&roots[0].post("/System/Configuration", document).await);
    let is_named = |answer: &Answer| property(answer, "/ServerName") == "Renamed";
    lines.push(("server renamed", seen_within(alices, "/System/Info/Public", is_named, patience).await, DEVICES));

    assert_done(&roots[0].post("/System/Configuration/branding", json!({"CustomCss": "a {}"})).await);
    let is_styled = |answer: &Answer| property(answer, "/CustomCss") == "a {}";
    lines.push(("branding set", seen_within(alices, "/Branding/Configuration", is_styled, patience).await, DEVICES));

    let add = "/Library/VirtualFolders?name=Shows&collectionType=tvshows&paths=/shows&refreshLibrary=false";
    assert_done(&roots[0].post(add, json!({})).await);
    let has_it = |answer: &Answer| answer.text().contains("\"Shows\"");
    lines.push(("library added", seen_within(alices, "/UserViews", has_it, patience).await, DEVICES));

    assert_done(&roots[0].post("/Devices/Options?id=alice-3", json!({"CustomName": "Kitchen"})).await);
    let is_renamed = |answer: &Answer| property(answer, "/CustomName") == "Kitchen";
    let seen = seen_within(roots, "/Devices/Info?id=alice-3", is_renamed, patience).await;
    lines.push(("device renamed", seen, ADMINISTRATORS));

    // A pod that knows a device of a user who is gone shows none until it restarts.
    let made = roots[0].post("/Users/New", json!({"Name": "user-dora", "Password": "pw"})).await;
    let id = made.json()["Id"].as_str().expect("an id").to_owned();
    let doras = devices_of(world, "user-dora", DEVICES).await;
    assert_done(&act(&mut roots[0], Method::DELETE, &format!("/Users/{id}")).await);
    let all = DEVICES + ADMINISTRATORS + 2;
    let is_whole = |answer: &Answer| answer.status == 200 && property(answer, "/TotalRecordCount") == all;
    let seen = seen_within(roots, "/Devices", is_whole, patience).await;
    lines.push(("user with devices deleted: the list of devices is whole", seen, ADMINISTRATORS));
    drop(doras);
}
