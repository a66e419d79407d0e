//! An ended session never works again: whatever ended it, at whichever replica, and whatever is restarted afterwards.

mod disconnects;
mod keys;
mod log_out;
mod pod_down;
mod pools;
mod rights;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use http::Method;
use jellyfin_sim::{FILM, Generation};
use serde_json::json;

use super::{client_of, kill, plan, start_again};
use crate::stories::{
    redis_server::RedisServer,
    replicas,
    world::{Client, Plan, Proxy, World, body_of, has_ended, story, until},
};

/// What ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    LogOut,
    DeviceDeleted,
    /// By another session of the same user, which goes on.
    OwnPassword,
    PasswordByRoot,
    UserDisabled,
    UserDeleted,
}

const ACTS: [Act; 6] =
    [Act::LogOut, Act::DeviceDeleted, Act::OwnPassword, Act::PasswordByRoot, Act::UserDisabled, Act::UserDeleted];

/// What has become of the session's first home when it is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Lives,
    IsDown,
    IsBack,
}

/// A session to be ended, and one of the same user that may end it.
struct Victim {
    act: Act,
    by_other: bool,
    client: Client,
    twin: Client,
    tokens: Vec<String>,
}

/// The proxies of a story: the world's own, and perhaps another replica.
struct Replicas<'w> {
    world: &'w mut World,
    other: Option<Proxy>,
}

impl Replicas<'_> {
    fn all(&self) -> impl Iterator<Item = &Proxy> {
        [&self.world.proxy].into_iter().chain(self.other.as_ref())
    }

    fn one(&self, other: bool) -> &Proxy {
        self.other.as_ref().filter(|_| other).unwrap_or(&self.world.proxy)
    }

    async fn until(&self, pod: &str, state: jellypin::pod::State) {
        join_all(self.all().map(|proxy| proxy.until_state(pod, state))).await;
    }

    async fn kill(&self, pod: &str) {
        kill(self.world, pod).await;
        self.until(pod, jellypin::pod::State::Down).await;
    }

    async fn start_again(&self, pod: &str) {
        start_again(self.world, pod).await;
        self.until(pod, jellypin::pod::State::Ready).await;
    }

    async fn restart(&mut self) {
        self.world.restart(|_| {}).await;
        if let Some(other) = self.other.take() {
            other.stop().await;
            self.other = Some(replicas::replica(self.world, |_| {}).await);
            replicas::until_up(&self.world.proxy).await;
        }
    }
}

/// Logs in on a device of its own whose home is this pod.
pub(crate) async fn at_home(world: &World, user: &str, pod: &str) -> Client {
    static NUMBERS: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..64 {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let (mut client, home) = client_of(world, user, &format!("{user} {pod} {number}")).await;
        if home == pod {
            return client;
        }
        assert_eq!(client.post("/Sessions/Logout", json!({})).await.status, 204);
    }
    panic!("no device is at home on {pod}");
}

async fn delete(client: &mut Client, path: &str) -> u16 {
    let request = client.request(Method::DELETE, path);
    client.send(request, body_of("")).await.expect("an answer").status
}

/// Ends the victim's session; gives the status.
async fn carry_out(victim: &mut Victim, replicas: &Replicas<'_>, root: &Client) -> u16 {
    let proxy = replicas.one(victim.by_other);
    let mut root = root.moved_to(proxy);
    let device = victim.client.device.clone().expect("a device");
    let user_of = |name: &str| replicas.world.cluster.user_id(name).expect("a user");
    let user = user_of(device.split(' ').next().expect("a user"));
    match victim.act {
        Act::LogOut => victim.client.moved_to(proxy).post("/Sessions/Logout", json!({})).await.status,
        Act::DeviceDeleted => delete(&mut root, &format!("/Devices?id={}", device.replace(' ', "%20"))).await,
        Act::OwnPassword => {
            let wish = json!({"CurrentPw": "pw", "NewPw": "new"});
            victim.twin.moved_to(proxy).post("/Users/Password", wish).await.status
        }
        Act::PasswordByRoot => {
            root.post(&format!("/Users/Password?userId={user}"), json!({"NewPw": "new"})).await.status
        }
        Act::UserDisabled => root.post(&format!("/Users/{user}/Policy"), json!({"IsDisabled": true})).await.status,
        Act::UserDeleted => delete(&mut root, &format!("/Users/{user}")).await,
    }
}

/// What works by this token: each demanding path with its status, and the image that anybody may see.
async fn try_all(replicas: &Replicas<'_>, victim: &Victim) -> (Vec<String>, bool) {
    let tokens = || victim.tokens.iter().enumerate();
    let each = replicas.all().enumerate().flat_map(|replica| tokens().map(move |token| (replica, token)));
    // A refused socket's answer is late on purpose: all are dialled at once.
    let tried = join_all(each.map(async |((nth, proxy), (age, token))| {
        let mut client = proxy.client().without_cookies();
        let socket = client.socket(&format!("/socket?ApiKey={token}&deviceId=d")).await;
        let by_query = client.get(&format!("/Items?ApiKey={token}")).await.status;
        let image = client.get(&format!("/Items/{FILM}/Images/Primary?ApiKey={token}")).await.status;
        client.token = Some(token.clone());
        client.device.clone_from(&victim.client.device);
        let by_header = client.get("/Users/Me").await.status;
        let ways = [
            ("/Users/Me", !matches!(by_header, 401 | 403)),
            ("/Items", !matches!(by_query, 401 | 403)),
            ("/socket", socket.is_ok()),
        ];
        let worked = ways.into_iter().filter(|(_, works)| *works);
        let worked = worked.map(|(what, _)| format!("{what} by token {age} through replica {nth}"));
        (worked.collect::<Vec<_>>(), image == 200)
    }))
    .await;
    let sees_image = tried.iter().all(|(_, sees_image)| *sees_image);
    (tried.into_iter().flat_map(|(worked, _)| worked).collect(), sees_image)
}

/// A cluster whose sessions are kept in Redis and shared by two replicas, or on one proxy's disk.
async fn replicas_of(world: &mut World, has_other: bool) -> Replicas<'_> {
    let other = if has_other {
        replicas::until_up(&world.proxy).await;
        Some(replicas::replica(world, |_| {}).await)
    } else {
        None
    };
    Replicas { world, other }
}

/// One world with a victim of each kind; prints a line for each and gives what worked.
async fn still_working(generation: Generation, home: Home, redis: Option<&RedisServer>) -> Vec<String> {
    let plan = match redis {
        Some(redis) => replicas::plan(2, redis).with_api_key(),
        None => plan(2).state_path("state"),
    };
    let plan = plan.build(move |pod| pod.generation(generation));
    story(plan, async |world| {
        let mut replicas = replicas_of(world, redis.is_some()).await;
        let root = at_home(replicas.world, "root", "b").await;
        let mut victims = Vec::new();
        for by_other in if redis.is_some() { vec![false, true] } else { vec![false] } {
            for act in ACTS {
                let user = format!("user{}", victims.len());
                let client = at_home(replicas.world, &user, "a").await;
                let twin = at_home(replicas.world, &user, "b").await;
                let tokens = vec![client.token.clone().expect("a token")];
                victims.push(Victim { act, by_other, client, twin, tokens });
            }
        }
        // Each replica has every session in memory.
        for proxy in replicas.all() {
            for victim in &victims {
                assert_eq!(victim.client.moved_to(proxy).get("/Users/Me").await.status, 200);
            }
        }
        if home != Home::Lives {
            replicas.kill("a").await;
            for victim in &mut victims {
                let before = replicas.world.cluster.tokens();
                assert_eq!(victim.client.get("/Users/Me").await.status, 200);
                let minted = replicas.world.cluster.tokens().into_iter().filter(|token| !before.contains(token));
                victim.tokens.extend(minted);
                assert_eq!(victim.tokens.len(), 2, "one was minted");
                let mut by_alias = replicas.world.client().without_cookies();
                assert_eq!(by_alias.get(&format!("/Items?ApiKey={}", victim.tokens[1])).await.status, 200);
            }
        }
        if home == Home::IsBack {
            replicas.start_again("a").await;
        }
        let mut sockets = Vec::new();
        for victim in &mut victims {
            let token = victim.tokens[0].clone();
            let mut there = replicas.one(!victim.by_other).client().without_cookies();
            sockets.push(there.socket(&format!("/socket?ApiKey={token}")).await.expect("a socket"));
        }
        let mut outcomes: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (number, victim) in victims.iter_mut().enumerate() {
            let status = carry_out(victim, &replicas, &root).await;
            if status != 204 {
                outcomes.entry(number).or_default().push(format!("it was answered with {status}"));
            }
        }
        // Its socket at the other replica ends as well.
        for (number, socket) in sockets.iter_mut().enumerate() {
            if !has_ended(socket).await {
                outcomes.entry(number).or_default().push("its socket stayed open".to_owned());
            }
        }
        drop(sockets);
        for stage in ["at once", "home gone", "home back", "other pod restarted", "proxies restarted"] {
            match stage {
                "home gone" if home != Home::IsDown => replicas.kill("a").await,
                "home back" => replicas.start_again("a").await,
                "other pod restarted" => {
                    replicas.kill("b").await;
                    replicas.start_again("b").await;
                }
                "proxies restarted" => replicas.restart().await,
                _ => {}
            }
            let tried = join_all(victims.iter().map(|victim| try_all(&replicas, victim))).await;
            for (number, (worked, sees_image)) in tried.into_iter().enumerate() {
                let of_victim = outcomes.entry(number).or_default();
                of_victim.extend(worked.into_iter().map(|worked| format!("{stage}: {worked}")));
                if !sees_image {
                    of_victim.push(format!("{stage}: no image"));
                }
            }
            for (number, victim) in victims.iter().enumerate().filter(|(_, victim)| victim.act == Act::OwnPassword) {
                for (nth, proxy) in replicas.all().enumerate() {
                    let status = victim.twin.moved_to(proxy).get("/Users/Me").await.status;
                    if status != 200 {
                        let what = format!("{stage}: the caller's own session is lost at replica {nth}: {status}");
                        outcomes.entry(number).or_default().push(what);
                    }
                }
            }
        }
        let kept = if redis.is_some() { "redis" } else { "disk" };
        let mut all = Vec::new();
        for (number, victim) in victims.iter().enumerate() {
            let worked = &outcomes[&number];
            let through = if victim.by_other { "other replica" } else { "this proxy" };
            let text = if worked.is_empty() { "nothing worked".to_owned() } else { worked.join("; ") };
            println!(
                "{:8} {kept:5} home {home:7?} {:15?} through {through:13}: {} tokens, {text}",
                generation.version(),
                victim.act,
                victim.tokens.len()
            );
            all.extend(worked.iter().map(|worked| format!("{:?} {through}: {worked}", victim.act)));
        }
        all
    })
    .await
}

async fn ended_sessions_stay_ended(generation: Generation, home: Home) {
    let redis = RedisServer::start();
    let shared = still_working(generation, home, Some(&redis));
    let (mut worked, on_disk) = tokio::join!(shared, still_working(generation, home, None));
    worked.extend(on_disk);
    assert!(worked.is_empty(), "{worked:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ended_before_its_home_dies_stays_ended() {
    ended_sessions_stay_ended(Generation::V12, Home::Lives).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ended_while_its_home_is_down_stays_ended() {
    ended_sessions_stay_ended(Generation::V12, Home::IsDown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ended_after_its_home_is_back_stays_ended() {
    ended_sessions_stay_ended(Generation::V12, Home::IsBack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ended_before_its_home_dies_stays_ended_on_10_11() {
    ended_sessions_stay_ended(Generation::V10_11, Home::Lives).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ended_while_its_home_is_down_stays_ended_on_10_11() {
    ended_sessions_stay_ended(Generation::V10_11, Home::IsDown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ended_after_its_home_is_back_stays_ended_on_10_11() {
    ended_sessions_stay_ended(Generation::V10_11, Home::IsBack).await;
}
