//! `explain`: why a client is where it is, and where it would go next.

use http::Method;
use serde_json::{Value, json};

use crate::stories::migration::{client_of, kill, plan};
use crate::stories::world::{Program, World, body_of, story};

/// Asks by a form, as one should ask about a token.
async fn explain(world: &World, form: &str) -> Value {
    let mut operator = world.proxy.operators();
    let request = operator.request(Method::POST, "/explain");
    let answer = operator.send(request, body_of(form.to_owned())).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The facts of the only pool, as one text.
fn facts(page: &Value) -> String {
    let facts = page["pools"][0]["facts"].as_array().expect("facts");
    facts.iter().map(|fact| format!("{}: {}\n", fact["source"], fact["says"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_leads_to_the_pod_and_to_the_next_one() {
    story(plan(2).spread_users(&[]), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        assert_eq!(client.get("/Users/Me").await.status, 200);
        let other = if home == "a" { "b" } else { "a" };
        let token = client.token.clone().expect("a token");
        let sessions = world.proxy.ask_admin("/sessions").await.json();
        let user = sessions[0]["user_id"].as_str().expect("an id").to_owned();
        for form in
            [format!("token={token}"), "device=sofa".to_owned(), format!("user={user}"), "user=ALICE".to_owned()]
        {
            let page = explain(world, &form).await;
            assert!(!page.to_string().contains(&token), "the token is never repeated");
            let pool = &page["pools"][0];
            let goes_to = (&pool["goes_to"]["pod"], &pool["goes_to"]["reason"]);
            assert_eq!(goes_to, (&json!(home), &json!("token")), "{form}: {page}");
            let then = (&pool["if_it_died"]["pod"], &pool["if_it_died"]["reason"]);
            assert_eq!(then, (&json!(other), &json!("migrated")), "{form}: {page}");
            assert!(facts(&page).contains(&format!("lives on {home} (ready)")), "{form}: {page}");
        }
        // What it says would happen happens.
        kill(world, &home).await;
        let me = client.get("/Users/Me").await;
        assert_eq!((me.status, world.home(&me)), (200, other));
        let page = explain(world, &format!("token={token}")).await;
        assert!(facts(&page).contains(&format!("home_gone, from {home} (down")), "{page}");
        assert_eq!(page["pools"][0]["if_it_died"]["pod"], Value::Null, "{page}");
        // A token that was ended goes nowhere.
        assert_eq!(client.post("/Sessions/Logout", json!({})).await.status, 204);
        let page = explain(world, &format!("token={token}")).await;
        assert!(facts(&page).contains("ended for good"), "{page}");
        assert_eq!(page["pools"][0]["goes_to"], Value::Null, "{page}");
    })
    .await;
}

#[tokio::test]
async fn a_token_may_come_by_a_header_and_an_unknown_key_says_so() {
    story(plan(1), async |world| {
        let mut operator = world.proxy.operators();
        let answer =
            operator.get_with("/explain", &[("x-explain-token", "made-up-secret"), ("accept", "text/plain")]).await;
        assert!(answer.status == 200 && !answer.text().contains("made-up-secret"), "{}", answer.text());
        for part in ["no session is known by this token", "has no pin", "goes to a"] {
            assert!(answer.text().contains(part), "{}", answer.text());
        }
        let answer = operator.get("/explain?session=00000000000000000000000000000000").await.json();
        assert!(facts(&answer).contains("nothing is known by this key"), "{answer}");
        for wrong in ["/explain", "/explain?token=", "/explain?token=a&device=b"] {
            assert_eq!(operator.get(wrong).await.status, 400, "{wrong}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_command_line_asks_the_jellypin_that_runs() {
    story(plan(1).spread_users(&[]), async |world| {
        let mut settings = world.settings().clone();
        settings.admin_listen(world.proxy.admin);
        let file = Program::file(&settings, world.folder());
        let file = file.to_string_lossy().into_owned();
        let (_client, home) = client_of(world, "alice", "sofa").await;
        let asked = tokio::task::spawn_blocking(move || {
            let one = Program::run(&["explain", "--config", &file, "--device", "sofa"]);
            let by_user = |name| Program::run(&["explain", "--config", &file, "--user", name]).stdout;
            let users = (by_user("alice"), by_user("nobody"));
            (one, users, Program::run(&["explain", "--config", &file]))
        });
        let (device, (alice, nobody), nothing) = asked.await.expect("it runs");
        let words = String::from_utf8_lossy(&device.stdout).into_owned();
        assert_eq!(device.status.code(), Some(0), "{}", String::from_utf8_lossy(&device.stderr));
        assert!(
            words.contains(&format!("goes to {home}:")) && words.contains("if that pod died: no other pod"),
            "{words}"
        );
        let alice = String::from_utf8_lossy(&alice).into_owned();
        assert_eq!(
            alice.matches(&format!(" lives on {home}")).count(),
            2,
            "the session and the user, once each: {alice}"
        );
        let nobody = String::from_utf8_lossy(&nobody).into_owned();
        assert!(nobody.contains("no session is known; a log-in decides") && !nobody.contains("goes to"), "{nobody}");
        assert_eq!(nothing.status.code(), Some(2), "one key is asked for");
    })
    .await;
}
