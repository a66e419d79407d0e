//! One proxy, and a folder for what must survive it.

use std::fs;
use std::path::PathBuf;

use super::{assert_no_secret, get_user_by_token, log_in, until_at_least};
use crate::stories::world::{Client, Program, World, story};

const USERS: usize = 8;

fn file_of(world: &World) -> PathBuf {
    world.folder().join("state/pins.redb")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_proxy_sends_every_client_straight_home() {
    story(World::plan(5).state_path("state"), async |world| {
        let mut clients = Vec::new();
        for i in 0..USERS {
            let (user, device) = (format!("user{i}"), format!("device-number-{i}"));
            let (token, home) = log_in(world, &user, &device).await;
            clients.push((token, home, user, device));
        }
        world.restart(|_| {}).await;
        for (token, home, user, device) in &clients {
            let first = get_user_by_token(world.client().without_cookies(), token).await;
            assert_eq!((first.status, world.saw(&first)), (200, vec![home.as_str()]), "no other pod was asked");
            assert_no_secret(&fs::read(file_of(world)).expect("the file"), &[token, user, device]);
        }
        let gone = clients[0].1.clone();
        let elsewhere = clients.iter().filter(|(_, home, ..)| *home != gone).count() as f64;
        world.restart(|settings| settings.remove_pod(&gone)).await;
        let kept = world.proxy.metric("jellypin_pins", &[]).await;
        assert_eq!(kept, 2.0 * elsewhere, "a pod that is no longer there has no pins");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_rotation_keeps_the_file() {
    story(World::plan(5).state_path("state").keys(&["the old key, long enough"]), async |world| {
        let mut clients = Vec::new();
        for i in 0..USERS {
            clients.push(log_in(world, &format!("user{i}"), &format!("device {i}")).await);
        }
        let (new, old) = ("the new key, long enough", "the old key, long enough");
        for keys in [&[new, old][..], &[new]] {
            world.restart(|settings| settings.keys(keys)).await;
            for (token, home) in &clients {
                let first = get_user_by_token(world.client().without_cookies(), token).await;
                assert_eq!((first.status, world.saw(&first)), (200, vec![home.as_str()]), "under {keys:?}");
            }
        }
    })
    .await;
}

/// The program itself before the world's pods, with its pins in the world's folder.
async fn program(world: &World) -> Program {
    let mut settings = world.settings().clone();
    settings.state_path("state");
    Program::start(&settings, world.folder()).await
}

async fn log_in_at(program: &Program, world: &World, user: &str) -> (String, String) {
    let mut client = program.client().without_cookies().device(&format!("device of {user}"));
    let answer = client.log_in(user).await;
    (client.token.expect("a token"), world.home(&answer).to_owned())
}

/// How many changes the program has on its disk.
async fn written(program: &Program) -> f64 {
    let page = Client::at_address(program.addresses()[1]).get("/metrics").await;
    let sample = "jellypin_store_writes_total{outcome=\"written\"} ";
    page.text().lines().find_map(|line| line.strip_prefix(sample)?.parse().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_proxy_sends_every_client_straight_home() {
    story(World::plan(5), async |world| {
        let mut first = program(world).await;
        let mut clients = Vec::new();
        for i in 0..USERS {
            clients.push(log_in_at(&first, world, &format!("user{i}")).await);
        }
        until_at_least("changes written", 2.0 * USERS as f64, async || written(&first).await).await;
        first.signal("KILL");
        first.ended().await;
        let mut second = program(world).await;
        for (token, home) in &clients {
            let answer = get_user_by_token(second.client().without_cookies(), token).await;
            assert_eq!((answer.status, world.saw(&answer)), (200, vec![home.as_str()]), "no other pod was asked");
        }
        assert!(!second.log().contains("moved aside"), "{}", second.log());
        second.signal("TERM");
        second.ended().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_file_is_moved_aside() {
    story(World::plan(2), async |world| {
        let mut first = program(world).await;
        let (token, _) = log_in_at(&first, world, "alice").await;
        first.signal("TERM");
        assert_eq!(first.ended().await.code(), Some(0));
        let length = fs::metadata(file_of(world)).expect("the file").len() as usize;
        fs::write(file_of(world), vec![0x5a; length]).expect("written");
        let mut second = program(world).await;
        assert_eq!(second.log().matches("moved aside").count(), 1, "{}", second.log());
        assert_eq!(get_user_by_token(second.client().without_cookies(), &token).await.status, 200);
        second.signal("TERM");
        assert_eq!(second.ended().await.code(), Some(0));
        let aside = world.folder().join("state/pins.corrupt");
        assert_eq!(fs::read(aside).expect("what was moved aside"), vec![0x5a; length]);
        let mut third = program(world).await;
        assert!(!third.log().contains("moved aside"), "the new file is whole");
        third.signal("TERM");
        third.ended().await;
    })
    .await;
}
