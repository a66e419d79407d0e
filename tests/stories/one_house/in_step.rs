//! What one pod does, all pods show: looked at on each pod, past the proxy.

mod away;
mod pictures;
mod rights;
mod settings;
mod users;

use http::{Method, header};
use jellyfin_sim::{FILM, Generation, Pod};
use serde_json::{Value, json};

use super::{act, assert_done, house, property};
use crate::stories::world::{Answer, Client, Plan, World, body_of, secs, story, until, until_so};

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

/// What the pods did because of the last of so many POSTs of this path, by its access line.
async fn fan_out(world: &World, path: &str, posts: usize) -> String {
    let of_path = |line: &Value| line["http.path"] == path && line["http.method"] == "POST";
    let lines = || -> Vec<Value> { world.proxy.lines().into_iter().filter(of_path).collect() };
    until("the access line is written", || lines().len() >= posts).await;
    lines().last().expect("a line")["fan_out"].as_str().unwrap_or_default().to_owned()
}

/// Waits until every pod has these libraries.
async fn until_libraries(world: &World, names: &[&str]) {
    until(&format!("the libraries {names:?}"), || world.pods.iter().all(|pod| pod.libraries() == names)).await;
}

/// What pods got by the API key that writes, besides mints.
fn acts_by_key(world: &World) -> Vec<String> {
    let key = world.cluster.api_key();
    let is_act = |seen: &jellyfin_sim::Seen| {
        seen.header("authorization").is_some_and(|line| line.contains(&key))
            && seen.method != Method::GET
            && !seen.path().starts_with("/QuickConnect/")
            // The question whether the pod writes.
            && seen.path() != "/Library/Media/Updated"
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
        let told = fan_out(world, &format!("/Items/{FILM}"), 1).await;
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
        let told = fan_out(world, &format!("/Items/{FILM}"), 2).await;
        assert_eq!(told.matches("=too_large").count(), 2, "{told}");
    })
    .await;
}

#[tokio::test]
async fn of_several_deleted_items_none_is_left_on_any_pod() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let doubled = ["Four", "Five"].map(|name| world.cluster.add_film(name, secs(60)));
        for film in &doubled {
            at_each(world, &item_path(world, film)).await;
        }
        let films = ["One", "Two", "Three"].map(|name| world.cluster.add_film(name, secs(60)));
        // One pod has never heard of the first, which ends a deletion of several.
        let only = by_key(world, &world.pods[2]).get(&item_path(world, &films[1])).await;
        assert_eq!(only.status, 200);
        for film in &films {
            by_key(world, &world.pods[0]).get(&item_path(world, film)).await;
        }
        let ids = films.join(",");
        assert_done(&act(&mut root, Method::DELETE, &format!("/Items?ids={ids}")).await);
        let [one, other] = &doubled;
        assert_done(&act(&mut root, Method::DELETE, &format!("/Items?ids={one}&ids={other}")).await);
        for film in films.iter().chain(&doubled) {
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
    until_libraries(world, &["More", "Movies"]).await;
    let has = |monitored: bool, paths: Value| {
        move |answer: &Answer| {
            let more = library(answer, "More");
            more["LibraryOptions"]["EnableRealtimeMonitor"] == monitored && more["Locations"] == paths
        }
    };
    until_each(world, "it is the same", LIBRARIES, has(false, json!(["/more"]))).await;
    let path = json!({"Name": "More", "PathInfo": {"Path": "/most"}});
    assert_done(&root.post(&format!("{LIBRARIES}/Paths"), path).await);
    until_each(world, "a second path", LIBRARIES, has(false, json!(["/more", "/most"]))).await;
    let id = library(&root.get(LIBRARIES).await, "More")["ItemId"].clone();
    let options = json!({"EnableRealtimeMonitor": true, "PathInfos": [{"Path": "/more"}, {"Path": "/most"}]});
    assert_done(&root.post(&format!("{LIBRARIES}/LibraryOptions"), json!({"Id": id, "LibraryOptions": options})).await);
    until_each(world, "other options", LIBRARIES, has(true, json!(["/more", "/most"]))).await;
    assert_done(&act(&mut root, Method::DELETE, &format!("{LIBRARIES}/Paths?name=More&path=/more")).await);
    until_each(world, "one path less", LIBRARIES, has(true, json!(["/most"]))).await;
    assert_done(&act(&mut root, Method::POST, &format!("{LIBRARIES}/Name?name=More&newName=Most")).await);
    until_libraries(world, &["Most", "Movies"]).await;
    assert_done(&act(&mut root, Method::DELETE, &format!("{LIBRARIES}?name=Most")).await);
    until_libraries(world, &["Movies"]).await;
}

fn library(answer: &Answer, name: &str) -> Value {
    let list = answer.json();
    let found = list.as_array().expect("a list").iter().find(|library| library["Name"] == name);
    found.unwrap_or_else(|| panic!("no library {name}: {list}")).clone()
}

#[tokio::test]
async fn a_refreshed_item_is_refreshed_on_every_pod_and_a_library_on_one() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let refresh = |item: &str| format!("/Items/{item}/Refresh?Recursive=true&MetadataRefreshMode=Default");
        assert_done(&root.post(&refresh(FILM), Value::Null).await);
        assert_eq!(acts_by_key(world).len(), 2, "{:?}", acts_by_key(world));
        // It is a scan, and two scans at once add the same items.
        let library = root.get("/Library/VirtualFolders").await.json()[0]["ItemId"].clone();
        let library = library.as_str().expect("an id");
        assert_done(&root.post(&refresh(library), Value::Null).await);
        let told = fan_out(world, &format!("/Items/{library}/Refresh"), 1).await;
        assert_eq!(told.matches("=in_step").count(), 2, "{told}");
        assert_eq!(acts_by_key(world).len(), 2, "{:?}", acts_by_key(world));
    })
    .await;
}

#[tokio::test]
async fn nothing_is_told_to_other_pods_when_that_is_switched_off() {
    story(house().in_step("off"), async |world| {
        let mut root = administrator(world).await;
        let mut film = root.get(&item_path(world, FILM)).await.json();
        film["Overview"] = "Edited".into();
        assert_done(&root.post(&format!("/Items/{FILM}"), film).await);
        assert_eq!(fan_out(world, &format!("/Items/{FILM}"), 1).await, "");
        assert_eq!(acts_by_key(world), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn pods_of_10_11_follow_below_their_old_prefix_too() {
    story(house().build(|pod| pod.generation(Generation::V10_11)), async |world| {
        let mut root = administrator(world).await;
        let path = item_path(world, FILM);
        at_each(world, &path).await;
        let mut film = root.get(&path).await.json();
        film["Overview"] = "Edited".into();
        assert_done(&root.post(&format!("/emby/Items/{FILM}"), film).await);
        until_each(world, "the edit", &path, |answer| property(answer, "/Overview") == "Edited").await;
        assert_done(&act(&mut root, Method::DELETE, &format!("/mediabrowser/items/{FILM}")).await);
        until_each(world, "the film is gone", &path, |answer| answer.status == 404).await;
    })
    .await;
}

/// A house whose pods share their folders.
fn with_shared_folders() -> Plan {
    house().build(|pod| pod.shared_folders(true))
}
