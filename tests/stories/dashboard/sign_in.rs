//! Who may see the dashboard where there is a token: who knows it, and Jellyfin's administrators.

use http::Method;
use http_body_util::BodyExt;
use serde_json::json;

use super::HTML;
use crate::stories::world::{Answer, Client, World, body_of, story};

const TOKEN: &str = "a-token-of-some-length";

/// Sends a form as a browser does.
async fn send(operator: &mut Client, path: &str, form: &str) -> Answer {
    let origin = format!("http://{}", operator.host);
    let request = operator.request(Method::POST, path).header("origin", origin);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    operator.send(request, body_of(form.to_owned())).await.expect("an answer")
}

/// Where a browser is sent.
fn place(answer: &Answer) -> &str {
    assert_eq!(answer.status, 303, "{}", answer.text());
    answer.headers["location"].to_str().expect("text")
}

#[tokio::test]
async fn a_browser_signs_in_by_the_token_and_out_again() {
    story(World::plan(2).admin_token(TOKEN), async |world| {
        let mut operator = world.proxy.operators();
        assert_eq!(place(&operator.get_with("/", &[HTML]).await), "/sign-in");
        assert_eq!(operator.get("/overview").await.status, 401, "a program is told so");
        let page = operator.get_with("/sign-in", &[HTML]).await;
        assert!(page.status == 200 && page.text().contains("name=\"token\""), "{}", page.text());
        assert_eq!(operator.get("/assets/style.css").await.status, 200);
        assert_eq!(operator.get("/assets/script.js").await.status, 401);

        assert_eq!(
            place(&send(&mut operator, "/sign-in", "token=a-token-of-some-lengtH").await),
            "/sign-in?failed=token"
        );
        assert_eq!(operator.get("/overview").await.status, 401);
        let signed_in = send(&mut operator, "/sign-in", &format!("token={TOKEN}")).await;
        assert_eq!(place(&signed_in), "/");
        let cookie = signed_in.headers["set-cookie"].to_str().expect("text").to_owned();
        for attribute in ["HttpOnly", "SameSite=Strict", "Max-Age=43200"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        assert_eq!(operator.get("/overview").await.status, 200);
        assert!(operator.get_with("/", &[HTML]).await.text().contains("script.js"));

        // A POST by the cookie says where it comes from.
        let drain = "/pods/main/a/drain";
        let request = operator.request(Method::POST, drain);
        assert_eq!(operator.send(request, body_of("")).await.expect("an answer").status, 403);
        let request = operator.request(Method::POST, drain).header("origin", "http://evil.example");
        assert_eq!(operator.send(request, body_of("")).await.expect("an answer").status, 403);
        assert_eq!(send(&mut operator, drain, "").await.status, 202);

        let stolen = operator.twin();
        assert_eq!(place(&send(&mut operator, "/sign-out", "").await), "/sign-in?out");
        for mut gone in [operator, stolen] {
            assert_eq!(gone.get("/overview").await.status, 401);
        }
    })
    .await;
}

#[tokio::test]
async fn an_administrator_of_the_server_signs_in_and_leaves_no_session_there() {
    story(World::plan(1).admin_token(TOKEN), async |world| {
        let mut operator = world.proxy.operators();
        assert!(operator.get("/sign-in").await.text().contains("name=\"password\""));
        for (form, to) in [
            ("name=root&password=wrong", "/sign-in?failed=password"),
            ("name=alice&password=alice-pw", "/sign-in?failed=rights"),
            ("name=&password=x", "/sign-in?failed=form"),
        ] {
            assert_eq!(place(&send(&mut operator, "/sign-in", form).await), to, "{form}");
            assert_eq!(operator.get("/overview").await.status, 401, "{form}");
        }
        assert_eq!(place(&send(&mut operator, "/sign-in", "name=root&password=root-pw").await), "/");
        let request = operator.request(Method::GET, "/overview/stream");
        let mut stream = operator.open(request, body_of("")).await.expect("a stream").into_body();
        let hello = stream.frame().await.expect("an event").expect("a frame").into_data().expect("data");
        let hello = String::from_utf8_lossy(&hello).into_owned();
        assert!(hello.contains("\"operator\":\"root\"") && hello.contains("\"is_signed_in\":true"), "{hello}");
        drop(stream);

        // The pod has ended what the checks made.
        let seen = world.pod("a").seen();
        let count =
            |path: &str, status: u16| seen.iter().filter(|one| one.path() == path && one.status == status).count();
        assert_eq!(count("/Users/AuthenticateByName", 200), count("/Sessions/Logout", 204));
        assert_eq!(count("/Sessions/Logout", 204), 2);
        assert!(
            seen.iter()
                .filter(|one| one.path() == "/Users/AuthenticateByName")
                .all(|one| { one.headers.get("x-forwarded-for").is_some_and(|from| from == "127.0.0.1") })
        );
    })
    .await;
}

#[tokio::test]
async fn administrators_stay_out_if_the_operator_wants_it() {
    story(World::plan(1).admin_token(TOKEN).administrators(false), async |world| {
        let mut operator = world.proxy.operators();
        assert!(!operator.get("/sign-in").await.text().contains("name=\"password\""));
        let answer = send(&mut operator, "/sign-in", "name=root&password=root-pw").await;
        assert_eq!(place(&answer), "/sign-in?failed=form");
        assert!(world.pod("a").seen().iter().all(|seen| seen.path() != "/Users/AuthenticateByName"));
    })
    .await;
}

#[tokio::test]
async fn whoever_guesses_must_wait() {
    story(World::plan(1).admin_token(TOKEN), async |world| {
        let mut operator = world.proxy.operators();
        for guess in 0..10 {
            let answer = send(&mut operator, "/sign-in", &format!("token=guess-{guess}")).await;
            assert_eq!(place(&answer), "/sign-in?failed=token");
        }
        let answer = send(&mut operator, "/sign-in", &format!("token={TOKEN}")).await;
        assert_eq!(place(&answer), "/sign-in?failed=brake");
        let bearer = format!("Bearer {TOKEN}");
        assert_eq!(operator.get_with("/overview", &[("authorization", &bearer)]).await.status, 200, "programs go on");
    })
    .await;
}

#[tokio::test]
async fn a_sign_in_ends_with_the_right_that_it_came_from() {
    for plan in [World::plan(1), World::plan(1).with_api_key()] {
        story(plan.admin_token(TOKEN), async |world| {
            let policy = format!("/Users/{}/Policy", world.cluster.user_id("alice").expect("alice"));
            let mut root = world.client().device("desk");
            root.log_in("root").await;
            let mut alice = world.client().device("sofa");
            alice.log_in("alice").await;
            let new_password = json!({"CurrentPw": "alice-pw", "NewPw": "alice-new"});
            for (by_root, path, body) in
                [(true, &*policy, json!({"IsAdministrator": false})), (false, "/Users/Password", new_password)]
            {
                assert_eq!(root.post(&policy, json!({"IsAdministrator": true})).await.status, 204);
                let mut operator = world.proxy.operators();
                assert_eq!(place(&send(&mut operator, "/sign-in", "name=alice&password=alice-pw").await), "/");
                let act = "/pods/main/a/undrain";
                assert_eq!(send(&mut operator, act, "").await.status, 200);
                let client = if by_root { &mut root } else { &mut alice };
                assert_eq!(client.post(path, body).await.status, 204, "{path}");
                assert_eq!(send(&mut operator, act, "").await.status, 401, "{path}");
                assert_eq!(operator.get("/overview").await.status, 401, "the sign-in is over");
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_password_is_guessed_no_faster_here_than_as_a_client() {
    let plan = World::plan(1).admin_token(TOKEN).brakes_log_ins(true);
    let plan = plan.log_ins_of_private_addresses(true).log_ins_per_user_at_address(2);
    story(plan, async |world| {
        let mut operator = world.proxy.operators();
        for _ in 0..2 {
            let answer = send(&mut operator, "/sign-in", "name=Root&password=wrong").await;
            assert_eq!(place(&answer), "/sign-in?failed=password");
        }
        let answer = send(&mut operator, "/sign-in", "name=root&password=root-pw").await;
        assert_eq!(place(&answer), "/sign-in?failed=brake");
        let as_client = json!({"Username": "root", "Pw": "root-pw"});
        assert_eq!(world.client().post("/Users/AuthenticateByName", as_client).await.status, 429);
        assert_eq!(place(&send(&mut operator, "/sign-in", &format!("token={TOKEN}")).await), "/");
    })
    .await;
}

#[tokio::test]
async fn no_pod_gets_the_cookie_of_a_sign_in() {
    story(World::plan(1), async |world| {
        let mut client = world.client();
        let cookies = "other=1; jellypin_admin=secret; more=2";
        assert_eq!(client.get_with("/System/Info/Public", &[("cookie", cookies)]).await.status, 200);
        let seen = world.pod("a").seen();
        let asked = seen.iter().rfind(|seen| seen.headers.contains_key("x-story-request")).expect("the request");
        assert_eq!(asked.headers["cookie"], "other=1; more=2");
    })
    .await;
}
