//! What one pod does, all pods show: looked at on each pod, past the proxy.

mod away;
mod pictures;
mod rights;
mod settings;
mod users;

use http::{Method, header};
use jellyfin_sim::{FILM, Pod};
use serde_json::{Value, json};

use super::{act, assert_done, house, property};
use crate::stories::world::{Answer, Client, Plan, World, body_of, secs, story, until_so};

/// An administrator, signed in through the proxy.
async fn administrator(world: &World) -> Client {
    let mut client = world.client().without_cookies().device("desk");
    client.log_in("root").await;
    client
}

/// A program with the API key that asks one pod, past the proxy.
fn by_key(world: &World, pod: &Pod) -> Client {
    let mut client = world.client().without_cookies().at(pod);
    client.token = Some(world.cluster.api_key());
    client
}

/// What each running pod answers to this, by the key.
async fn at_each(world: &World, path: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    for pod in world.pods.iter().filter(|pod| pod.is_running()) {
        answers.push(by_key(world, pod).get(path).await);
    }
    answers
}

/// Waits until every running pod gives the right answer.
async fn until_each(world: &World, what: &str, path: &str, is_right: impl Fn(&Answer) -> bool) {
    until_so(what, async || at_each(world, path).await.iter().all(&is_right)).await;
}

/// The path of an item as an administrator sees it.
fn item_path(world: &World, item: &str) -> String {
    format!("/Items/{item}?userId={}", world.cluster.user_id("root").expect("root"))
}

/// Sends a body of some kind.
async fn upload(client: &mut Client, path: &str, kind: &str, body: &str) -> Answer {
    let request = client.request(Method::POST, path).header(header::CONTENT_TYPE, kind);
    client.send(request, body_of(body.to_owned())).await.expect("an answer")
}

/// What the pods did because of the last request of this path, by its access line.
async fn fan_out(world: &World, path: &str) -> String {
    let lines = world.proxy.lines_of(path, 1).await;
    lines.last().expect("a line")["fan_out"].as_str().unwrap_or_default().to_owned()
}

/// What pods got by the API key that writes, besides mints.
fn acts_by_key(world: &World) -> Vec<String> {
    let key = world.cluster.api_key();
    let is_act = |seen: &jellyfin_sim::Seen| {
        seen.header("authorization").is_some_and(|line| line.contains(&key))
            && seen.method != Method::GET
            && !seen.path().starts_with("/QuickConnect/")
    };
    let acts = world.pods.iter().flat_map(|pod| pod.seen().into_iter().map(move |seen| (pod.name().to_owned(), seen)));
    acts.filter(|(_, seen)| is_act(seen)).map(|(pod, seen)| format!("{pod}: {} {}", seen.method, seen.target)).collect()
}

#[tokio::test]
async fn an_edit_stands_on_the_access_line_with_what_each_pod_said() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let path = item_path(world, FILM);
        assert_eq!(at_each(world, &path).await.len(), 3);
        let mut film = root.get(&path).await.json();
        film["Overview"] = "Edited".into();
        assert_done(&root.post(&format!("/Items/{FILM}"), film).await);
        for answer in at_each(world, &path).await {
            assert_eq!(property(&answer, "/Overview"), "Edited");
        }
        let told = fan_out(world, &format!("/Items/{FILM}")).await;
        assert_eq!(told.matches("=204").count(), 2, "{told}");
        let labels = [("act", "same_request"), ("outcome", "done")];
        assert_eq!(world.proxy.metric("jellypin_in_step_total", &labels).await, 2.0);
    })
    .await;
}

#[tokio::test]
async fn a_large_edit_is_shown_by_every_pod_and_one_that_is_too_large_is_said() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let path = item_path(world, FILM);
        at_each(world, &path).await;
        let mut film = root.get(&path).await.json();
        film["Overview"] = "x".repeat(300_000).into();
        assert_done(&root.post(&format!("/Items/{FILM}"), film.clone()).await);
        for answer in at_each(world, &path).await {
            assert_eq!(property(&answer, "/Overview").as_str().map(str::len), Some(300_000));
        }
        film["Overview"] = "x".repeat(2_000_000).into();
        assert_done(&root.post(&format!("/Items/{FILM}"), film).await);
        let lines = world.proxy.lines_of(&format!("/Items/{FILM}"), 3).await;
        let told = lines.last().expect("a line")["fan_out"].as_str().expect("what was told").to_owned();
        assert_eq!(told.matches("=too_large").count(), 2, "{told}");
    })
    .await;
}

#[tokio::test]
async fn of_several_deleted_items_none_is_left_on_any_pod() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let films = ["One", "Two", "Three"].map(|name| world.cluster.add_film(name, secs(60)));
        // One pod has never heard of the first, which ends a deletion of several.
        let only = by_key(world, &world.pods[2]).get(&item_path(world, &films[1])).await;
        assert_eq!(only.status, 200);
        for film in &films {
            by_key(world, &world.pods[0]).get(&item_path(world, film)).await;
        }
        let ids = films.join(",");
        assert_done(&act(&mut root, Method::DELETE, &format!("/Items?ids={ids}")).await);
        for film in &films {
            until_each(world, "the film is gone", &item_path(world, film), |answer| answer.status == 404).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_library_is_added_renamed_and_removed_on_every_pod_and_once() {
    for plan in [house(), house().build(|pod| pod.shared_folders(true))] {
        story(plan, libraries).await;
    }
}

async fn libraries(world: &mut World) {
    const LIBRARIES: &str = "/Library/VirtualFolders";
    let mut root = administrator(world).await;
    let body = json!({"LibraryOptions": {"EnableRealtimeMonitor": false, "PathInfos": [{"Path": "/more"}]}});
    let add = format!("{LIBRARIES}?name=More&collectionType=movies&refreshLibrary=false");
    assert_done(&root.post(&add, body).await);
    for pod in &world.pods {
        assert_eq!(pod.libraries(), ["More", "Movies"], "{}", pod.name());
    }
    for answer in at_each(world, LIBRARIES).await {
        let more = library(&answer, "More");
        assert_eq!(
            (&more["LibraryOptions"]["EnableRealtimeMonitor"], &more["Locations"]),
            (&json!(false), &json!(["/more"]))
        );
    }
    let path = json!({"Name": "More", "PathInfo": {"Path": "/most"}});
    assert_done(&root.post(&format!("{LIBRARIES}/Paths"), path).await);
    let id = library(&root.get(LIBRARIES).await, "More")["ItemId"].clone();
    let options = json!({"EnableRealtimeMonitor": true, "PathInfos": [{"Path": "/more"}, {"Path": "/most"}]});
    assert_done(&root.post(&format!("{LIBRARIES}/LibraryOptions"), json!({"Id": id, "LibraryOptions": options})).await);
    for answer in at_each(world, LIBRARIES).await {
        let more = library(&answer, "More");
        assert_eq!(more["LibraryOptions"]["EnableRealtimeMonitor"], true);
        assert_eq!(more["Locations"], json!(["/more", "/most"]));
    }
    assert_done(&act(&mut root, Method::DELETE, &format!("{LIBRARIES}/Paths?name=More&path=/more")).await);
    assert_done(&act(&mut root, Method::POST, &format!("{LIBRARIES}/Name?name=More&newName=Most")).await);
    for answer in at_each(world, LIBRARIES).await {
        assert_eq!(library(&answer, "Most")["Locations"], json!(["/most"]));
    }
    assert_done(&act(&mut root, Method::DELETE, &format!("{LIBRARIES}?name=Most")).await);
    for pod in &world.pods {
        assert_eq!(pod.libraries(), ["Movies"], "{}", pod.name());
    }
}

fn library(answer: &Answer, name: &str) -> Value {
    let list = answer.json();
    let found = list.as_array().expect("a list").iter().find(|library| library["Name"] == name);
    found.unwrap_or_else(|| panic!("no library {name}: {list}")).clone()
}

#[tokio::test]
async fn nothing_is_told_to_other_pods_when_that_is_switched_off() {
    story(house().in_step("off"), async |world| {
        let mut root = administrator(world).await;
        let mut film = root.get(&item_path(world, FILM)).await.json();
        film["Overview"] = "Edited".into();
        assert_done(&root.post(&format!("/Items/{FILM}"), film).await);
        assert_eq!(fan_out(world, &format!("/Items/{FILM}")).await, "");
        assert_eq!(acts_by_key(world), [""; 0]);
    })
    .await;
}

/// A house whose pods share their folders.
fn with_shared_folders() -> Plan {
    house().build(|pod| pod.shared_folders(true))
}
