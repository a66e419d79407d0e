//! What is written down of a request, and what is never written.

use futures_util::StreamExt;
use http::Method;
use jellyfin_sim::FILM;
use jellypin::pod::State;
use serde_json::{Value, json};

use super::world::{Program, World, body_of, millis, story, until};

#[tokio::test]
async fn an_access_line_names_client_request_and_pod() {
    story(World::plan(1), async |world| {
        let mut client = world.client();
        client.host = "media.example.org".to_owned();
        let request = client.request(Method::PUT, "/_sim/echo?secret=1");
        let answer = client.send(request, body_of(vec![7; 1000])).await.expect("an answer");
        assert_eq!(answer.body.len(), 1000);
        let line = world.proxy.lines_of("/_sim/echo", 1).await.remove(0);
        let wanted = json!({
            "client.address": "127.0.0.1", "http.method": "PUT", "http.host": "media.example.org", "http.path": "/_sim/echo",
            "http.protocol": "HTTP/1.1", "http.status": 200, "route": "/", "pool": "main", "pod.name": "a",
            "decision.reason": "least_loaded", "attempts": 1, "outcome": "complete", "bytes.in": 1000, "bytes.out": 1000,
        });
        for (key, value) in wanted.as_object().expect("an object") {
            assert_eq!(&line[key], value, "{key} in {line}");
        }
        let time = line["time"].as_str().expect("a time");
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        let (first, whole) = (line["first_byte_ms"].as_f64(), line["duration_ms"].as_f64());
        assert!(first.expect("a time") <= whole.expect("a time"), "{line}");
        assert!(line.get("moved.from").is_none());
    })
    .await;
}

#[tokio::test]
async fn an_access_line_says_how_each_attempt_ended_and_what_a_request_waited_for() {
    story(World::plan(2).with_api_key(), async |world| {
        let mut client = world.client().device("sofa");
        let home = world.home(&client.log_in("alice").await).to_owned();
        let other = if home == "a" { "b" } else { "a" };
        assert_eq!(client.get("/Users/Me").await.status, 200);
        let line = world.proxy.lines_of("/Users/Me", 1).await.remove(0);
        assert!(["tried", "held_ms", "wait.why"].iter().all(|key| line.get(key).is_none()), "nothing happened: {line}");
        // Its pod hangs up, and the other one answers.
        world.pod(&home).kill().await;
        assert_eq!(client.get("/Users/Me").await.status, 200);
        let line = world.proxy.lines_of("/Users/Me", 2).await.remove(1);
        let tried = line["tried"].as_str().unwrap_or_default().to_owned();
        assert!(line["attempts"] == 1 || tried.ends_with(&format!(" {other}=200")), "{line}");
        // No pod is there: the request waits for the one that starts again.
        world.pod(other).kill().await;
        world.until_state(other, State::Down).await;
        let (answer, ()) = futures_util::future::join(client.get("/Users/Me"), async {
            until("the request waits", || world.proxy.shared().held() == 1).await;
            world.pod(other).start_again().await.expect("it starts");
        })
        .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let line = world.proxy.lines_of("/Users/Me", 3).await.remove(2);
        assert!(line["held_ms"].as_f64() > Some(0.0) && line["wait.why"] == "no_pod", "{line}");
    })
    .await;
}

#[tokio::test]
async fn the_reason_of_a_decision_is_named() {
    story(World::plan(2), async |world| {
        let mut client = world.client().device("app");
        let reason = async |path: &str, count: usize| {
            world.proxy.lines_of(path, count).await[count - 1]["decision.reason"].as_str().expect("a reason").to_owned()
        };
        client.get("/first").await;
        assert_eq!(reason("/first", 1).await, "hashed");
        client.get("/first").await;
        assert_eq!(reason("/first", 2).await, "cookie");
        client.cookies = None;
        client.log_in("alice").await;
        client.get("/Users/Me").await;
        client.get("/Users/Me").await;
        assert_eq!(reason("/Users/Me", 2).await, "token");
        client.token = None;
        client.get("/third").await;
        assert_eq!(reason("/third", 1).await, "device");
        world.client().get("/fourth").await;
        assert_eq!(reason("/fourth", 1).await, "least_loaded");
    })
    .await;
}

#[tokio::test]
async fn a_socket_has_one_line_when_it_ends() {
    story(World::plan(1), async |world| {
        let mut client = world.client();
        client.log_in("alice").await;
        let mut socket = client.socket("/socket").await.expect("a socket");
        let greeting = socket.next().await.expect("a message").expect("a message");
        until("the socket is counted", || world.proxy.pod("a").load.sockets() == 1).await;
        assert_eq!(world.proxy.metric("jellypin_pod_sockets", &[("pod", "a")]).await, 1.0);
        drop(socket);
        let line = world.proxy.lines_of("/socket", 1).await.remove(0);
        assert_eq!((&line["http.status"], &line["outcome"]), (&101.into(), &"client_gone".into()));
        assert_eq!(line["bytes.out"], greeting.len(), "ForceKeepAlive went through: {line}");
    })
    .await;
}

/// Everything that a client may send as a secret, in every place where it may stand.
struct Secrets {
    named: Vec<(&'static str, String)>,
}

impl Secrets {
    fn add(&mut self, name: &'static str, value: &str) {
        assert!(value.len() >= 8, "{name} is too short to be looked for: {value:?}");
        self.named.push((name, value.to_owned()));
    }

    #[track_caller]
    fn stand_nowhere_in(&self, place: &str, text: &str) {
        for (name, value) in &self.named {
            if let Some(at) = text.find(value.as_str()) {
                let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
                panic!("{name} stands in {place}: {}", text[line..].lines().next().unwrap_or_default());
            }
        }
    }
}

/// A client's life with everything that may leak: log-ins right and wrong, every carrier, refusals, a pod that dies.
async fn live(world: &World, program: &Program) -> Secrets {
    let mut secrets = Secrets { named: Vec::new() };
    let mut client = program.client();
    client.log_in("alice").await;
    secrets.add("the password", "alice-pw");
    let token = client.token.clone().expect("a token");
    secrets.add("the token", &token);
    secrets.add("the cookie", client.pin().expect("a pin"));
    let wrong = client.post("/Users/AuthenticateByName", json!({"Username": "bob", "Pw": "wrong password"})).await;
    assert_eq!(wrong.status, 401);
    secrets.add("a wrong password", "wrong password");
    assert_eq!(client.get("/Users/Me").await.status, 200);

    let mut bare = program.client().without_cookies();
    secrets.add("a query's secret", "the-secret-of-the-query");
    for carrier in [format!("ApiKey={token}"), format!("api_key={token}"), "x=the-secret-of-the-query".to_owned()] {
        bare.get(&format!("/Users/Me?{carrier}")).await;
        bare.get(&format!("/Videos/{FILM}/stream?static=true&{carrier}")).await;
    }
    for header in ["x-emby-token", "x-mediabrowser-token"] {
        bare.get_with("/Users/Me", &[(header, &token)]).await;
    }
    let unknown = "0123456789abcdef0123456789abcdef";
    secrets.add("an unknown token", unknown);
    assert_eq!(bare.get(&format!("/Users/Me?ApiKey={unknown}")).await.status, 401);
    assert!(bare.socket(&format!("/socket?ApiKey={unknown}")).await.is_err());
    drop(bare.socket(&format!("/socket?ApiKey={token}")).await.expect("a socket"));

    let key = world.cluster.api_key();
    secrets.add("the API key", &key);
    let mut administrator = program.client().without_cookies();
    administrator.token = Some(key.clone());
    let doomed = "fedcba9876543210fedcba9876543210";
    secrets.add("an API key in the path", doomed);
    for path in ["/Auth/Keys/", "/auth/keys/", "/emby/Auth/Keys/", "/Auth//Keys/", "/Auth/Keys/x/", "/%41uth/Keys/"] {
        let request = administrator.request(Method::DELETE, &format!("{path}{doomed}"));
        let _ = administrator.send(request, body_of("")).await.expect("an answer");
    }

    // A pod that dies under a request, and requests that nobody answers.
    for pod in &world.pods {
        pod.kill().await;
        client.get(&format!("/Branding/Configuration?ApiKey={token}")).await;
    }
    let request = client.request(Method::GET, &format!("/Videos/{FILM}/stream?ApiKey={token}"));
    assert!(client.send(request, body_of("")).await.is_err());
    secrets
}

#[tokio::test]
async fn no_secret_is_written_down() {
    story(World::plan(2), async |world| {
        let mut settings = world.settings().clone();
        settings.log_level("trace");
        settings.hold(millis(300));
        settings.keys(&["the key of the cookies"]);
        let mut program = Program::start(&settings, world.folder()).await;
        let operators = *program.addresses().last().expect("the admin API");
        let mut secrets = live(world, &program).await;
        secrets.add("the key of the cookies", "the key of the cookies");

        let mut operator = super::world::Client::at_address(operators);
        for page in ["/metrics", "/pods", "/sessions", "/ready", "/"] {
            secrets.stand_nowhere_in(page, operator.get(page).await.text());
        }
        program.signal("TERM");
        assert_eq!(program.ended().await.code(), Some(0));
        let (log, access) = (program.log(), program.output());
        secrets.stand_nowhere_in("the log", &log);
        secrets.stand_nowhere_in("the access log", &access);

        // All of it was looked at.
        assert!(log.contains("pod is down"), "{log}");
        let lines: Vec<Value> = access.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        for path in ["/Users/AuthenticateByName", "/socket", "/Auth/Keys/…", "/Branding/Configuration"] {
            assert!(lines.iter().any(|line| line["http.path"] == path), "{path} is missing:\n{access}");
        }
    })
    .await;
}

#[tokio::test]
async fn requests_without_an_answer_have_an_access_line() {
    story(World::plan(1).hold(millis(100)), async |world| {
        world.pod("a").kill().await;
        world.until_state("a", State::Down).await;
        let mut client = world.client();
        assert_eq!(client.get("/Branding/Configuration").await.status, 503);
        let line = world.proxy.lines_of("/Branding/Configuration", 1).await.remove(0);
        assert_eq!(
            (&line["http.status"], &line["outcome"], &line["pod.name"]),
            (&503.into(), &"no_pod".into(), &"".into())
        );

        let path = format!("/Videos/{FILM}/stream");
        let request = client.request(Method::GET, &path);
        assert!(client.send(request, body_of("")).await.is_err());
        let line = world.proxy.lines_of(&path, 1).await.remove(0);
        assert_eq!(line["http.status"], 0, "no answer began: {line}");
        assert_eq!(world.proxy.metric("jellypin_rejected_total", &[]).await, 2.0);
    })
    .await;
}
