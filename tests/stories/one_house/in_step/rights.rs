//! Rights: no pod is told of anything that the caller's own pod has not done.

use std::collections::BTreeMap;

use http::{Method, header};
use jellyfin_sim::FILM;
use serde_json::json;

use super::{act, acts_by_key, administrator, assert_done, at_each, house, item_path, until_each};
use crate::stories::world::{Client, World, body_of, story};

/// A method and a target; `{…}` stands for names.
type Act = (Method, &'static str);

const ACTS: &[Act] = &[
    (Method::POST, "/Items/{film}"),
    (Method::POST, "/Items/{film}/Refresh"),
    (Method::POST, "/Items/{film}/Images/Primary"),
    (Method::DELETE, "/Items/{film}/Images/Primary"),
    (Method::POST, "/Items/{film}/ContentType?contentType=movies"),
    (Method::DELETE, "/Items/{film}"),
    (Method::DELETE, "/Items?ids={film}"),
    (Method::POST, "/Collections?name=x"),
    (Method::POST, "/UserImage?userId={bob}"),
    (Method::POST, "/Users/{bob}/Images/Primary"),
    (Method::POST, "/Library/VirtualFolders?name=x"),
    (Method::DELETE, "/Library/VirtualFolders?name=x"),
    (Method::POST, "/System/Configuration"),
    (Method::POST, "/System/Configuration/branding"),
    (Method::POST, "/Repositories"),
    (Method::POST, "/Branding/Splashscreen"),
    (Method::DELETE, "/Branding/Splashscreen"),
    (Method::POST, "/Plugins/0123456789abcdef0123456789abcdef/Configuration"),
    (Method::POST, "/Videos/MergeVersions?ids={film},{film}"),
    (Method::POST, "/Devices/Options?id=sofa"),
    (Method::DELETE, "/Users/{bob}"),
    // The same in other spellings.
    (Method::POST, "/%49tems/{film}"),
    (Method::POST, "/Items/{film}/"),
    (Method::POST, "//Items/{film}"),
    (Method::POST, "/x/../Items/{film}"),
    (Method::POST, "/Items%2F{film}"),
    (Method::POST, "/emby/Items/{film}"),
    (Method::DELETE, "/Items?ids=&ids={film}"),
    (Method::DELETE, "/Items?ids={film},&ids="),
    (Method::DELETE, "/Items?ids=&ids={film},"),
    (Method::DELETE, "/Items?ids={film},{film}&ids=x"),
    (Method::DELETE, "/Items?ids={film},{film}&%69DS=x"),
    (Method::DELETE, "/Items?ids=%7B{film}%7D,"),
    (Method::DELETE, "/Items?IDS={film}"),
    (Method::DELETE, "/Items?%69ds={film}"),
    (Method::DELETE, "/%49tems/{film}/%FF/.."),
    (Method::POST, "/UserImage?userId=&userId={bob}"),
    (Method::POST, "/UserImage?userId={own}&userId={bob}"),
    (Method::POST, "/UserImage?%75serId={bob}"),
    (Method::POST, "/Users//{bob}/Images/Primary"),
    (Method::POST, "/System/Configuration/./branding"),
    (Method::POST, "/System//Configuration"),
    (Method::POST, "/System/Configuration?ApiKey=x&ApiKey=y"),
    (Method::DELETE, "/Users/%7B{bob}%7D"),
    (Method::PUT, "/System/Configuration"),
    (Method::OPTIONS, "/System/Configuration"),
];

/// The ids of bob, and of alice, who asks.
struct Names {
    bob: String,
    own: String,
}

impl Names {
    fn of(world: &World) -> Names {
        let id = |user| world.cluster.user_id(user).expect("a user");
        Names { bob: id("bob"), own: id("alice") }
    }
}

async fn send(client: &mut Client, names: &Names, (method, target): &Act) -> u16 {
    let filled = target.replace("{film}", FILM).replace("{bob}", &names.bob).replace("{own}", &names.own);
    let request = client.request(method.clone(), &filled);
    let kind = if target.contains("Image") || target.contains("Splash") { "image/png" } else { "application/json" };
    let request = request.header(header::CONTENT_TYPE, kind);
    let body = if kind == "image/png" { "eHh4".to_owned() } else { json!({"ServerName": "stolen"}).to_string() };
    client.send(request, body_of(body)).await.map_or(0, |answer| answer.status)
}

async fn callers(world: &World) -> Vec<(&'static str, Client)> {
    let mut user = world.client().without_cookies().device("sofa of alice");
    user.log_in("alice").await;
    let mut made_up = world.client().without_cookies().device("nowhere");
    made_up.token = Some("0123456789abcdef0123456789abcdef".to_owned());
    vec![("nobody", world.client().without_cookies()), ("made up", made_up), ("user", user)]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_change_uses_the_key_without_a_right() {
    story(house(), async |world| {
        let mut table: BTreeMap<(&str, u16), usize> = BTreeMap::new();
        let names = Names::of(world);
        let own = format!("/UserImage?userId={}", names.own);
        for (caller, mut client) in callers(world).await {
            for act in ACTS {
                world.pods.iter().for_each(jellyfin_sim::Pod::clear_seen);
                let status = send(&mut client, &names, act).await;
                *table.entry((caller, status)).or_default() += 1;
                let mut acts = acts_by_key(world);
                // A user may set the own picture.
                acts.retain(|act| !act.contains(&own));
                assert_eq!(acts, [""; 0], "{caller}: {} {} -> {status}", act.0, act.1);
            }
        }
        println!("{} acts by 3 callers without a right: acts by the key 0; {table:?}", ACTS.len());
    })
    .await;
}

#[tokio::test]
async fn a_user_deletes_everywhere_what_the_policy_allows_and_nowhere_else() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let mut alice = world.client().without_cookies().device("sofa");
        alice.log_in("alice").await;
        at_each(world, &item_path(world, FILM)).await;
        let delete = format!("/Items/{FILM}");
        assert_eq!(act(&mut alice, Method::DELETE, &delete).await.status, 401);
        for answer in at_each(world, &item_path(world, FILM)).await {
            assert_eq!(answer.status, 200);
        }
        assert_eq!(acts_by_key(world), [""; 0]);
        let id = world.cluster.user_id("alice").expect("alice");
        assert_done(&root.post(&format!("/Users/{id}/Policy"), json!({"EnableContentDeletion": true})).await);
        assert_done(&act(&mut alice, Method::DELETE, &delete).await);
        until_each(world, "the film is gone", &item_path(world, FILM), |answer| answer.status == 404).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_hears_what_a_single_pod_says() {
    let (mut alone, mut among) = (BTreeMap::new(), BTreeMap::new());
    story(World::plan(1).with_api_key(), async |world| alone = statuses(world).await).await;
    story(house(), async |world| among = statuses(world).await).await;
    println!("{} rows, callers x acts", alone.len());
    // A caller whom nobody refuses would show nothing.
    assert!(alone.values().any(|status| *status == 403) && alone.values().any(|status| *status == 204));
    let differences: Vec<_> = alone.iter().filter(|(row, status)| among.get(*row) != Some(*status)).collect();
    assert_eq!(differences, [], "among three: {among:?}");
}

/// What each caller hears to each act. The acts that delete come last.
async fn statuses(world: &World) -> BTreeMap<(&'static str, String), u16> {
    let mut key = world.client().without_cookies();
    key.token = Some(world.cluster.api_key());
    let mut all = callers(world).await;
    let mut root = administrator(world).await;
    for (caller, user, policy) in [
        ("hidden user", "user1", json!({"IsHidden": true})),
        ("user who controls others", "user2", json!({"EnableRemoteControlOfOtherUsers": true})),
        ("user who deletes", "user3", json!({"EnableContentDeletion": true})),
    ] {
        let path = format!("/Users/{}/Policy", world.cluster.user_id(user).expect("a user"));
        assert_done(&root.post(&path, policy).await);
        let mut client = world.client().without_cookies().device(&format!("sofa of {user}"));
        client.log_in(user).await;
        all.push((caller, client));
    }
    all.extend([("administrator", root), ("key", key)]);
    let (names, mut statuses) = (Names::of(world), BTreeMap::new());
    let (deletions, others): (Vec<&Act>, Vec<&Act>) = ACTS.iter().partition(|act| act.0 == Method::DELETE);
    for act in others.into_iter().chain(deletions) {
        for (caller, client) in &mut all {
            let status = send(client, &names, act).await;
            statuses.insert((*caller, format!("{} {}", act.0, act.1)), status);
        }
    }
    statuses
}
