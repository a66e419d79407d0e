//! Every endpoint that the proxy repeats by its key or ends sessions by, in every spelling, by every caller.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use http::{HeaderName, HeaderValue, Method};
use jellyfin_sim::Generation;
use serde_json::json;

use crate::stories::{
    migration::{client_of, kill, plan, revocation::at_home, start_again},
    redis_server::RedisServer,
    replicas,
    world::{Answer, Client, Plan, Proxy, World, body_of, story},
};

/// What is done to bob: a method, a target in which `{…}` stands for names, and a header besides.
type Attack = (Method, &'static str, Option<(&'static str, &'static [u8])>);

const ATTACKS: &[Attack] = &[
    // A password, by the query.
    (Method::POST, "/Users/Password?userId={bob}", None),
    (Method::POST, "/Users/Password?userId=&userId={bob}", None),
    (Method::POST, "/Users/Password?userId={own}&userId={bob}", None),
    (Method::POST, "/Users/Password?userId={bob}&userId={own}", None),
    (Method::POST, "/Users/Password?userId={bob}&userId=", None),
    (Method::POST, "/Users/Password?userId=&USERID={bob}", None),
    (Method::POST, "/Users/Password?userId=&%75serId={bob}", None),
    (Method::POST, "/Users/Password?USERID={bob}", None),
    (Method::POST, "/Users/Password?%75serId={bob}", None),
    (Method::POST, "/Users/Password?userId%3D{bob}", None),
    (Method::POST, "/Users/Password?userId%3D{bob}%26x", None),
    (Method::POST, "/Users/Password?userId={own}%26userId%3D{bob}", None),
    (Method::POST, "/Users/Password?userId=%7B{bob-dashed}%7D", None),
    (Method::POST, "/Users/Password?userId=%28{bob-dashed}%29", None),
    (Method::POST, "/Users/Password?userId=%20{bob}", None),
    (Method::POST, "/Users/Password?userId=+{bob}+", None),
    (Method::POST, "/Users/Password?userId={bob-dashed}", None),
    (Method::POST, "/Users/Password?userId={bob};userId={own}", None),
    (Method::POST, "/Users/Password?userId={bob}%00", None),
    (Method::POST, "/Users/Password/?userId={bob}", None),
    // A password, by the path.
    (Method::POST, "/Users/{bob}/Password", None),
    (Method::POST, "/Users/{bob}/Password?userId={own}", None),
    (Method::POST, "/%55sers/{bob}/Password", None),
    (Method::POST, "/Users/{bob}/%50assword", None),
    (Method::POST, "/users//{bob}/Password", None),
    (Method::POST, "//Users/{bob}/Password", None),
    (Method::POST, "/Users/{bob}//Password", None),
    (Method::POST, "/Users/{own}/../{bob}/Password", None),
    (Method::POST, "/Users/{own}/%2e%2e/{bob}/Password", None),
    (Method::POST, "/Users/{own}%2F..%2F{bob}/Password", None),
    (Method::POST, "/x/../Users/{bob}/Password", None),
    (Method::POST, "/emby/Users/{bob}/Password", None),
    (Method::POST, "/MediaBrowser/Users/{bob}/Password", None),
    (Method::POST, "/emby/emby/Users/{bob}/Password", None),
    (Method::POST, "/Users/%7B{bob-dashed}%7D/Password", None),
    (Method::POST, "/Users/{bob};x/Password", None),
    (Method::POST, "/Users/{bob}/Password", Some(("x-y", b"\xff\xfe"))),
    (Method::POST, "/Users/{bob}/Password", Some(("connection", b"close, authorization"))),
    (Method::POST, "/Users/{bob}/Password", Some(("x-http-method-override", b"GET"))),
    // The user himself.
    (Method::DELETE, "/Users/{bob}", None),
    (Method::DELETE, "/Users//{bob}", None),
    (Method::DELETE, "//Users/{bob}", None),
    (Method::DELETE, "/%55sers/{bob-dashed}", None),
    (Method::DELETE, "/Users/{bob}/", None),
    (Method::DELETE, "/Users/{bob}//", None),
    (Method::DELETE, "/emby/Users/{bob}", None),
    (Method::DELETE, "/x/%2e%2e/Users/{bob}", None),
    (Method::DELETE, "/Users/%7B{bob-dashed}%7D", None),
    (Method::DELETE, "/Users/{bob}", Some(("x-y", b"\xff\xfe"))),
    (Method::DELETE, "/Users/{bob}", Some(("user-agent", b"\xff\xfe"))),
    (Method::POST, "/Users/{bob}/Policy", None),
    (Method::POST, "//Users/{bob}/Policy", None),
    (Method::POST, "/Users/{bob}/%50olicy", None),
    // The user's devices.
    (Method::DELETE, "/Devices?id={device}", None),
    (Method::DELETE, "//Devices?id={device}", None),
    (Method::DELETE, "/Devices/?id={device}", None),
    (Method::DELETE, "/Devices//?id={device}", None),
    (Method::DELETE, "/Devices?ID={device}", None),
    (Method::DELETE, "/Devices?%69d={device}", None),
    (Method::DELETE, "/Devices?id=&id={device}", None),
    (Method::DELETE, "/Devices?id=none&id={device}", None),
    (Method::DELETE, "/Devices?id%3D{device}", None),
    (Method::DELETE, "/emby/Devices?id={device}", None),
    (Method::DELETE, "/mediabrowser/Devices?id={device}", None),
    (Method::DELETE, "/%44evices?id={device}", None),
    (Method::DELETE, "/x/../Devices?id={device}", None),
    (Method::DELETE, "/./Devices?id={device}", None),
    (Method::DELETE, "/Devices%2F?id={device}", None),
    (Method::DELETE, "/Devices?id={device}", Some(("x-y", b"\xff\xfe"))),
    (Method::DELETE, "/Devices?id={device}", Some(("user-agent", b"\xff\xfe"))),
    (Method::DELETE, "/Devices?id={device}", Some(("authorization", b"MediaBrowser Token=\"x\""))),
    // What is not theirs to end, or to begin.
    (Method::POST, "/QuickConnect/Authorize?code={code}&userId={bob}", None),
    (Method::POST, "/QuickConnect/Authorize?code={code}&userId=&userId={bob}", None),
    (Method::POST, "/QuickConnect/Authorize?code={code}&userId={own}&userId={bob}", None),
    (Method::POST, "/QuickConnect/Authorize?code={code}&USERID={bob}&userId={own}", None),
    (Method::POST, "/QuickConnect/Authorize?code={code}%26userId%3D{bob}", None),
    (Method::POST, "/QuickConnect/Authorize?code={code}&userId=%7B{bob-dashed}%7D", None),
    (Method::POST, "//QuickConnect/Authorize?code={code}&userId={bob}", None),
    (Method::POST, "/emby/QuickConnect/Authorize?code={code}&userId={bob}", None),
    (Method::POST, "/Sessions/Logout?deviceId={device}", None),
    (Method::OPTIONS, "/Devices?id={device}", None),
    (Method::OPTIONS, "/Users/{bob}", None),
    (Method::PUT, "/Users/{bob}/Password", None),
];

/// Who attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Caller {
    /// Without a token.
    Nobody,
    /// With one that no pod ever made.
    MadeUp,
    /// A user without rights.
    User,
    /// One whose account is disabled.
    Disabled,
    /// One whose row another pod has deleted.
    Stale,
}

const CALLERS: [Caller; 5] = [Caller::Nobody, Caller::MadeUp, Caller::User, Caller::Disabled, Caller::Stale];

/// The users that no attacker may harm.
struct Victims {
    clients: Vec<(&'static str, Client)>,
}

impl Victims {
    async fn sign_in(world: &World) -> Victims {
        let mut clients = Vec::new();
        for (user, pod) in [("bob", "a"), ("bob", "b"), ("root", "a"), ("root", "b")] {
            clients.push((user, at_home(world, user, pod).await));
        }
        Victims { clients }
    }

    /// A device of bob's.
    fn device(&self) -> String {
        self.clients[0].1.device.clone().expect("a device").replace(' ', "%20")
    }

    /// How many of them are logged out, by the proxy's word.
    async fn logged_out(&mut self) -> usize {
        let asked = self.clients.iter_mut().map(|(_, client)| client.get("/Users/Me"));
        join_all(asked).await.iter().filter(|answer| answer.status != 200).count()
    }
}

/// Requests that bear the API key and are not for a mint or a question of the proxy's own.
fn acts_by_key(world: &World, code: &str) -> Vec<String> {
    let key = world.cluster.api_key();
    // A pod that came back is asked whether it writes the catalogue, with an empty list of changes.
    let is_question = |seen: &jellyfin_sim::Seen| {
        seen.path() == "/Library/Media/Updated"
            && seen.header("content-length").is_some_and(|length| length == r#"{"Updates":[]}"#.len().to_string())
    };
    let is_act = |seen: &jellyfin_sim::Seen| {
        !is_question(seen)
            && seen.header("authorization").is_some_and(|line| line.contains(&key))
            && seen.method != Method::GET
            && (seen.path() != "/QuickConnect/Authorize"
                || (seen.target.contains(code) && seen.target.contains(&world.cluster.user_id("bob").expect("bob"))))
    };
    world
        .pods
        .iter()
        .flat_map(|pod| pod.seen())
        .filter(is_act)
        .map(|seen| format!("{} {}", seen.method, seen.target))
        .collect()
}

async fn send(
    client: &mut Client,
    attack: &Attack,
    names: &BTreeMap<&str, String>,
    own: &str,
) -> Result<Answer, String> {
    let (method, target, header) = attack;
    let filled =
        names.iter().fold((*target).to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value));
    let filled = filled.replace("{own}", own);
    let mut request = client.request(method.clone(), &filled).header("content-type", "application/json");
    if let Some((name, value)) = header {
        let (name, value) = (HeaderName::from_static(name), HeaderValue::from_bytes(value).expect("a value"));
        request = request.header(name, value);
    }
    // Password and policy in one: each endpoint reads what is its own.
    let body = json!({"CurrentPw": "alice-pw", "NewPw": "stolen", "IsDisabled": true});
    client.send(request, body_of(body.to_string())).await.map_err(|failed| format!("{failed:?}"))
}

fn is_harmless_to_its_caller(attack: &Attack) -> bool {
    // A logout, and a request that names its own caller, end the caller's own sessions.
    !attack.1.contains("Logout")
        && !attack.1.contains("userId=&")
        && !attack.1.contains("{own}")
        && !attack.1.contains("userId%3D")
}

async fn attacker(world: &World, caller: Caller, number: usize) -> Client {
    let key = world.cluster.api_key();
    match caller {
        Caller::Nobody => world.client().without_cookies(),
        Caller::MadeUp => {
            let mut client = world.client().without_cookies().device("nowhere");
            client.token = Some(format!("{number:032x}"));
            client
        }
        Caller::User => at_home(world, "alice", "a").await,
        Caller::Disabled => {
            let user = format!("user{}", 100 + number % 800);
            let (client, _) = client_of(world, &user, &format!("disabled {number}")).await;
            let id = world.cluster.user_id(&user).expect("a user");
            let mut by_key = world.client().without_cookies().at(world.pod("a"));
            assert_eq!(
                by_key.post(&format!("/Users/{id}/Policy?ApiKey={key}"), json!({"IsDisabled": true})).await.status,
                204
            );
            client
        }
        Caller::Stale => {
            let client = at_home(world, "alice", "a").await;
            // A pod that does not know the row deletes it behind the other's back.
            world.cluster.delete_row(client.token.as_deref().expect("a token"));
            client
        }
    }
}

/// Every attack by every caller; the table, and what it came to.
async fn attack_all(world: &World, proxy: &Proxy, state: &str, victims: &mut Victims) {
    let alice = world.cluster.user_id("alice").expect("alice");
    let bob = world.cluster.user_id("bob").expect("bob");
    let dashed = format!("{}-{}-{}-{}-{}", &bob[..8], &bob[8..12], &bob[12..16], &bob[16..20], &bob[20..]);
    let mut table: BTreeMap<(Caller, u16), usize> = BTreeMap::new();
    for caller in CALLERS {
        let mut client = attacker(world, caller, 0).await.moved_to(proxy);
        for (number, attack) in ATTACKS.iter().enumerate() {
            let mut device = world.client().without_cookies().device(&format!("tv {number}")).moved_to(proxy);
            let code = device.post("/QuickConnect/Initiate", json!({})).await.json();
            let names = BTreeMap::from([
                ("bob", bob.clone()),
                ("bob-dashed", dashed.clone()),
                ("device", victims.device()),
                ("code", code["Code"].as_str().expect("a code").to_owned()),
            ]);
            world.pods.iter().for_each(jellyfin_sim::Pod::clear_seen);
            let status = send(&mut client, attack, &names, &alice).await.map_or(0, |answer| answer.status);
            *table.entry((caller, status)).or_default() += 1;
            let what = format!("{state}, {caller:?}: {} {} {:?} -> {status}", attack.0, attack.1, attack.2);
            let own_password = format!("/Users/Password?userId={alice}");
            let mut acts = acts_by_key(world, &names["code"]);
            // A user may ask this for the own account.
            acts.retain(|act| !act.contains(&own_password));
            assert!(acts.is_empty(), "{what}: the key did {acts:?}");
            assert_eq!(victims.logged_out().await, 0, "{what}");
            let authorized = device
                .get(&format!("/QuickConnect/Connect?secret={}", code["Secret"].as_str().expect("a secret")))
                .await;
            if authorized.json()["Authenticated"] == true {
                let log_in =
                    device.post("/Users/AuthenticateWithQuickConnect", json!({"Secret": code["Secret"]})).await;
                assert_eq!(log_in.json()["User"]["Name"], "alice", "{what}: a device of bob's");
            }
            if !is_harmless_to_its_caller(attack) || client.get("/Users/Me").await.status != 200 {
                client = attacker_again(world, caller, number + 1, proxy).await;
            }
        }
    }
    for user in ["bob", "root"] {
        let mut fresh = world.client().without_cookies().device(&format!("fresh of {user} {state}")).moved_to(proxy);
        fresh.log_in(user).await;
    }
    println!(
        "{state}: {} attacks by {} callers: acts by the key 0, log-outs of others 0; {table:?}",
        ATTACKS.len(),
        CALLERS.len()
    );
}

async fn attacker_again(world: &World, caller: Caller, number: usize, proxy: &Proxy) -> Client {
    // A password that the caller has changed is put back.
    let alice = world.cluster.user_id("alice").expect("alice");
    world.cluster.set_password(&alice, "alice-pw");
    attacker(world, caller, number).await.moved_to(proxy)
}

fn attacked(generation: Generation) -> Plan {
    plan(2).build(move |pod| pod.generation(generation))
}

async fn attack_all_of(generation: Generation) {
    story(attacked(generation), async |world| {
        let mut victims = Victims::sign_in(world).await;
        attack_all(world, &world.proxy, &format!("{generation:?}, all pods up"), &mut victims).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_request_uses_the_key() {
    attack_all_of(Generation::V12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_request_uses_the_key_on_10_11() {
    attack_all_of(Generation::V10_11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_uses_the_key_while_the_home_is_down() {
    story(attacked(Generation::V12), async |world| {
        let mut victims = Victims::sign_in(world).await;
        let mut mallory = at_home(world, "alice", "a").await;
        kill(world, "a").await;
        let names = names_of(world, &victims);
        let alice = world.cluster.user_id("alice").expect("alice");
        for attack in ATTACKS.iter().filter(|attack| is_harmless_to_its_caller(attack)) {
            world.pods.iter().for_each(jellyfin_sim::Pod::clear_seen);
            let _ = send(&mut mallory, attack, &names, &alice).await;
            assert_eq!(acts_by_key(world, &names["code"]), [""; 0], "{} {}", attack.0, attack.1);
            assert_eq!(victims.logged_out().await, 0, "{} {}", attack.0, attack.1);
        }
        start_again(world, "a").await;
        for attack in ATTACKS.iter().filter(|attack| is_harmless_to_its_caller(attack)) {
            world.pods.iter().for_each(jellyfin_sim::Pod::clear_seen);
            let _ = send(&mut mallory, attack, &names, &alice).await;
            assert_eq!(acts_by_key(world, &names["code"]), [""; 0], "{} {}", attack.0, attack.1);
            assert_eq!(victims.logged_out().await, 0, "{} {}", attack.0, attack.1);
        }
        println!("home away, home back: {} attacks each, acts by the key 0, log-outs of others 0", ATTACKS.len());
    })
    .await;
}

fn names_of(world: &World, victims: &Victims) -> BTreeMap<&'static str, String> {
    let bob = world.cluster.user_id("bob").expect("bob");
    let dashed = format!("{}-{}-{}-{}-{}", &bob[..8], &bob[8..12], &bob[12..16], &bob[16..20], &bob[20..]);
    BTreeMap::from([("bob", bob), ("bob-dashed", dashed), ("device", victims.device()), ("code", "123456".to_owned())])
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_uses_the_key_at_another_replica() {
    let redis = RedisServer::start();
    story(replicas::plan(2, &redis).with_api_key(), async |world| {
        let other = replicas::replica(world, |_| {}).await;
        let mut victims = Victims::sign_in(world).await;
        let mut mallory = at_home(world, "alice", "a").await.moved_to(&other);
        let names = names_of(world, &victims);
        let alice = world.cluster.user_id("alice").expect("alice");
        for attack in ATTACKS.iter().filter(|attack| is_harmless_to_its_caller(attack)) {
            world.pods.iter().for_each(jellyfin_sim::Pod::clear_seen);
            let _ = send(&mut mallory, attack, &names, &alice).await;
            assert_eq!(acts_by_key(world, &names["code"]), [""; 0], "{} {}", attack.0, attack.1);
            assert_eq!(victims.logged_out().await, 0, "{} {}", attack.0, attack.1);
        }
    })
    .await;
}
