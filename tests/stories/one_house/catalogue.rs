//! Items: what is edited, pictured, collected and deleted through one pod.

use http::{Method, header};
use jellyfin_sim::FILM;
use serde_json::{Value, json};

use super::{act, assert_done, devices_of, house, property, seen_by};
use crate::stories::world::{Answer, Client, World, body_of, story};

const DEVICES: usize = 8;

/// A picture of one point in base64.
const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// An administrator, and the user's devices, each of which has looked at the film.
async fn household(world: &World) -> (Client, Vec<Client>) {
    let mut devices = devices_of(world, "alice", DEVICES).await;
    for device in &mut devices {
        assert_eq!(device.get(&format!("/Items/{FILM}")).await.status, 200);
    }
    let mut root = world.client().without_cookies().device("editor");
    root.log_in("root").await;
    (root, devices)
}

#[tokio::test]
#[ignore = "pods do not hear of each other's edits yet"]
async fn an_edit_is_seen_by_every_device() {
    story(house(), async |world| {
        let (mut root, mut devices) = household(world).await;
        let path = format!("/Items/{FILM}");
        let mut document = root.get(&path).await.json();
        document["Name"] = json!("A better name");
        document["Overview"] = json!("edited");
        assert_done(&root.post(&path, document).await);
        let is_edited =
            |answer: &Answer| property(answer, "/Name") == "A better name" && property(answer, "/Overview") == "edited";
        assert_eq!(seen_by(&mut devices, &path, is_edited).await, DEVICES);
    })
    .await;
}

#[tokio::test]
#[ignore = "pods do not hear of each other's edits yet"]
async fn a_picture_is_seen_by_every_device_and_so_is_that_it_is_gone() {
    story(house(), async |world| {
        let (mut root, mut devices) = household(world).await;
        let path = format!("/Items/{FILM}/Images/Thumb");
        let request = root.request(Method::POST, &path).header(header::CONTENT_TYPE, "image/png");
        assert_done(&root.send(request, body_of(PICTURE)).await.expect("an answer"));
        let is_there = |answer: &Answer| answer.status == 200 && answer.body.len() == 70;
        assert_eq!(seen_by(&mut devices, &path, is_there).await, DEVICES);
        assert_done(&act(&mut root, Method::DELETE, &path).await);
        assert_eq!(seen_by(&mut devices, &path, |answer| answer.status == 404).await, DEVICES);
    })
    .await;
}

#[tokio::test]
#[ignore = "pods do not hear of each other's edits yet"]
async fn a_deleted_item_is_gone_for_every_device() {
    story(house(), async |world| {
        let (mut root, mut devices) = household(world).await;
        let path = format!("/Items/{FILM}");
        assert_done(&act(&mut root, Method::DELETE, &path).await);
        assert_eq!(seen_by(&mut devices, &path, |answer| answer.status == 404).await, DEVICES);
    })
    .await;
}

#[tokio::test]
#[ignore = "pods do not hear of each other's edits yet"]
async fn a_collection_has_the_same_members_for_every_device() {
    story(house(), async |world| {
        let (mut root, mut devices) = household(world).await;
        let made = root.post(&format!("/Collections?name=Best&ids={FILM}"), Value::Null).await;
        let id = made.json()["Id"].as_str().expect("an id").to_owned();
        let path = format!("/Items?parentId={id}");
        for device in &mut devices {
            assert_eq!(property(&device.get(&path).await, "/TotalRecordCount"), 1);
        }
        let add = format!("/Collections/{id}/Items?ids={}", jellyfin_sim::BULK);
        assert_done(&root.post(&add, Value::Null).await);
        assert_eq!(seen_by(&mut devices, &path, |answer| property(answer, "/TotalRecordCount") == 2).await, DEVICES);
        assert_eq!(world.cluster.item(&id).expect("a row")["Members"], json!([FILM, jellyfin_sim::BULK]));
    })
    .await;
}
