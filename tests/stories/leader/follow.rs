//! The pods elect among themselves, and the proxy follows what they write.

use super::*;
use crate::stories::world::{Plan, World, millis, secs, story, until, until_so};
use jellypin::leader::Mode;

const KEY: &str = "jellyfin:task-leader";

/// A guid for each pod, as the pods report it.
fn id(pod: char) -> String {
    format!("{:032x}", pod as u32)
}

/// A world that follows; each pod has an id of its own.
fn following(pods: usize, redis: &RedisServer) -> Plan {
    let mut plan = plan(pods, redis).leader_mode(Mode::Follow).leader_poll(millis(100));
    for (name, id) in ["a", "b", "c"].into_iter().zip(('a'..='c').map(id)).take(pods) {
        plan = plan.build_one(name, move |pod| pod.server_id(Some(&id)));
    }
    plan
}

fn write(redis: &RedisServer, id: &str) {
    redis.command(&["SET", KEY, id, "EX", "30"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_names_the_leader_by_its_server_id() {
    let redis = RedisServer::start();
    write(&redis, &id('b'));
    story(following(3, &redis), async |world| {
        assert!(leads_now(&world.proxy, "b"), "it is known before the first client comes: {:?}", leads(&world.proxy));
        let mut term = leads(&world.proxy).0;
        for pod in ['c', 'a', 'b'] {
            write(&redis, &id(pod).to_uppercase());
            let now = until_leads(&world.proxy, &pod.to_string()).await;
            assert!(now.term > term);
            term = now.term;
        }
        assert_eq!(world.proxy.metric("jellypin_leader_problems_total", &[]).await, 0.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_one_data_folder_are_told_apart_by_configured_ids() {
    let redis = RedisServer::start();
    let same = |pod: jellyfin_sim::PodBuilder| pod.server_id(Some("0123456789abcdef0123456789abcdef"));
    write(&redis, "0123456789abcdef0123456789abcdef");
    let plan = plan(2, &redis).leader_mode(Mode::Follow).leader_poll(millis(50)).build(same);
    story(plan, async |world| {
        assert!(leads_now(&world.proxy, "a"), "the rule holds");
        assert_eq!(problems(&world.proxy, "ambiguous_id").await, 1.0);
        let before = looks(&redis);
        until("the proxy looks six times more", || looks(&redis) >= before + 6).await;
        assert_eq!(problems(&world.proxy, "ambiguous_id").await, 1.0, "it is said once, not at every look");

        write(&redis, "two");
        let told_apart = world
            .replica(|settings| {
                settings.pod_with_id("a", world.pod("a").address(), "one");
                settings.pod_with_id("b", world.pod("b").address(), "two");
            })
            .await;
        until_leads(&told_apart, "b").await;
        write(&redis, "one");
        until_leads(&told_apart, "a").await;
        assert_eq!(told_apart.metric("jellypin_leader_problems_total", &[]).await, 0.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_leader_stays_while_the_key_is_empty() {
    let redis = RedisServer::start();
    story(following(3, &redis), async |world| {
        assert!(leads_now(&world.proxy, "a"), "no key, no last leader: the first by name");
        assert_eq!(problems(&world.proxy, "no_key").await, 1.0);
        write(&redis, &id('b'));
        until_leads(&world.proxy, "b").await;
        write(&redis, "nobody");
        until_problem(world, "unknown_id").await;
        assert!(leads_now(&world.proxy, "b"));
        redis.command(&["DEL", KEY]);
        redis.command(&["LPUSH", KEY, "x"]);
        until_problem(world, "unreadable").await;
        assert!(leads_now(&world.proxy, "b"));
        redis.command(&["DEL", KEY]);
        // The named pod dies, and the next election takes its time.
        write(&redis, &id('b'));
        until("the key is read again", || leads_now(&world.proxy, "b")).await;
        world.pod("b").kill().await;
        until_leads(&world.proxy, "a").await;
        until_problem(world, "pod_down").await;
        write(&redis, &id('c'));
        until_leads(&world.proxy, "c").await;
    })
    .await;
}

async fn until_problem(world: &World, cause: &str) {
    until_so(&format!("{cause} is said"), async || problems(&world.proxy, cause).await >= 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_comes_before_the_next_look() {
    let redis = RedisServer::start();
    redis.command(&["CONFIG", "SET", "notify-keyspace-events", "K$gx"]);
    write(&redis, &id('a'));
    story(following(3, &redis).leader_poll(secs(15)), async |slow| {
        // The subscription is made behind the start.
        until("somebody subscribes", || subscribers(&redis) == 1).await;
        let mut told = Vec::new();
        for pod in ['b', 'c', 'a'].into_iter().cycle().take(30) {
            let began = Instant::now();
            write(&redis, &id(pod));
            until_leads(&slow.proxy, &pod.to_string()).await;
            told.push(began.elapsed());
        }
        report("key changed until the proxy follows, told", told);
        let looks = slow.replica(|settings| settings.leader_poll(secs(1))).await;
        redis.command(&["CONFIG", "SET", "notify-keyspace-events", ""]);
        let mut found = Vec::new();
        for pod in ['b', 'c', 'a', 'b'] {
            let began = Instant::now();
            write(&redis, &id(pod));
            until_leads(&looks, &pod.to_string()).await;
            found.push(began.elapsed());
        }
        report("key changed until the proxy follows, found by looking once a second", found);
    })
    .await;
}

/// How often the key was read so far.
fn looks(redis: &RedisServer) -> usize {
    let statistics = redis.text(&["INFO", "commandstats"]);
    let gets = statistics.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls="));
    gets.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or_default()
}

fn subscribers(redis: &RedisServer) -> usize {
    redis.number(&["PUBSUB", "NUMSUB", &format!("__keyspace@0__:{KEY}")])
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pool_follows_its_own_key() {
    let redis = RedisServer::start();
    redis.command(&["SET", "films", &id('a')]);
    redis.command(&["SET", "music", &id('c')]);
    story(following(3, &redis), async |world| {
        let proxy = world
            .replica(|settings| {
                settings.remove_pod("c");
                settings.leader_key("main", "films");
                settings.pod_of("music", "c", world.pod("c").address());
                settings.leader_key("music", "music");
                settings.route_path("/music", "music");
                settings.route_rest("main");
            })
            .await;
        until_leads(&proxy, "a").await;
        redis.command(&["SET", "films", &id('b')]);
        until_leads(&proxy, "b").await;
        assert_eq!(proxy.metric("jellypin_leader_problems_total", &[]).await, 0.0);
        assert_eq!(proxy.metric("jellypin_leader", &[("pool", "music"), ("pod", "c")]).await, 1.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_leader_stays_while_redis_is_away() {
    let mut redis = RedisServer::start();
    write(&redis, &id('b'));
    story(following(3, &redis), async |world| {
        until_leads(&world.proxy, "b").await;
        redis.kill();
        until_problem(world, "redis_away").await;
        assert!(leads_now(&world.proxy, "b"));
        redis.start_again();
        write(&redis, &id('c'));
        until_leads(&world.proxy, "c").await;
        redis.hang(true);
        world.pod("c").kill().await;
        until_leads(&world.proxy, "a").await;
        redis.hang(false);
    })
    .await;
}
