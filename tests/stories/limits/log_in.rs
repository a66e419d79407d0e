//! The brake on log-ins.

use http::Method;
use serde_json::Value;

use super::{TRUSTED, limited, log_in_body};
use crate::stories::world::{Answer, Client, Plan, Program, World, body_of, story, until};

const LOG_IN: &str = "/Users/AuthenticateByName";

/// Tries to log in from an address.
async fn attempt(client: &mut Client, address: &str, user: &str, password: &str) -> Answer {
    let request = client.request(Method::POST, LOG_IN).header("content-type", "application/json");
    let request = request.header("x-forwarded-for", address);
    client.send(request, body_of(log_in_body(user, password).to_string())).await.expect("an answer")
}

fn plan_behind_a_proxy() -> Plan {
    World::plan(1).trusted_proxies(TRUSTED).log_ins_per_user(12)
}

fn asked(world: &World) -> usize {
    world.pod("a").seen().iter().filter(|seen| seen.path() == LOG_IN).count()
}

#[tokio::test]
async fn guessed_passwords_are_braked_before_the_pod() {
    story(plan_behind_a_proxy(), async |world| {
        let mut client = world.client().device("app");
        for _ in 0..5 {
            assert_eq!(attempt(&mut client, "203.0.113.7", "alice", "wrong").await.status, 401);
        }
        let before = asked(world);
        let braked = attempt(&mut client, "203.0.113.7", "ALICE", "alice-pw").await;
        assert_eq!(braked.status, 429, "in any case of the name, right or wrong");
        let wait: u32 = braked.header("retry-after").parse().expect("seconds");
        assert!((1..=60).contains(&wait), "{wait}");
        assert_eq!(asked(world), before);
        assert_eq!(limited(world, "log_ins", "user_at_address").await, 1.0);
        assert_eq!(world.proxy.metric("jellypin_log_in_failures_total", &[]).await, 5.0);
        assert_eq!(attempt(&mut client, "203.0.113.7", "bob", "bob-pw").await.status, 200, "another user of the house");
        assert_eq!(
            attempt(&mut client, "198.51.100.9", "alice", "alice-pw").await.status,
            200,
            "she herself elsewhere"
        );
    })
    .await;
}

#[tokio::test]
async fn no_spelling_of_the_path_passes_the_brake() {
    const HIDDEN: &str = "/%55sers/%FF/../AuthenticateByName";
    story(plan_behind_a_proxy(), async |world| {
        let mut client = world.client().device("app");
        let mut last = 0;
        for _ in 0..6 {
            let request = client.request(Method::POST, HIDDEN).header("content-type", "application/json");
            let request = request.header("x-forwarded-for", "203.0.113.7");
            let answer = client.send(request, body_of(log_in_body("alice", "wrong").to_string())).await;
            last = answer.expect("an answer").status;
        }
        assert_eq!((last, asked(world)), (429, 5));
    })
    .await;
}

#[tokio::test]
async fn a_user_under_attack_still_signs_in_at_home() {
    story(plan_behind_a_proxy(), async |world| {
        let mut client = world.client().device("app");
        assert_eq!(attempt(&mut client, "198.51.100.9", "alice", "alice-pw").await.status, 200);
        for last in 1..=4 {
            for _ in 0..3 {
                let failed = attempt(&mut client, &format!("203.0.113.{last}"), "alice", "wrong").await;
                assert_eq!(failed.status, 401);
            }
        }
        assert_eq!(
            attempt(&mut client, "203.0.113.77", "alice", "wrong").await.status,
            429,
            "the name itself is braked"
        );
        assert_eq!(limited(world, "log_ins", "user").await, 1.0);
        assert_eq!(attempt(&mut client, "198.51.100.9", "alice", "alice-pw").await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn an_address_that_tries_many_names_is_braked() {
    story(World::plan(1).trusted_proxies(TRUSTED), async |world| {
        let mut client = world.client().device("app");
        for number in 0..20 {
            let failed = attempt(&mut client, "203.0.113.7", &format!("user{number}"), "wrong").await;
            assert_eq!(failed.status, 401);
        }
        assert_eq!(attempt(&mut client, "203.0.113.7", "user99", "wrong").await.status, 429);
        assert_eq!(limited(world, "log_ins", "address").await, 1.0);
        assert_eq!(attempt(&mut client, "203.0.113.8", "user99", "pw").await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn private_addresses_are_not_braked_by_default() {
    story(World::plan(1).trusted_proxies(TRUSTED), async |world| {
        let mut client = world.client().device("app");
        for _ in 0..8 {
            assert_eq!(attempt(&mut client, "192.168.1.20", "alice", "wrong").await.status, 401);
        }
        assert_eq!(attempt(&mut client, "192.168.1.20", "alice", "alice-pw").await.status, 200);
        world.restart(|settings| settings.log_ins_of_private_addresses(true)).await;
        let mut client = world.client().device("app");
        for _ in 0..5 {
            assert_eq!(attempt(&mut client, "192.168.1.20", "alice", "wrong").await.status, 401);
        }
        assert_eq!(attempt(&mut client, "192.168.1.20", "alice", "wrong").await.status, 429);
    })
    .await;
}

/// Lines of the log as they are written, which the files below deploy/ are checked against: only their times differ.
const LINES: &str = include_str!("../../../deploy/fail2ban/log-lines.jsonl");

#[tokio::test]
async fn failed_logins_are_logged_for_fail2ban_and_crowdsec() {
    story(World::plan(1), async |world| {
        let mut settings = world.settings().clone();
        settings.trusted_proxies(TRUSTED);
        settings.log_ins_per_user_at_address(1);
        let program = Program::start(&settings, world.folder()).await;
        let mut client = program.client().device("app");
        let forged = "bob\n{\"event\":\"log_in_failed\",\"client.address\":\"192.0.2.1\"}";
        assert_eq!(attempt(&mut client, "203.0.113.7", "alice", "wrong").await.status, 401);
        assert_eq!(attempt(&mut client, "203.0.113.7", "alice", "wrong").await.status, 429);
        assert_eq!(attempt(&mut client, "2001:db8::7", forged, "wrong").await.status, 401);
        let lines = || -> Vec<Value> {
            let log = program.log();
            let lines = log.lines().filter(|line| line.contains("\"event\":\"log_in_"));
            lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
        };
        until("it is told", || lines().len() >= 3).await;
        let without_time = |mut line: Value| {
            let time = line.as_object_mut().and_then(|line| line.remove("timestamp"));
            assert!(time.is_some(), "{line}");
            line
        };
        let expected: Vec<Value> =
            LINES.lines().map(|line| without_time(serde_json::from_str(line).expect("JSON"))).collect();
        assert_eq!(lines().into_iter().map(without_time).collect::<Vec<_>>(), expected, "{}", program.log());
        drop(program);
    })
    .await;
}
