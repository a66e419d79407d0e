//! Who may come in: users of the route, or whom another server lets in.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::Response;

use super::{beside_jellyfin, service::Service, visitor};
use crate::stories::world::{Answer, Client, Plan, World, story};

/// A user with the password `pw`, by the cheapest hash that there is.
fn user(name: &str) -> String {
    format!("{name}:{}", bcrypt::hash("pw", 4).expect("a hash"))
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

async fn ask(client: &mut Client, from: &str, authorization: &str) -> Answer {
    client.get_with("/album", &[("x-forwarded-for", from), ("authorization", authorization)]).await
}

fn guarded(service: &Service) -> Plan {
    let users = format!("basic_auth = {{ users = [{:?}, {:?}] }}", user("alice"), user("bob"));
    beside_jellyfin(&[service], &users).trusted_proxies(&["127.0.0.1"])
}

#[tokio::test]
async fn only_users_with_their_passwords_come_in_and_the_service_does_not_get_them() {
    let service = Service::start("immich").await;
    story(guarded(&service), async |world| {
        let mut client = visitor(world);
        let nobody = client.get("/album").await;
        assert_eq!(
            (nobody.status, nobody.header("www-authenticate")),
            (401, "Basic realm=\"jellypin\", charset=\"UTF-8\"")
        );
        let wrong = [
            basic("alice", "PW"),
            basic("alice", ""),
            basic("mallory", "pw"),
            "Bearer pw".to_owned(),
            "Basic ?".to_owned(),
        ];
        for authorization in &wrong {
            assert_eq!(ask(&mut client, "10.0.0.1", authorization).await.status, 401, "{authorization}");
        }
        assert!(service.seen().is_empty());
        for (user, times) in [("alice", 1), ("alice", 2), ("bob", 3)] {
            let answer = ask(&mut client, "10.0.0.1", &basic(user, "pw")).await;
            assert_eq!((answer.status, answer.text(), service.seen().len()), (200, "immich", times));
            assert_eq!(service.last().header("authorization"), "");
        }
        assert_eq!(world.proxy.metric("jellypin_rejected_total", &[("why", "password_wanted")]).await, 6.0);
        // A socket asks like any other request.
        assert_eq!(client.socket("/live").await.err().map(|status| status.as_u16()), Some(401));
        assert!(!world.proxy.ask_admin("/overview").await.text().contains("$2"), "no hash is told");
    })
    .await;
}

#[tokio::test]
async fn guesses_are_braked_and_who_is_in_stays_in() {
    let service = Service::start("immich").await;
    let plan = guarded(&service).log_ins_per_user_at_address(2);
    story(plan, async |world| {
        const HERE: &str = "203.0.113.7";
        let mut client = visitor(world);
        assert_eq!(ask(&mut client, HERE, &basic("alice", "pw")).await.status, 200);
        for _ in 0..2 {
            assert_eq!(ask(&mut client, HERE, &basic("alice", "guess")).await.status, 401);
            assert_eq!(ask(&mut client, HERE, &basic("bob", "guess")).await.status, 401);
        }
        for (user, password, status) in [("alice", "guess", 429), ("bob", "pw", 429), ("alice", "pw", 200)] {
            let answer = ask(&mut client, HERE, &basic(user, password)).await;
            assert_eq!(answer.status, status, "{user} {password}");
            assert_eq!(answer.headers.contains_key("retry-after"), status == 429);
        }
        assert_eq!(ask(&mut client, "203.0.113.8", &basic("bob", "pw")).await.status, 200, "another address");
        assert_eq!(world.proxy.metric("jellypin_log_in_failures_total", &[]).await, 4.0);
    })
    .await;
}

#[tokio::test]
async fn no_other_form_of_a_path_leads_past_its_route() {
    let service = Service::start("immich").await;
    let plan = beside_jellyfin(&[&service], "");
    let guarded = format!(
        "host = \"photos.example.org\"\npath = \"/admin\"\npool = \"photos\"\nbasic_auth.users = {:?}",
        user("alice")
    );
    story(plan.changed(|settings| settings.route(&guarded)), async |world| {
        let mut client = visitor(world);
        let rows = [
            ("/admin/x", 401),
            ("/ADMIN", 401),
            ("/%61dmin", 400),
            ("/x/../admin", 400),
            ("//admin", 400),
            ("/admin;x", 400),
            ("/%2561dmin", 400),
            ("/x/..%2fadmin", 400),
            ("/admin/../x", 400),
            ("/x//y", 200),
        ];
        for (path, status) in rows {
            assert_eq!(client.get(path).await.status, status, "{path}");
        }
        assert_eq!(service.seen().iter().map(|seen| &*seen.target).collect::<Vec<_>>(), ["/x//y"]);
    })
    .await;
}

/// A server that decides by the cookie `session`.
async fn authority() -> Service {
    Service::answering("authority", |seen| {
        let answer = Response::builder();
        let cookies = seen.header("cookie").to_owned();
        let answer = match () {
            () if cookies.contains("session=good") => answer
                .header("remote-user", "alice")
                .header("remote-groups", "family")
                .header("x-secret", "1")
                .header("set-cookie", "session=better")
                .body(Bytes::new()),
            () if cookies.contains("session=") => answer.status(403).body("not you".into()),
            () => answer
                .status(302)
                .header("location", "https://auth.example.org/?rd=x")
                .header("set-cookie", "flow=1")
                .header("connection", "x-hop")
                .header("x-hop", "1")
                .body("go there".into()),
        };
        answer.expect("an answer")
    })
    .await
}

async fn asks(service: &Service, authority: &Service) -> World {
    let address = authority.address;
    let route = format!(
        "forward_auth = {{ address = \"http://{address}/verify?a=b\", copy_headers = [\"Remote-User\", \"Remote-Groups\"] }}"
    );
    beside_jellyfin(&[service], &route).start().await
}

#[tokio::test]
async fn whom_another_server_lets_in_comes_in_as_it_says() {
    let (service, authority) = (Service::start("wiki").await, authority().await);
    story(asks(&service, &authority).await, async |world| {
        let mut client = visitor(world).without_cookies();
        let spoofed = [
            ("cookie", "session=good; jellyfin_server_id=x"),
            ("authorization", "Bearer t"),
            ("remote-user", "root"),
            ("remote_user", "root"),
            ("remote-groups", "admins"),
            ("x-forwarded-uri", "/harmless"),
            ("x-forwarded-method", "HEAD"),
            ("x-forwarded-for", "10.9.9.9"),
            ("x-forwarded-host", "evil"),
        ];
        let answer = client.get_with("/page?x=y", &spoofed).await;
        assert_eq!((answer.status, answer.text(), answer.set_cookie()), (200, "wiki", Some("session=better")));
        let seen = service.last();
        assert_eq!((seen.header("remote-user"), seen.header("remote-groups")), ("alice", "family"));
        assert_eq!((seen.header("remote_user"), seen.header("x-secret")), ("", ""));
        assert_eq!((seen.header("cookie"), seen.header("authorization")), ("session=good", "Bearer t"));

        let asked = authority.last();
        assert_eq!((asked.method.as_str(), &*asked.target), ("GET", "/verify?a=b"));
        assert_eq!((asked.header("host"), asked.header("cookie")), (&*authority.address.to_string(), "session=good"));
        assert_eq!((asked.header("x-forwarded-method"), asked.header("x-forwarded-uri")), ("GET", "/page?x=y"));
        assert_eq!(
            (asked.header("x-forwarded-for"), asked.header("x-forwarded-host")),
            ("127.0.0.1", "photos.example.org")
        );
        assert_eq!((asked.header("x-forwarded-proto"), asked.header("authorization")), ("http", "Bearer t"));
    })
    .await;
}

#[tokio::test]
async fn whom_another_server_does_not_let_in_gets_its_answer_and_nobody_comes_in_without_it() {
    let (service, authority) = (Service::start("wiki").await, authority().await);
    story(asks(&service, &authority).await, async |world| {
        let mut client = visitor(world).without_cookies();
        let sent = client.get("/page").await;
        assert_eq!((sent.status, sent.header("location")), (302, "https://auth.example.org/?rd=x"));
        assert_eq!((sent.set_cookie(), sent.text(), sent.header("x-hop")), (Some("flow=1"), "go there", ""));
        let denied = client.get_with("/page", &[("cookie", "session=old")]).await;
        assert_eq!((denied.status, denied.text()), (403, "not you"));
        let socket = client.socket("/live").await;
        assert_eq!(socket.err().map(|status| status.as_u16()), Some(302));

        authority.kill();
        let away = client.get_with("/page", &[("cookie", "session=good")]).await;
        assert_eq!((away.status, away.header("retry-after")), (503, "1"));
        assert_eq!(world.proxy.metric("jellypin_rejected_total", &[("why", "auth_away")]).await, 1.0);
        assert!(service.seen().is_empty());
    })
    .await;
}
