//! A pod that was away when something changed has it all when it is back.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::Method;
use jellyfin_sim::{BULK, FILM};
use jellypin::pod::State;
use serde_json::json;

use super::{act, administrator, assert_done, at_each, fan_out, house, item_path, property, until_each, upload};
use crate::stories::migration::{kill, start_again};
use crate::stories::world::{Answer, secs, story};

#[tokio::test]
async fn a_pod_that_was_away_catches_up() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let home = world.home(&root.get("/Users/Me").await).to_owned();
        let away = world.pods_but(&home).next().expect("another").name().to_owned();
        at_each(world, &item_path(world, FILM)).await;
        kill(world, &away).await;

        let (poster, picture) = ("p".repeat(300), format!("/Items/{FILM}/Images/Primary"));
        assert_done(&upload(&mut root, &picture, "image/png", &STANDARD.encode(&poster)).await);
        let told = fan_out(world, &picture, 1).await;
        assert!(told.contains(&format!("{away}=away")), "{told}");
        let mut system = root.get("/System/Configuration").await.json();
        system["ServerName"] = "Renamed".into();
        assert_done(&root.post("/System/Configuration", system).await);
        let add = "/Library/VirtualFolders?name=More&collectionType=movies&refreshLibrary=false";
        assert_done(&root.post(add, json!({"LibraryOptions": {"PathInfos": [{"Path": "/more"}]}})).await);
        assert_done(&act(&mut root, Method::DELETE, &format!("/Items/{BULK}")).await);

        start_again(world, &away).await;
        until_each(world, "the poster", &picture, |answer| answer.body == poster.as_bytes()).await;
        let is_renamed = |answer: &Answer| property(answer, "/ServerName") == "Renamed";
        until_each(world, "the name", "/System/Info/Public", is_renamed).await;
        let has_more = |answer: &Answer| answer.text().contains("\"More\"");
        until_each(world, "the library", "/Library/VirtualFolders", has_more).await;
        until_each(world, "the film is gone", &item_path(world, BULK), |answer| answer.status == 404).await;
        let own = world.pod(&away).document("system").expect("a document");
        assert_eq!(own["CachePath"], format!("/jellyfin/{away}/cache"), "its own folder stays");
    })
    .await;
}

#[tokio::test]
async fn a_change_waits_two_seconds_at_most_for_a_slow_pod() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let home = world.home(&root.get("/Users/Me").await).to_owned();
        let slow = world.pods_but(&home).next().expect("another");
        let mut film = root.get(&item_path(world, FILM)).await.json();
        film["Overview"] = "Edited".into();
        slow.slow_first_byte(secs(4));
        assert_done(&root.post(&format!("/Items/{FILM}"), film).await);
        let told = fan_out(world, &format!("/Items/{FILM}"), 1).await;
        assert!(told.contains(&format!("{}=late", slow.name())), "{told}");
        slow.slow_first_byte(secs(0));
        let is_edited = |answer: &Answer| property(answer, "/Overview") == "Edited";
        until_each(world, "the edit", &item_path(world, FILM), is_edited).await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_only_hung_is_told_when_it_answers_again() {
    story(house().silence(secs(2)), async |world| {
        let mut root = administrator(world).await;
        let home = world.home(&root.get("/Users/Me").await).to_owned();
        let hung = world.pods_but(&home).next().expect("another").name().to_owned();
        at_each(world, &item_path(world, FILM)).await;
        let mut film = root.get(&item_path(world, FILM)).await.json();
        world.pod(&hung).hang(true);
        world.until_state(&hung, State::Down).await;
        film["Overview"] = "Edited".into();
        assert_done(&root.post(&format!("/Items/{FILM}"), film).await);
        let told = fan_out(world, &format!("/Items/{FILM}"), 1).await;
        assert!(told.contains(&format!("{hung}=away")), "{told}");
        world.pod(&hung).hang(false);
        let is_edited = |answer: &Answer| property(answer, "/Overview") == "Edited";
        until_each(world, "the edit", &item_path(world, FILM), is_edited).await;
    })
    .await;
}
