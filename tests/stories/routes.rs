//! Host and path give the pool.

use std::collections::BTreeSet;

use jellyfin_sim::Generation;
use serde_json::json;

use super::{
    migration::revocation::at_home,
    world::{Client, Plan, Settings, World, body_of, story},
};

const PUBLIC: &str = "/System/Info/Public";

/// Two pods, each in a pool of its own: `a` in `main`, `b` in `other`.
async fn two_pools(routes: impl FnOnce(&mut Settings)) -> World {
    let mut world = World::plan(2).start().await;
    let address = world.pod("b").address();
    world
        .restart(|settings| {
            settings.remove_pod("b");
            settings.pod_of("other", "b", address);
            routes(settings);
        })
        .await;
    world
}

fn at(world: &World, host: &str) -> Client {
    let mut client = world.client();
    client.host = host.to_owned();
    client
}

/// One host, of which the other pool has what lies below one path.
fn by_path(settings: &mut Settings) {
    settings.route_rest("main");
    settings.route_path("/_sim", "other");
}

#[tokio::test]
async fn the_host_gives_the_pool() {
    let world = two_pools(|settings| {
        settings.route_host("media.example.org", "main");
        settings.route_host("*.example.org", "other");
    });
    story(world.await, async |world| {
        let rows = [
            ("media.example.org", "a"),
            ("MEDIA.example.org:8096", "a"),
            ("media.example.org.", "a"),
            ("tv.example.org", "b"),
            ("a.b.example.org", "b"),
        ];
        for (host, pod) in rows {
            assert_eq!(world.home(&at(world, host).get(PUBLIC).await), pod, "{host}");
        }
        for host in ["example.org", "127.0.0.1", "media.example.org.evil", "xmedia.example.org.net"] {
            let answer = at(world, host).get(PUBLIC).await;
            assert_eq!((answer.status, answer.set_cookie()), (404, None), "{host}");
            assert!(world.saw(&answer).is_empty(), "{host}");
        }
        assert_eq!(world.proxy.metric("jellypin_rejected_total", &[("why", "no_route")]).await, 4.0);
    })
    .await;
}

#[tokio::test]
async fn the_longest_path_gives_the_pool() {
    story(two_pools(by_path).await, async |world| {
        let rows = [(PUBLIC, "a"), ("/_sim/status/200", "b"), ("/_SIM/status/200", "b"), ("/_simple", "a"), ("/", "a")];
        for (path, pod) in rows {
            assert_eq!(world.home(&world.client().get(path).await), pod, "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn pods_below_a_base_url_are_probed_and_pinned_like_others() {
    let plan = World::plan(3).build(|pod| pod.base_url("/jf")).base_path("/jf");
    story(plan, async |world| {
        assert_eq!(world.proxy.ask_admin("/ready").await.status, 200, "the checks ask below the base as well");
        let mut homes = BTreeSet::new();
        for number in 0..6 {
            let mut app = world.client().without_cookies().device(&format!("app {number}"));
            let log_in = json!({"Username": format!("user{number}"), "Pw": "pw"});
            let log_in = app.post("/jf/Users/AuthenticateByName", log_in).await;
            assert_eq!(log_in.status, 200);
            let home = world.home(&log_in).to_owned();
            let token = log_in.json()["AccessToken"].as_str().expect("a token").to_owned();
            app.token = Some(token.clone());
            assert_eq!(app.get("/jf/Users/Me").await.status, 200);
            // Nothing but the token.
            let answer = world.client().without_cookies().get(&format!("/JF/Items?ApiKey={token}")).await;
            assert_eq!((answer.status, world.home(&answer)), (200, &*home));
            homes.insert(home);
        }
        assert!(homes.len() > 1, "the apps are spread: {homes:?}");
    })
    .await;
}

#[tokio::test]
async fn two_pools_of_one_host_keep_their_cookies() {
    story(two_pools(by_path).await, async |world| {
        let mut browser = world.client().without_cookies();
        let main = browser.get(PUBLIC).await.set_cookie().expect("a cookie").to_owned();
        let other = browser.get("/_sim/status/200").await.set_cookie().expect("a cookie").to_owned();
        assert!(main.ends_with("; Path=/"), "{main}");
        assert!(other.ends_with("; Path=/_sim"), "{other}");
        // Below the longer path a browser sends both, that of the longer path first.
        let pair = |cookie: &str| cookie.split(';').next().expect("a pair").to_owned();
        let both = format!("{}; {}", pair(&other), pair(&main));
        for (path, cookies) in [(PUBLIC, pair(&main)), ("/_sim/status/200", both)] {
            assert_eq!(browser.get_with(path, &[("cookie", &cookies)]).await.set_cookie(), None, "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_route_lets_in_whom_it_names_by_the_address_that_trusted_proxies_tell() {
    let plan = World::plan(1).trusted_proxies(&["127.0.0.1"]).changed(|settings| {
        settings.route("pool = \"main\"\nallow = [\"10.0.0.0/8\"]");
        settings.route("path = \"/web\"\npool = \"main\"");
    });
    story(plan, async |world| {
        let rows = [
            ("10.1.2.3", PUBLIC, 200),
            ("192.0.2.1", PUBLIC, 403),
            // What the client itself says is not believed.
            ("10.1.2.3, 192.0.2.1", PUBLIC, 403),
            ("192.0.2.1, 10.1.2.3", PUBLIC, 200),
        ];
        for (from, path, status) in rows {
            let answer = world.client().get_with(path, &[("x-forwarded-for", from)]).await;
            assert_eq!(answer.status, status, "{from}");
            assert_eq!(world.saw(&answer).len(), usize::from(status == 200), "{from}");
        }
        let elsewhere = world.client().get_with("/web/index.html", &[("x-forwarded-for", "192.0.2.1")]).await;
        assert_ne!(elsewhere.status, 403, "another route");
        assert!(world.client().get(PUBLIC).await.status == 403, "the proxy in front is no client of that network");
        assert_eq!(world.proxy.metric("jellypin_rejected_total", &[("why", "not_allowed")]).await, 3.0);
    })
    .await;
}

#[tokio::test]
async fn no_spelling_of_a_path_passes_the_route_that_it_is_for() {
    let plan = World::plan(1).changed(|settings| {
        settings.route_rest("main");
        settings.route("path = \"/System\"\npool = \"main\"\nallow = [\"10.0.0.0/8\"]");
    });
    story(plan, async |world| {
        for path in [
            PUBLIC,
            "/%53ystem/Info/Public",
            "/x/../System/Info/Public",
            "/%53ystem/%FF/../Info/Public",
            "/%ff/../System/Info/Public",
        ] {
            let answer = world.client().get(path).await;
            assert_eq!((answer.status, world.saw(&answer).len()), (403, 0), "{path}");
        }
        assert_eq!(world.client().get("/web/index.html").await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_prefix_that_the_pod_takes_away_passes_no_route() {
    let plan = World::plan(1).build(|pod| pod.generation(Generation::V10_11)).changed(|settings| {
        settings.route_rest("main");
        settings.route("path = \"/System\"\npool = \"main\"\nallow = [\"10.0.0.0/8\"]");
    });
    story(plan, async |world| {
        for path in
            [PUBLIC, "/emby/System/Info/Public", "/MediaBrowser/system/info/public", "/%65mby/System/Info/Public"]
        {
            let answer = world.client().get(path).await;
            assert_eq!((answer.status, world.saw(&answer).len()), (403, 0), "{path}");
        }
        assert_eq!(world.client().get("/emby/Users/Public").await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_route_sets_and_takes_away_headers_both_ways() {
    let plan = World::plan(1).changed(|settings| {
        settings.route(
            "pool = \"main\"\nrequest_headers = { X-House = \"green\", X-Secret = \"\" }\n\
             response_headers = { X-Frame-Options = \"DENY\", Server = \"\" }",
        );
    });
    story(plan, async |world| {
        let answer = world.client().get_with(PUBLIC, &[("x-secret", "1"), ("x-house", "red")]).await;
        assert_eq!((answer.status, answer.header("x-frame-options")), (200, "DENY"));
        assert!(!answer.headers.contains_key("server"));
        let pod = world.pod("a");
        let seen = pod.seen().into_iter().rfind(|seen| seen.path() == PUBLIC && seen.headers.contains_key("x-house"));
        let seen = seen.expect("the request");
        assert_eq!(seen.headers.get_all("x-house").iter().collect::<Vec<_>>(), ["green"]);
        assert!(!seen.headers.contains_key("x-secret"));
        let refused = world.client().get("/Items//x").await;
        assert_eq!((refused.status, refused.header("x-frame-options")), (400, "DENY"), "jellypin's own answer");
    })
    .await;
}

#[tokio::test]
async fn a_route_leads_to_another_address() {
    let plan = World::plan(1).changed(|settings| {
        settings.route_rest("main");
        settings.route("host = \"old.example.org\"\nredirect = \"https://media.example.org/\"");
        settings.route("path = \"/old\"\nredirect = \"/new\"");
    });
    story(plan, async |world| {
        let rows = [
            ("old.example.org", "/web/?a=b", "https://media.example.org/web/?a=b"),
            ("h", "/old", "/new"),
            ("h", "/OLD/x?y", "/new/x?y"),
        ];
        for (host, path, location) in rows {
            let answer = at(world, host).get(path).await;
            assert_eq!((answer.status, answer.header("location")), (307, location), "{path}");
            assert!(world.saw(&answer).is_empty());
        }
        assert_eq!(world.client().get(PUBLIC).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn the_server_is_operated_from_named_networks_alone() {
    const PATHS: &[&str] = &[
        "/System/Restart",
        "/system/shutdown/",
        "/System/%52estart",
        "/x/../System/Restart",
        "/Startup/User",
        // Bytes that are no UTF-8 hide nothing.
        "/%53ystem/Restart/%FF/..",
        "/%53ystem/%C0%AF/../Restart",
        "/%53tartup/User/%FF/..",
    ];
    operated_from_named_networks(World::plan(1), PATHS).await;
    // These pods strip the prefix, whatever they do with tokens of old.
    const OLD: &[&str] = &["/emby/System/Restart", "/MediaBrowser/System/Shutdown", "/emby/Startup/User"];
    operated_from_named_networks(of_10_11_without_old_tokens(1), OLD).await;
}

/// Pods of 10.11 with `EnableLegacyAuthorization` off, and a proxy that was told so.
fn of_10_11_without_old_tokens(pods: usize) -> Plan {
    World::plan(pods)
        .build(|pod| pod.generation(Generation::V10_11).legacy_authorization(false))
        .changed(|settings| settings.set("jellyfin.legacy_authorization", "\"off\""))
}

async fn operated_from_named_networks(plan: Plan, paths: &[&str]) {
    let plan = plan.trusted_proxies(&["127.0.0.1"]).operate_from(&["10.0.0.0/8"]);
    story(plan, async |world| {
        let mut root = world.client().device("desk");
        assert_eq!(root.log_in("root").await.status, 200);
        for path in paths {
            let request = root.request(http::Method::POST, path).header("x-forwarded-for", "192.0.2.1");
            let answer = root.send(request, body_of("")).await.expect("an answer");
            assert_eq!((answer.status, world.saw(&answer).len()), (403, 0), "{path}");
        }
        assert!(world.pod("a").is_running());
        let request = root.request(http::Method::POST, "/System/Restart").header("x-forwarded-for", "10.1.2.3");
        let answer = root.send(request, body_of("")).await.expect("an answer");
        assert_eq!((answer.status, world.saw(&answer).len()), (204, 1));
    })
    .await;
}

#[tokio::test]
async fn a_prefix_of_old_hides_no_end_of_a_session_from_the_other_pods() {
    story(of_10_11_without_old_tokens(2).with_api_key(), async |world| {
        let mut root = at_home(world, "root", "a").await;
        let mut bob = at_home(world, "bob", "b").await;
        let device = bob.device.clone().expect("a device").replace(' ', "%20");
        let request = root.request(http::Method::DELETE, &format!("/emby/Devices?id={device}"));
        assert_eq!(root.send(request, body_of("")).await.expect("an answer").status, 204);
        // His pod keeps the token in its memory until it is told.
        assert_eq!(bob.get("/Users/Me").await.status, 401);
    })
    .await;
}
