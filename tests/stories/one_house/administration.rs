//! Administration: what is set through one pod holds on all, and what is a pod's own stays its own.

use http::Method;
use serde_json::json;

use super::{act, assert_done, devices_of, house, property, seen_by, seen_within};
use crate::stories::world::{Answer, Client, World, secs, story};

const DEVICES: usize = 8;

async fn administrator(world: &World) -> Client {
    let mut root = world.client().without_cookies().device("desk");
    root.log_in("root").await;
    root
}

#[tokio::test]
async fn a_new_name_and_branding_hold_on_every_pod() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let mut devices = devices_of(world, "alice", DEVICES).await;
        let mut document = root.get("/System/Configuration").await.json();
        document["ServerName"] = json!("Renamed");
        assert_done(&root.post("/System/Configuration", document).await);
        let css = json!({"CustomCss": "body { color: red }", "SplashscreenEnabled": false});
        assert_done(&root.post("/System/Configuration/branding", css).await);
        let is_named = |answer: &Answer| property(answer, "/ServerName") == "Renamed";
        assert_eq!(seen_by(&mut devices, "/System/Info/Public", is_named).await, DEVICES);
        let is_red = |answer: &Answer| property(answer, "/CustomCss") == "body { color: red }";
        assert_eq!(seen_by(&mut devices, "/Branding/Configuration", is_red).await, DEVICES);
        for pod in &world.pods {
            let system = pod.document("system").expect("a document");
            assert_eq!(system["ServerName"], "Renamed", "{}", pod.name());
            for (key, folder) in [("CachePath", "cache"), ("MetadataPath", "metadata")] {
                assert_eq!(system[key], format!("/jellyfin/{}/{folder}", pod.name()), "its own folder stays");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_library_is_there_once_on_every_pod() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let mut devices = devices_of(world, "alice", DEVICES).await;
        assert_done(
            &root.post("/Library/VirtualFolders?name=Shows&collectionType=tvshows&paths=/shows", json!({})).await,
        );
        let has_it = |answer: &Answer| names(answer) == ["Movies", "Shows"];
        assert_eq!(seen_by(&mut devices, "/UserViews", has_it).await, DEVICES);
        for pod in &world.pods {
            assert_eq!(pod.libraries(), ["Movies", "Shows"], "{}", pod.name());
        }
        // The view goes with a scan, and pods scan one after the other.
        let remove = "/Library/VirtualFolders?name=Shows&refreshLibrary=true";
        assert_done(&act(&mut root, Method::DELETE, remove).await);
        let is_gone = |answer: &Answer| names(answer) == ["Movies"];
        assert_eq!(seen_within(&mut devices, "/UserViews", is_gone, secs(20)).await, DEVICES);
    })
    .await;
}

#[tokio::test]
async fn pods_that_share_their_folders_get_one_library_and_all_see_it() {
    story(World::plan(3).with_api_key().build(|pod| pod.shared_folders(true)), async |world| {
        let mut root = administrator(world).await;
        let mut devices = devices_of(world, "alice", DEVICES).await;
        assert_done(&root.post("/Library/VirtualFolders?name=Shows&paths=/shows", json!({})).await);
        assert_eq!(seen_by(&mut devices, "/UserViews", |answer| names(answer) == ["Movies", "Shows"]).await, DEVICES);
        assert_eq!(world.pods[0].libraries(), ["Movies", "Shows"], "no second one under another name");
    })
    .await;
}

#[tokio::test]
async fn the_devices_can_be_listed_after_a_user_with_devices_is_deleted() {
    story(house(), async |world| {
        let mut roots = devices_of(world, "root", 4).await;
        let made = roots[0].post("/Users/New", json!({"Name": "user-dora", "Password": "pw"})).await;
        let id = made.json()["Id"].as_str().expect("an id").to_owned();
        devices_of(world, "user-dora", DEVICES).await;
        assert_done(&act(&mut roots[0], Method::DELETE, &format!("/Users/{id}")).await);
        assert_eq!(seen_by(&mut roots, "/Devices", |answer| answer.status == 200).await, 4);
        for pod in &world.pods {
            let mut past_the_proxy = Client::at_address(pod.address());
            let key = world.cluster.api_key();
            assert_eq!(past_the_proxy.get(&format!("/Devices?ApiKey={key}")).await.status, 200, "{}", pod.name());
        }
    })
    .await;
}

/// The names of the items in a page.
fn names(answer: &Answer) -> Vec<String> {
    let items = property(answer, "/Items");
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item["Name"].as_str().map(str::to_owned)).collect()
}
