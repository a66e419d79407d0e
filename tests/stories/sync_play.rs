//! SyncPlay between clients of different pods: they come to live on the leader, and each hears what its group does.

mod clock;
pub(super) mod drain;
pub(super) mod outlives;
mod replicas;
mod sockets;

use jellypin::sessions::SessionLookup;
use serde_json::{Value, json};

use super::migration::sockets::{next_of, socket_of};
use super::migration::{client_of, plan};
use super::world::{Answer, Client, Socket, Visitors, World, story, until};

pub(super) struct Member {
    pub(super) client: Client,
    socket: Socket,
    home: String,
}

impl Member {
    async fn new(world: &World, number: usize) -> Member {
        let (client, home) = client_of(world, &format!("user{number}"), &format!("device {number}")).await;
        let socket = socket_of(world, client.token.as_deref().expect("a token")).await;
        Member { client, socket, home }
    }

    pub(super) async fn does(&mut self, what: &str, body: Value) -> Answer {
        self.client.post(&format!("/SyncPlay/{what}"), body).await
    }

    /// Waits for an update of the group.
    async fn hears(&mut self, kind: &str) -> Value {
        loop {
            let update = next_of(&mut self.socket, "SyncPlayGroupUpdate").await;
            if update["Data"]["Type"] == kind {
                return update["Data"].clone();
            }
        }
    }

    /// Waits for a command.
    async fn is_told(&mut self, command: &str) -> Value {
        loop {
            let told = next_of(&mut self.socket, "SyncPlayCommand").await;
            if told["Data"]["Command"] == command {
                return told["Data"].clone();
            }
        }
    }
}

/// A group of so many, made by the first.
async fn group(members: &mut [Member]) -> String {
    let (first, others) = members.split_first_mut().expect("a member");
    let new = first.does("New", json!({"GroupName": "evening"})).await;
    assert_eq!(new.status, 200, "{}", new.text());
    let id = new.json()["GroupId"].as_str().expect("an id").to_owned();
    first.hears("GroupJoined").await;
    for member in others {
        assert_eq!(member.does("Join", json!({"GroupId": id})).await.status, 204);
        member.hears("GroupJoined").await;
        first.hears("UserJoined").await;
    }
    id
}

async fn evening(count: usize) {
    story(plan(3), async |world| {
        let leader = world.leader().await;
        let visitors = Visitors::sign_in(6, |_| world.client()).await;
        let mut members = Vec::new();
        for number in 0..count {
            members.push(Member::new(world, number).await);
        }
        let strangers = members.iter().filter(|member| member.home != leader).count();
        assert!(strangers > 0, "somebody lives elsewhere");
        group(&mut members).await;
        let queue = json!({"PlayingQueue": [jellyfin_sim::FILM], "PlayingItemPosition": 0, "StartPositionTicks": 0});
        assert_eq!(members[0].does("SetNewQueue", queue).await.status, 204);
        for member in &mut members {
            member.hears("PlayQueue").await;
            assert_eq!(member.does("Ping", json!({"Ping": 20})).await.status, 204);
        }
        for (what, body) in
            [("Unpause", json!({})), ("Pause", json!({})), ("Seek", json!({"PositionTicks": 100_000_000}))]
        {
            let last = members.len() - 1;
            assert_eq!(members[last].does(what, body).await.status, 204);
            let mut told = Vec::new();
            for member in &mut members {
                told.push(member.is_told(what).await["When"].clone());
            }
            assert!(told.iter().all(|when| *when == told[0]), "{what}: {told:?}");
        }
        for member in &mut members {
            let time = member.client.get("/GetUtcTime").await;
            assert_eq!((time.status, world.home(&time)), (200, leader.as_str()), "the clock that stamps the commands");
        }
        // A member that leaves goes on as before.
        assert_eq!(members[0].does("Leave", json!({})).await.status, 204);
        members[0].hears("GroupLeft").await;
        assert_eq!(members[0].client.get("/Users/Me").await.status, 200);
        visitors.leave(&format!("{count} members watching together")).await;
        println!("{count} members, {strangers} of them from other pods: each heard each command once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_of_different_pods_watch_together() {
    evening(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_clients_of_three_pods_watch_together() {
    evening(20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_groups_moves_no_client() {
    story(plan(3), async |world| {
        let leader = world.leader().await;
        let (mut stranger, mut members) = stranger_and_others(world, &leader).await;
        let list = stranger.client.get("/SyncPlay/List").await;
        assert_eq!((list.status, list.text(), world.home(&list)), (200, "[]", stranger.home.as_str()));
        group(&mut members[..1]).await;
        let list = stranger.client.get("/SyncPlay/List").await;
        assert_eq!(list.json()[0]["GroupName"], "evening");
        let id = list.json()[0]["GroupId"].as_str().expect("an id").to_owned();
        assert_eq!(stranger.client.get(&format!("/SyncPlay/{id}")).await.status, 200);
        let me = stranger.client.get("/Users/Me").await;
        assert_eq!((me.status, world.home(&me)), (200, stranger.home.as_str()), "who looks moves nowhere");
    })
    .await;
}

/// A member that lives elsewhere than on the leader, and some others.
async fn stranger_and_others(world: &World, leader: &str) -> (Member, Vec<Member>) {
    let mut members = Vec::new();
    for number in 0..6 {
        members.push(Member::new(world, number).await);
    }
    let at = members.iter().position(|member| member.home != leader).expect("somebody lives elsewhere");
    (members.remove(at), members)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_users_empty_list_hides_no_group() {
    story(plan(3), async |world| {
        let leader = world.leader().await;
        let (mut stranger, mut members) = stranger_and_others(world, &leader).await;
        let mut restricted = members.pop().expect("a member");
        let mut root = world.client().without_cookies();
        root.log_in("root").await;
        let user = world.cluster.user_id("user5").expect("a user");
        let policy = json!({"EnableAllFolders": false});
        assert_eq!(root.post(&format!("/Users/{user}/Policy"), policy).await.status, 204);
        let id = group(&mut members[..1]).await;
        let queue = json!({"PlayingQueue": [jellyfin_sim::FILM], "PlayingItemPosition": 0, "StartPositionTicks": 0});
        assert_eq!(members[0].does("SetNewQueue", queue).await.status, 204);
        let list = restricted.client.get("/SyncPlay/List").await;
        assert_eq!((list.status, list.text()), (200, "[]"));
        let list = stranger.client.get("/SyncPlay/List").await;
        assert_eq!((list.status, list.json()[0]["GroupId"].as_str()), (200, Some(id.as_str())));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_groups_plays_nothing_on_the_leader() {
    story(plan(3), async |world| {
        let leader = world.leader().await;
        let (mut stranger, mut members) = stranger_and_others(world, &leader).await;
        group(&mut members[..1]).await;
        let capabilities = json!({"SupportedCommands": ["DisplayMessage"], "SupportsMediaControl": true});
        assert_eq!(stranger.client.post("/Sessions/Capabilities/Full", capabilities).await.status, 204);
        let report = json!({"ItemId": jellyfin_sim::FILM, "PositionTicks": 1});
        assert_eq!(stranger.client.post("/Sessions/Playing", report).await.status, 204);
        for _ in 0..3 {
            assert_eq!(stranger.client.get("/SyncPlay/List").await.json()[0]["GroupName"], "evening");
            let led = world.pod(&leader);
            led.until(|pod| pod.seen().iter().any(|seen| seen.path() == "/Sessions/Capabilities/Full")).await;
            assert!(
                !led.seen().iter().any(|seen| seen.path().starts_with("/Sessions/Playing")),
                "a player that is none"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_groups_leaves_no_session_on_the_leader() {
    story(plan(3), async |world| {
        let leader = world.leader().await;
        let (mut stranger, mut members) = stranger_and_others(world, &leader).await;
        let capabilities = json!({"SupportedCommands": ["DisplayMessage"], "SupportsMediaControl": true});
        assert_eq!(stranger.client.post("/Sessions/Capabilities/Full", capabilities).await.status, 204);
        group(&mut members[..1]).await;
        let id = stranger.client.get("/SyncPlay/List").await.json()[0]["GroupId"].as_str().expect("an id").to_owned();
        let device = stranger.client.device.clone().expect("a device");
        let is_shown = |pod: &jellyfin_sim::Pod| pod.session_devices().contains(&device);
        world.pod(&leader).until(|pod| !is_shown(pod)).await;
        for path in ["/SyncPlay/List", &format!("/SyncPlay/{id}"), "/SyncPlay/List"] {
            let list = stranger.client.get(path).await;
            assert_eq!((list.status, world.home(&list)), (200, leader.as_str()));
            world.pod(&leader).until(|pod| !is_shown(pod)).await;
        }
        assert!(is_shown(world.pod(&stranger.home)), "it is where it lives");
        assert!(world.pod(&leader).session_devices().contains(&members[0].client.device.clone().expect("a device")));
        // And it can come to the group all the same.
        assert_eq!(stranger.does("Join", json!({"GroupId": id})).await.status, 204);
        stranger.hears("GroupJoined").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_plays_what_its_founder_played() {
    story(plan(3), async |world| {
        let leader = world.leader().await;
        let (mut stranger, _others) = stranger_and_others(world, &leader).await;
        let (film, position) = (jellyfin_sim::FILM, 70_000_000);
        let report = json!({
            "ItemId": film, "PositionTicks": position, "IsPaused": true,
            "NowPlayingQueue": [{"Id": film, "PlaylistItemId": "playlistItem0"}],
        });
        assert_eq!(stranger.client.post("/Sessions/Playing", report).await.status, 204);
        assert_eq!(stranger.does("New", json!({"GroupName": "evening"})).await.status, 200);
        let queue = stranger.hears("PlayQueue").await;
        assert_eq!(
            (&queue["Data"]["Playlist"][0]["ItemId"], &queue["Data"]["StartPositionTicks"]),
            (&json!(film), &json!(position))
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_socket_follows_its_client_to_the_leader() {
    story(plan(3), async |world| {
        let leader = world.leader().await;
        let elsewhere = world.pods_but(&leader).next().expect("another pod");
        // The proxy does not see the log-in, and a socket says nothing of its device.
        let mut direct = world.client().device("a device").at(elsewhere);
        assert_eq!(direct.log_in("alice").await.status, 200);
        let mut socket = socket_of(world, direct.token.as_deref().expect("a token")).await;
        let mut client = direct.moved_to(&world.proxy);
        drop(direct);
        let token = client.token.clone().expect("a token");
        let shared = world.proxy.shared();
        assert!(matches!(shared.sessions.known.find(&token), SessionLookup::Unknown));
        assert_eq!(client.get("/Users/Me").await.status, 200);
        until("the client is known", || matches!(shared.sessions.known.find(&token), SessionLookup::Active(_))).await;
        let SessionLookup::Active(session) = shared.sessions.known.find(&token) else { panic!("it was known") };
        until("its socket is known", || session.sockets.places().borrow().len() == 1).await;
        assert_eq!(client.post("/SyncPlay/New", json!({"GroupName": "evening"})).await.status, 200);
        while next_of(&mut socket, "SyncPlayGroupUpdate").await["Data"]["Type"] != "GroupJoined" {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_key_a_group_stays_on_its_pod() {
    story(World::plan(3), async |world| {
        let leader = world.leader().await;
        for number in 0.. {
            let mut member = Member::new(world, number).await;
            if member.home == leader {
                continue;
            }
            assert_eq!(member.does("New", json!({"GroupName": "alone"})).await.status, 200);
            member.hears("GroupJoined").await;
            assert_eq!(
                world.proxy.metric("jellypin_migration_requirements_missing", &[("what", "sync_play")]).await,
                1.0
            );
            let log_in = member.client.log_in(&format!("user{number}")).await;
            assert_eq!(world.home(&log_in), leader);
            break;
        }
    })
    .await;
}
