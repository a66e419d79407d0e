//! Redis fails in every way. The leader stays, or moves by the rule; all replicas agree again when it is back.

use super::*;
use crate::stories::world::{Program, secs, story, until, until_so};
use jellypin::pod::State;

const KEY: &str = "jellypin:leader:main";

/// Waits until a proxy knows that Redis is of no use, by the requests' link.
async fn until_redis(proxy: &Proxy, up: bool) {
    let what = if up { "Redis is up" } else { "Redis is down" };
    until_so(what, async || proxy.metric("jellypin_redis_up", &[]).await == f64::from(up)).await;
}

/// The leader of three replicas is killed during each kind of weather, and comes back after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_replicas_name_one_leader_through_faults_of_redis() {
    let mut redis = RedisServer::start();
    story(plan(3, &redis), async |world| {
        let (second, third) = (world.replica(|_| {}).await, world.replica(|_| {}).await);
        let all = [&world.proxy, &second, &third];
        let (mut term, mut pod) = until_agreed(&all, None).await;
        for weather in ["stopped", "hung", "flushed", "restarted empty", "read-only"] {
            match weather {
                "stopped" | "restarted empty" => redis.kill(),
                "hung" => redis.hang(true),
                "flushed" => redis.flush(),
                _ => redis.command(&["REPLICAOF", "127.0.0.1", "1"]),
            }
            if weather == "restarted empty" {
                redis.start_again();
            }
            let began = Instant::now();
            world.pod(&pod).kill().await;
            until("all leave the dead pod", || all.iter().all(|proxy| !leads_now(proxy, &pod))).await;
            let took = began.elapsed();
            let names: Vec<_> = all.iter().map(|proxy| leads(proxy).1).collect();
            assert!(names.iter().all(|name| *name == names[0]), "{weather}: {names:?}");
            println!(
                "Redis {weather}, leader killed: all three name {:?} after {:.0} ms",
                names[0],
                took.as_secs_f64() * 1000.0
            );
            match weather {
                "stopped" => redis.start_again(),
                "hung" => redis.hang(false),
                "read-only" => redis.command(&["REPLICAOF", "NO", "ONE"]),
                _ => {}
            }
            until("Redis has the lease again", || redis.field(KEY, "value") == names[0]).await;
            let (next_term, next) = until_agreed(&all, Some(&pod)).await;
            assert!(next_term > term, "{weather}: term {next_term} after {term}");
            world.pod(&pod).start_again().await.expect("it starts");
            for proxy in all {
                proxy.until_state(&pod, State::Ready).await;
            }
            assert_eq!(redis.field(KEY, "value").as_deref(), Some(&*next), "{weather}");
            (term, pod) = (next_term, next);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_the_first_ready_pod_leads() {
    let mut redis = RedisServer::absent();
    story(plan(3, &redis), async |world| {
        let second = world.replica(|_| {}).await;
        assert_eq!((leads(&world.proxy), leads(&second)), ((1, Some("a".into())), (1, Some("a".into()))));
        redis.start_again();
        until("the lease is taken", || redis.field(KEY, "value").as_deref() == Some("a")).await;
        until_agreed(&[&world.proxy, &second], None).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_counts_as_no_redis() {
    let redis = RedisServer::with_password("hunter2");
    story(plan(2, &redis), async |world| {
        until_redis(&world.proxy, false).await;
        assert!(leads_now(&world.proxy, "a"));
        let wrong = redis.url().replacen("//", "//:hunter3@", 1);
        let mut settings = world.settings().clone();
        settings.redis_url(&wrong);
        let mut program = Program::start(&settings, world.folder()).await;
        until("it is said", || program.log().contains("Redis cannot be used")).await;
        assert!(!program.log().contains("hunter"), "{}", program.log());
        program.signal("TERM");
        program.ended().await;
        let right = redis.url().replacen("//", "//:hunter2@", 1);
        let _knows = world.replica(|settings| settings.redis_url(&right)).await;
        until("the lease is taken", || redis.field(KEY, "value").as_deref() == Some("a")).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_election_works_over_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = RedisServer::with_tls(folder.path());
    story(plan(2, &redis).leader_poll(secs(10)), async |world| {
        let second = world.replica(|_| {}).await;
        let all = [&world.proxy, &second];
        let (term, pod) = until_agreed(&all, None).await;
        assert_eq!(world.proxy.metric("jellypin_leader_lease", &[]).await, 1.0);
        world.pod(&pod).kill().await;
        assert_eq!(until_agreed(&all, Some(&pod)).await.0, term + 1, "it is elected, and told over TLS too");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_lead_to_the_new_primary() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut primary = RedisServer::start();
    let copy = RedisServer::replica_of(&primary);
    until("the copy is in step", || copy.text(&["INFO", "replication"]).contains("master_link_status:up")).await;
    let sentinel = RedisServer::sentinel_of(&primary, folder.path());
    until("the sentinel knows the copy", || sentinel.text(&["INFO", "sentinel"]).contains("slaves=1")).await;
    let plan = plan(2, &primary).redis_url("redis://mymaster/0").redis_sentinels(&[&sentinel.url()]);
    story(plan, async |world| {
        let second = world.replica(|_| {}).await;
        let all = [&world.proxy, &second];
        let (term, pod) = until_agreed(&all, None).await;
        assert_eq!(primary.field(KEY, "value").as_deref(), Some(&*pod));
        primary.kill();
        until("the copy is the primary", || copy.text(&["INFO", "replication"]).contains("role:master")).await;
        world.pod(&pod).kill().await;
        let (next_term, next) = until_agreed(&all, Some(&pod)).await;
        assert!(next_term > term);
        until("the new primary has the lease", || copy.field(KEY, "value").as_deref() == Some(&*next)).await;
        until_agreed(&all, Some(&pod)).await;
    })
    .await;
}
