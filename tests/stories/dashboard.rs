//! The dashboard: one page says what is going on, and what operators do there.

mod explain;
mod sign_in;

use std::collections::BTreeMap;

use http::Method;
use http_body_util::BodyExt;
use jellyfin_sim::FILM;
use jellypin::pod::State;
use serde_json::{Value, json};

use super::migration::{client_of, kill, plan};
use super::world::{Answer, Client, DEADLINE, World, body_of, story, until_so};

/// What a browser asks for when it opens a page.
const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml");

/// Does something as an operator.
async fn act(world: &World, path: &str) -> Answer {
    let mut operator = world.proxy.operators();
    let request = operator.request(Method::POST, path);
    operator.send(request, body_of("")).await.expect("an answer")
}

async fn overview(world: &World) -> Value {
    world.proxy.ask_admin("/overview").await.json()
}

/// The one row of a device.
fn row<'a>(overview: &'a Value, device: &str) -> &'a Value {
    let rows = overview["clients"]["rows"].as_array().expect("rows");
    rows.iter().find(|row| row["device_id"] == device).unwrap_or_else(|| panic!("no {device}: {overview}"))
}

/// The dashboard's stream, read as a browser reads it.
struct Stream {
    body: hyper::body::Incoming,
    text: String,
    /// The last data of each event.
    last: BTreeMap<String, Value>,
}

impl Stream {
    async fn open(client: &mut Client) -> Stream {
        let request = client.request(Method::GET, "/overview/stream");
        let answer = client.open(request, body_of("")).await.expect("a stream");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Stream { body: answer.into_body(), text: String::new(), last: BTreeMap::new() }
    }

    /// Waits until the last event of this name fits.
    async fn until(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(data) = self.last.get(name).filter(|data| fits(data)) {
                return data.clone();
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("no {name} that fits: {:?}", self.last));
            let frame = frame.expect("the stream goes on").expect("a frame");
            self.text += std::str::from_utf8(frame.data_ref().expect("data")).expect("text");
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let parts = event.strip_prefix("event: ").and_then(|event| event.split_once("\ndata: "));
                let parts = parts.map(|(name, data)| (name.to_owned(), serde_json::from_str(data).expect("JSON")));
                self.last.extend(parts);
                self.text = rest.to_owned();
            }
        }
    }
}

#[tokio::test]
async fn a_browser_gets_the_dashboard_and_a_program_the_list_of_pages() {
    story(World::plan(1), async |world| {
        let mut operator = world.proxy.operators();
        let page = operator.get_with("/", &[HTML]).await;
        assert_eq!(
            (page.status, &page.headers["content-type"]),
            (200, &"text/html; charset=utf-8".parse().expect("one"))
        );
        let policy = page.headers["content-security-policy"].to_str().expect("text").to_owned();
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (asset, kind) in [("/assets/script.js", "text/javascript"), ("/assets/style.css", "text/css")] {
            assert!(page.text().contains(asset));
            let asset = operator.get(asset).await;
            assert!(asset.status == 200 && asset.headers["content-type"].to_str().expect("text").starts_with(kind));
        }
        assert_eq!(operator.get("/assets/other").await.status, 404);
        assert!(operator.get("/").await.text().starts_with("/live "), "a program");
        assert_eq!(
            operator.get_with("/sign-in", &[HTML]).await.headers["location"],
            "/",
            "nothing is to be signed in to"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_says_who_plays_what_where() {
    story(plan(2), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let report = json!({"ItemId": FILM, "PositionTicks": 300_000_000});
        assert_eq!(client.post("/Sessions/Playing", report).await.status, 204);
        // On a busy machine a pod may be late for a moment.
        until_so("all is well", async || overview(world).await["overview"]["verdict"]["level"] == "well").await;
        let page = world.proxy.ask_admin("/overview").await;
        assert!(!page.text().contains(client.token.as_deref().expect("a token")), "no token is shown");
        let page = page.json();
        assert_eq!(page["overview"]["verdict"]["level"], "well", "{page}");
        assert_eq!(page["overview"]["verdict"]["sentences"][0]["text"], "All well");
        let sofa = row(&page, "sofa");
        assert_eq!((&sofa["user"], &sofa["pod"]), (&json!("alice"), &json!(home)), "{sofa}");
        assert_eq!((&sofa["why"], &sofa["is_playing"]), (&json!("first"), &json!(true)), "{sofa}");
        let playing = &sofa["playing"];
        assert!(playing["title"].as_str().is_some_and(|title| !title.is_empty()), "{sofa}");
        assert!(playing["position_s"].as_u64() >= Some(30) && playing["length_s"] == 60, "{sofa}");
    })
    .await;
}

#[tokio::test]
async fn what_pods_lack_for_migrations_is_in_the_verdict() {
    let plan = World::plan(2).with_api_key().build_one("b", |pod| pod.quick_connect_enabled(false));
    story(plan, async |world| {
        let says = async |world: &World, text: &str| {
            let page = overview(world).await;
            let verdict = &page["overview"]["verdict"];
            let sentences = verdict["sentences"].as_array().expect("sentences");
            verdict["level"] == "look" && sentences.iter().any(|said| said["text"] == text)
        };
        until_so("Quick Connect is missed", async || says(world, "Pod b has Quick Connect disabled").await).await;
        world.restart(|settings| settings.api_key("00000000000000000000000000000000")).await;
        until_so("the key is refused", async || says(world, "Pod a refuses the API key").await).await;
    })
    .await;
}

#[tokio::test]
async fn without_an_api_key_the_overview_names_nobody() {
    story(World::plan(1), async |world| {
        world.client().device("sofa").log_in("alice").await;
        let page = overview(world).await;
        assert_eq!((&page["overview"]["has_key"], &page["overview"]["can_move"]), (&json!(false), &json!(false)));
        assert_eq!(page["clients"], json!({"rows": [], "hidden": 0}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_hears_of_a_pod_that_dies_and_of_the_sessions_that_moved() {
    story(plan(2), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let mut stream = Stream::open(&mut world.proxy.operators()).await;
        let hello = stream.until("hello", |_| true).await;
        assert_eq!((&hello["operator"], &hello["is_signed_in"]), (&json!("anyone"), &json!(false)));
        stream.until("overview", |page| page["verdict"]["level"] == "well").await;
        stream.until("clients", |page| page["rows"][0]["user"] == "alice").await;
        kill(world, &home).await;
        assert_eq!(client.get("/Users/Me").await.status, 200);
        let text = format!("Pod {home} is down");
        let says = |page: &Value, text: &str, more: &str| {
            let sentences = page["verdict"]["sentences"].as_array().expect("sentences");
            sentences.iter().any(|said| said["text"] == text && said["more"] == more && said["since_ms"].is_u64())
        };
        stream.until("overview", |page| says(page, &text, "1 session moved")).await;
        let moved = stream.until("clients", |page| page["rows"][0]["why"] == "home_gone").await;
        assert_eq!(moved["rows"][0]["from"], home.as_str());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_moves_a_session_and_its_user() {
    // All of a user's devices live together, as they do by default.
    story(plan(3).spread_users(&[]), async |world| {
        let (mut sofa, home) = client_of(world, "alice", "sofa").await;
        let (mut phone, _) = client_of(world, "alice", "phone").await;
        let report = json!({"ItemId": FILM, "PositionTicks": 1});
        assert_eq!(sofa.post("/Sessions/Playing", report).await.status, 204);
        let page = overview(world).await;
        let user = row(&page, "sofa")["user_id"].as_str().expect("an id").to_owned();
        let to = if home == "a" { "b" } else { "a" };
        let path = |device: &str, to: &str| format!("/sessions/main/{user}/{device}/move?to={to}");
        assert_eq!(act(world, &path("sofa", "nowhere")).await.status, 404);
        assert_eq!(act(world, &path("car", to)).await.status, 404);
        let refused = act(world, &path("sofa", &home)).await;
        assert_eq!((refused.status, refused.text()), (409, "not moved: the session lives on that pod already\n"));

        let moved = act(world, &path("sofa", to)).await;
        assert_eq!((moved.status, moved.text()), (200, &*format!("moved to {to}\n")));
        let me = sofa.get("/Users/Me").await;
        assert_eq!((me.status, world.home(&me)), (200, to));
        let page = overview(world).await;
        let sofa_row = row(&page, "sofa");
        assert_eq!((&sofa_row["why"], &sofa_row["from"]), (&json!("operator"), &json!(home)), "{sofa_row}");
        // The user's idle device follows, and nothing brings the first one back.
        until_so("the phone follows", async || row(&overview(world).await, "phone")["pod"] == to).await;
        let me = phone.get("/Users/Me").await;
        assert_eq!((me.status, world.home(&me)), (200, to));
        assert_eq!(row(&overview(world).await, "sofa")["pod"], to);

        world.pod(&home).kill().await;
        world.until_state(&home, State::Down).await;
        let refused = act(world, &path("sofa", &home)).await;
        assert_eq!((refused.status, refused.text()), (409, "not moved: only a ready pod takes sessions\n"));
    })
    .await;
}
