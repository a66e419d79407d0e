//! Pictures: every pod shows the same files, in the same order, and none twice.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::Method;
use jellyfin_sim::FILM;

use super::with_shared_folders;
use super::{act, administrator, assert_done, at_each, by_key, house, item_path, property, until_each, upload};
use crate::stories::world::{Answer, Client, World, story};

/// A picture of its own, as large as it is to be.
fn picture(letter: char, bytes: usize) -> String {
    letter.to_string().repeat(bytes)
}

async fn post(client: &mut Client, path: &str, picture: &str) {
    assert_done(&upload(client, path, "image/png", &STANDARD.encode(picture)).await);
}

/// The backdrops that each pod shows, by their first letters; `-` for one without a file.
async fn backdrops(world: &World) -> Vec<String> {
    let mut shown = Vec::new();
    for pod in &world.pods {
        let mut client = by_key(world, pod);
        let item = client.get(&item_path(world, FILM)).await;
        let count = property(&item, "/BackdropImageTags").as_array().map_or(0, Vec::len);
        let mut letters = String::new();
        for index in 0..count {
            let answer = client.get(&format!("/Items/{FILM}/Images/Backdrop/{index}")).await;
            letters.push(if answer.status == 200 { char::from(answer.body[0]) } else { '-' });
        }
        shown.push(letters);
    }
    shown
}

#[tokio::test]
async fn a_poster_is_shown_by_every_pod_however_large_it_is() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let path = format!("/Items/{FILM}/Images/Primary");
        at_each(world, &item_path(world, FILM)).await;
        for (letter, size) in [('p', 70), ('q', 3_000_000)] {
            let poster = picture(letter, size);
            post(&mut root, &path, &poster).await;
            until_each(world, "the poster", &path, |answer| answer.body == poster.as_bytes()).await;
        }
        assert_done(&act(&mut root, Method::DELETE, &path).await);
        let has_none = |answer: &Answer| property(answer, "/ImageTags/Primary").is_null();
        until_each(world, "no poster", &item_path(world, FILM), has_none).await;
    })
    .await;
}

#[tokio::test]
async fn backdrops_stand_in_one_order_on_every_pod_and_none_twice() {
    for plan in [house(), with_shared_folders()] {
        story(plan, async |world| {
            let mut root = administrator(world).await;
            let path = format!("/Items/{FILM}/Images/Backdrop");
            // One pod has the film in memory, another has not.
            by_key(world, world.pod("b")).get(&item_path(world, FILM)).await;
            for letter in ['a', 'b', 'c'] {
                post(&mut root, &path, &picture(letter, 100)).await;
            }
            assert_eq!(backdrops(world).await, ["abc"; 3]);
            assert_done(&act(&mut root, Method::POST, &format!("{path}/0/Index?newIndex=2")).await);
            assert_eq!(backdrops(world).await, ["cba"; 3]);
            assert_done(&act(&mut root, Method::DELETE, &format!("{path}/1")).await);
            assert_eq!(backdrops(world).await, ["ca"; 3]);
        })
        .await;
    }
}

#[tokio::test]
async fn a_users_picture_is_shown_by_every_pod() {
    story(house(), async |world| {
        let mut alice = world.client().without_cookies().device("sofa");
        alice.log_in("alice").await;
        let face = picture('f', 200);
        post(&mut alice, "/UserImage", &face).await;
        let path = format!("/UserImage?userId={}", world.cluster.user_id("alice").expect("alice"));
        until_each(world, "the user's picture", &path, |answer| answer.body == face.as_bytes()).await;
    })
    .await;
}

#[tokio::test]
async fn the_splash_screen_is_shown_by_every_pod_and_so_is_that_it_is_gone() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let (splash, path) = (picture('s', 500), "/Branding/Splashscreen");
        post(&mut root, path, &splash).await;
        until_each(world, "the splash screen", path, |answer| answer.body == splash.as_bytes()).await;
        assert_done(&act(&mut root, Method::DELETE, path).await);
        until_each(world, "no splash screen", path, |answer| answer.status == 404).await;
    })
    .await;
}
