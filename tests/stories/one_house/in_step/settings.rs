//! Settings: what an administrator changes is changed on every pod, and each pod's own stays.

use serde_json::{Value, json};

use super::{administrator, assert_done, at_each, by_key, house, property, until_each, with_shared_folders};
use crate::stories::world::{Answer, Client, World, story};

const SYSTEM: &str = "/System/Configuration";

/// Changes some keys of a document, as a dashboard does: it saves the whole.
async fn change(client: &mut Client, path: &str, keys: Value) {
    let mut document = client.get(path).await.json();
    for (key, value) in keys.as_object().expect("keys") {
        document[key] = value.clone();
    }
    assert_done(&client.post(path, document).await);
}

/// A key of a document on each pod.
async fn on_each(world: &World, path: &str, key: &str) -> Vec<Value> {
    at_each(world, path).await.iter().map(|answer| property(answer, &format!("/{key}"))).collect()
}

#[tokio::test]
async fn what_is_a_pods_own_is_changed_on_the_callers_pod_alone() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let home = world.home(&root.get("/Users/Me").await).to_owned();
        let caches = on_each(world, SYSTEM, "CachePath").await;
        assert_eq!(caches.iter().collect::<std::collections::HashSet<_>>().len(), 3, "each has its own: {caches:?}");
        let elsewhere = json!(format!("/jellyfin/{home}/elsewhere"));
        change(&mut root, SYSTEM, json!({"CachePath": elsewhere, "UICulture": "de"})).await;
        until_each(world, "the language", SYSTEM, |answer| property(answer, "/UICulture") == "de").await;
        let expected: Vec<Value> = world
            .pods
            .iter()
            .zip(caches)
            .map(|(pod, cache)| if pod.name() == home { elsewhere.clone() } else { cache })
            .collect();
        assert_eq!(on_each(world, SYSTEM, "CachePath").await, expected);
    })
    .await;
}

#[tokio::test]
async fn network_and_plug_ins_follow_and_ports_stay() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let network = "/System/Configuration/network";
        change(&mut root, network, json!({"InternalHttpPort": 1, "EnableRemoteAccess": false})).await;
        let is_off = |answer: &Answer| property(answer, "/EnableRemoteAccess") == false;
        until_each(world, "remote access", network, is_off).await;
        let ports = on_each(world, network, "InternalHttpPort").await;
        assert_eq!(ports.iter().filter(|port| **port == 1).count(), 1, "{ports:?}");
        let plugins = root.get("/Plugins").await.json();
        let plugin = format!("/Plugins/{}/Configuration", plugins[0]["Id"].as_str().expect("an id"));
        change(&mut root, &plugin, json!({"RepositoryUrl": "https://example.net"})).await;
        let is_new = |answer: &Answer| property(answer, "/RepositoryUrl") == "https://example.net";
        until_each(world, "the plug-in", &plugin, is_new).await;
    })
    .await;
}

#[tokio::test]
async fn two_administrators_at_once_lose_nothing() {
    story(house(), async |world| {
        let mut one = administrator(world).await;
        let mut other = world.client().without_cookies().device("second desk");
        other.log_in("root").await;
        for round in 0..5 {
            let (name, text) = (format!("Name {round}"), format!("text {round}"));
            tokio::join!(
                change(&mut one, SYSTEM, json!({"ServerName": name})),
                change(&mut other, "/System/Configuration/branding", json!({"LoginDisclaimer": text})),
            );
            until_each(world, "the name", SYSTEM, |answer| property(answer, "/ServerName") == *name).await;
            let says = |answer: &Answer| property(answer, "/LoginDisclaimer") == *text;
            until_each(world, "the disclaimer", "/Branding/Configuration", says).await;
        }
    })
    .await;
}

#[tokio::test]
async fn settings_that_differ_stay_until_they_are_changed_for_all() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        // Past the proxy: this pod has a language of its own.
        change(&mut by_key(world, world.pod("b")), SYSTEM, json!({"UICulture": "fr"})).await;
        change(&mut root, SYSTEM, json!({"ServerName": "Renamed"})).await;
        until_each(world, "the name", SYSTEM, |answer| property(answer, "/ServerName") == "Renamed").await;
        let languages = on_each(world, SYSTEM, "UICulture").await;
        assert_eq!(languages.iter().filter(|language| **language == "fr").count(), 1, "{languages:?}");
        change(&mut root, SYSTEM, json!({"UICulture": "de"})).await;
        until_each(world, "the language", SYSTEM, |answer| property(answer, "/UICulture") == "de").await;
    })
    .await;
}

#[tokio::test]
async fn pods_with_one_folder_have_what_was_saved_last_after_a_restart() {
    story(with_shared_folders(), async |world| {
        let mut root = administrator(world).await;
        change(&mut root, "/System/Configuration/network", json!({"InternalHttpPort": 7, "AutoDiscovery": false}))
            .await;
        for pod in &world.pods {
            pod.kill().await;
        }
        for pod in &world.pods {
            pod.start_again().await.expect("it starts");
            let network = pod.document("network").expect("a document");
            assert_eq!((&network["InternalHttpPort"], &network["AutoDiscovery"]), (&json!(7), &json!(false)));
        }
    })
    .await;
}
