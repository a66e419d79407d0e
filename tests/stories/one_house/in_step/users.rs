//! A deleted user leaves no pod with a broken list of devices, and nobody else loses a session.

use http::Method;

use super::{act, acts_by_key, administrator, assert_done, at_each, house};
use crate::stories::one_house::devices_of;
use crate::stories::world::story;

#[tokio::test]
async fn a_deleted_user_leaves_every_list_of_devices_whole() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let mut bobs = devices_of(world, "bob", 8).await;
        let mut alices = devices_of(world, "alice", 4).await;
        let bob = world.cluster.user_id("bob").expect("bob");
        assert_done(&act(&mut root, Method::DELETE, &format!("/Users/{bob}")).await);
        for answer in at_each(world, "/Devices").await {
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(!answer.text().contains("bob-"), "{}", answer.text());
        }
        for device in &mut bobs {
            assert_eq!(device.get("/Users/Me").await.status, 401);
        }
        for device in &mut alices {
            assert_eq!(device.get("/Users/Me").await.status, 200);
        }
    })
    .await;
}

#[tokio::test]
async fn a_device_of_two_users_keeps_the_other_user_signed_in() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let mut bob = world.client().without_cookies().device("tv");
        bob.log_in("bob").await;
        let mut alice = world.client().without_cookies().device("tv");
        alice.log_in("alice").await;
        let id = world.cluster.user_id("bob").expect("bob");
        assert_done(&act(&mut root, Method::DELETE, &format!("/Users/{id}")).await);
        assert_eq!(alice.get("/Users/Me").await.status, 200);
        assert_eq!(bob.get("/Users/Me").await.status, 401);
    })
    .await;
}

#[tokio::test]
async fn a_user_that_cannot_be_deleted_is_signed_out_nowhere() {
    story(house(), async |world| {
        let mut root = administrator(world).await;
        let mut roots = devices_of(world, "root", 4).await;
        let nobody = "0123456789abcdef0123456789abcdef";
        assert_eq!(act(&mut root, Method::DELETE, &format!("/Users/{nobody}")).await.status, 404);
        for device in &mut roots {
            assert_eq!(device.get("/Users/Me").await.status, 200);
        }
        assert_eq!(acts_by_key(world), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn nobody_else_makes_pods_forget_a_users_devices() {
    story(house(), async |world| {
        let mut bobs = devices_of(world, "bob", 4).await;
        let mut alices = devices_of(world, "alice", 3).await;
        let bob = world.cluster.user_id("bob").expect("bob");
        for alice in &mut alices {
            assert_eq!(act(alice, Method::DELETE, &format!("/Users/{bob}")).await.status, 403);
        }
        for device in &mut bobs {
            assert_eq!(device.get("/Users/Me").await.status, 200);
        }
        assert_eq!(acts_by_key(world), [""; 0]);
    })
    .await;
}
