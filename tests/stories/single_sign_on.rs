//! Single sign-on by a plug-in: its state is in one pod's memory, and the browser comes back from another site without any cookie.

use http::Method;
use jellypin::pod::State;
use serde_json::json;

use super::migration::{client_of, kill};
use super::world::{Answer, Client, Plan, World, body_of, story, until_so};

fn plan(pods: usize) -> Plan {
    World::plan(pods).build(|pod| pod.single_sign_on(true))
}

/// A browser that has not been here: it brings no cookie and no token.
fn browser(world: &World) -> Client {
    world.client().without_cookies()
}

/// Begins a flow; gives its state, by the provider's address that the browser is sent to.
async fn begin_flow(world: &World, path: &str) -> String {
    let sent = browser(world).get(path).await;
    assert_eq!(sent.status, 302, "{}", sent.text());
    let (_, state) = sent.header("location").split_once("&state=").expect("a state");
    state.split('&').next().expect("a state").to_owned()
}

/// The provider sends the browser back.
async fn come_back(world: &World, state: &str, user: &str) -> Answer {
    browser(world).get(&format!("/sso/OID/redirect/idp?code={user}&state={state}")).await
}

/// What the page posts that the browser has got there.
async fn finish(world: &World, mode: &str, data: &str, device: &str) -> Answer {
    let body = json!({
        "deviceId": device, "appName": "Jellyfin Web", "appVersion": "12.0.0", "deviceName": "Chrome", "data": data,
    });
    browser(world).post(&format!("/sso/{mode}/Auth/idp"), body).await
}

async fn sign_in(world: &World, user: &str, device: &str) -> (Client, Answer) {
    let state = begin_flow(world, "/sso/OID/start/idp").await;
    let page = come_back(world, &state, user).await;
    assert_eq!((page.status, page.text().contains(&state)), (200, true), "{}", page.text());
    assert_eq!(page.set_cookie(), None, "who looks at a page of the leader does not live there");
    let log_in = finish(world, "OID", &state, device).await;
    assert_eq!(log_in.status, 200, "{}", log_in.text());
    let mut client = browser(world).device(device);
    client.token = log_in.json()["AccessToken"].as_str().map(str::to_owned);
    (client, log_in)
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_users_sign_in_without_cookies() {
    story(plan(3), async |world| {
        let leader = world.leader().await;
        for number in 0..40 {
            let (mut client, log_in) = sign_in(world, "alice", &format!("browser {number}")).await;
            let cookie = log_in.set_cookie().expect("the log-in binds");
            assert!(cookie.contains("SameSite=Strict"), "{cookie}");
            let me = client.get("/Users/Me").await;
            assert_eq!((me.status, world.home(&me)), (200, leader.as_str()));
            assert_eq!(me.json()["Name"], "alice");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_paths_and_saml_go_to_the_leader() {
    story(plan(3), async |world| {
        let leader = world.leader().await;
        let state = begin_flow(world, "/SSO/oid/p/idp").await;
        let page = browser(world).get(&format!("/sso/OID/r/idp?state={state}&code=bob")).await;
        assert_eq!(page.status, 200, "{}", page.text());
        for number in 0..10 {
            let names = browser(world).device(&format!("browser {number}")).get("/sso/OID/GetNames").await;
            assert_eq!((names.status, world.home(&names)), (200, leader.as_str()));
            let sent = browser(world).get("/sso/SAML/start/idp").await;
            assert_eq!((sent.status, world.home(&sent)), (302, leader.as_str()));
            let mut form = browser(world);
            let request = form.request(Method::POST, "/sso/SAML/post/idp");
            let page = form.send(request, body_of("SAMLResponse=bob")).await.expect("an answer");
            assert_eq!((page.status, world.home(&page)), (200, leader.as_str()));
            let log_in = finish(world, "SAML", "bob", &format!("browser {number}")).await;
            assert_eq!((log_in.status, world.home(&log_in)), (200, leader.as_str()));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_goes_on_where_it_began() {
    story(plan(3), async |world| {
        let first = world.leader().await;
        let state = begin_flow(world, "/sso/OID/start/idp").await;
        world.pod(&first).degrade(true);
        world.until_state(&first, State::Starting).await;
        world.pod(&first).degrade(false);
        world.until_state(&first, State::Ready).await;
        assert_ne!(world.leader().await, first);
        // Without another word of the pod, which has not ended, its state is there.
        assert_eq!(come_back(world, &state, "alice").await.status, 200);
        let log_in = finish(world, "OID", &state, "browser").await;
        assert_eq!((log_in.status, world.saw(&log_in).contains(&first.as_str())), (200, true));
        // One that drains gives up the lead, and has what it has begun.
        let now = world.leader().await;
        let state = begin_flow(world, "/sso/OID/start/idp").await;
        assert_eq!(world.proxy.post_admin(&format!("/pods/main/{now}/drain")).await.status, 202);
        until_so("another leads", async || world.leader().await != now).await;
        let page = come_back(world, &state, "alice").await;
        assert_eq!((page.status, world.home(&page)), (200, now.as_str()));
        let log_in = finish(world, "OID", &state, "browser").await;
        assert_eq!((log_in.status, world.home(&log_in)), (200, now.as_str()));
        assert_eq!(world.proxy.post_admin(&format!("/pods/main/{now}/undrain")).await.status, 202);
        // The one that dies takes it along, and says so as a pod does.
        let now = world.leader().await;
        let state = begin_flow(world, "/sso/OID/start/idp").await;
        kill(world, &now).await;
        assert_eq!(come_back(world, &state, "alice").await.status, 500);
        sign_in(world, "alice", "browser").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_of_another_replica_is_found() {
    story(plan(3), async |world| {
        let first = world.leader().await;
        let state = begin_flow(world, "/sso/OID/start/idp").await;
        // This one has another leader, and has not seen the flow begin.
        let other = world.replica(|_| {}).await;
        world.pod(&first).degrade(true);
        other.until_state(&first, State::Starting).await;
        world.pod(&first).degrade(false);
        other.until_state(&first, State::Ready).await;
        let page =
            other.client().without_cookies().get(&format!("/sso/OID/redirect/idp?code=alice&state={state}")).await;
        assert_eq!(page.status, 200, "{}", page.text());
        assert!(world.saw(&page).len() > 1, "its leader was asked first");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plug_ins_refusal_passes_unchanged() {
    story(plan(3), async |world| {
        let state = begin_flow(world, "/sso/OID/start/idp").await;
        let denied = browser(world).get(&format!("/sso/OID/redirect/idp?error=access_denied&state={state}")).await;
        assert_eq!((denied.status, world.saw(&denied).len()), (400, 1), "{}", denied.text());
        assert!(denied.text().contains("Try logging in again"));
        assert_eq!(browser(world).get("/sso/OID/start/nobody").await.status, 400);
        let made_up = finish(world, "OID", "made up", "browser").await;
        assert_eq!((made_up.status, made_up.header("content-type").starts_with("application/json")), (500, true));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn linking_an_account_moves_no_user() {
    story(plan(3).with_api_key(), async |world| {
        let leader = world.leader().await;
        let alice = world.cluster.user_id("alice").expect("alice");
        for number in 0..6 {
            let (mut client, home) = client_of(world, "alice", &format!("browser {number}")).await;
            let state = begin_flow(world, "/sso/OID/start/idp").await;
            assert_eq!(come_back(world, &state, "alice").await.status, 200);
            let linked = client.post(&format!("/sso/OID/Link/idp/{alice}"), json!({"data": state})).await;
            assert_eq!(linked.status, 204, "{}", linked.text());
            let me = client.get("/Users/Me").await;
            assert_eq!((me.status, world.home(&me)), (200, home.as_str()));
            if home != leader {
                let device = format!("browser {number}");
                world.pod(&leader).until(move |pod| !pod.session_devices().contains(&device)).await;
            }
        }
        let bob = world.cluster.user_id("bob").expect("bob");
        let (mut client, _) = client_of(world, "alice", "browser").await;
        let foreign = client.post(&format!("/sso/OID/Link/idp/{bob}"), json!({"data": "none"})).await;
        assert_eq!(foreign.status, 403);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_sign_on_session_outlives_the_leader() {
    story(plan(3).with_api_key(), async |world| {
        let leader = world.leader().await;
        let (mut client, _) = sign_in(world, "alice", "browser").await;
        kill(world, &leader).await;
        let me = client.get("/Users/Me").await;
        assert_eq!((me.status, me.json()["Name"].as_str()), (200, Some("alice")));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_paths_go_to_the_leader() {
    story(plan(3).leader_paths(&["/Branding"]), async |world| {
        let leader = world.leader().await;
        for number in 0..10 {
            let mut client = world.client().device(&format!("browser {number}"));
            let answer = client.get("/branding/Configuration").await;
            assert_eq!((answer.status, world.home(&answer), answer.set_cookie()), (200, leader.as_str(), None));
        }
    })
    .await;
}
