//! Replicas and Redis are killed again and again. Nobody ever names two leaders of one term, and nobody's request fails.

use jellypin::leader::Mode;
use std::collections::BTreeMap;

use super::election::{KEY, Onlooker, kills};
use super::*;
use crate::stories::world::{Client, Program, Visitors, millis, secs, story, until, until_so};
use jellypin::pod::State;

/// What a replica has said of the leader, in order.
fn said(program: &Program) -> Vec<(u64, String)> {
    let log = program.log();
    let lines = log.lines().filter(|line| line.contains("\"pod leads\""));
    let said = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some((line["leader.term"].as_u64()?, line["leader.pod"].as_str()?.to_owned()))
    };
    lines.filter_map(said).collect()
}

/// Asks a replica's admin API.
async fn page(program: &Program, path: &str) -> String {
    Client::at_address(program.addresses()[1]).get(path).await.text().to_owned()
}

async fn holds_the_lease(program: &Program) -> bool {
    page(program, "/metrics").await.contains("jellypin_leader_lease{pool=\"main\"} 1")
}

/// Waits until all replicas name the leader that the lease names.
async fn until_said_by_all(programs: &[Program], redis: &RedisServer) -> (u64, String) {
    let mut agreed = None;
    until("all name the leader of the lease", || {
        let named = || Some((redis.field(KEY, "term")?.parse().ok()?, redis.field(KEY, "value")?));
        agreed = named().filter(|named| programs.iter().all(|program| said(program).last() == Some(named)));
        agreed.is_some()
    })
    .await;
    agreed.expect("agreed")
}

/// Three replicas as processes; one is killed, every fourth time the one that renews the lease, and every eighth time the
/// leader with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_replica_changes_no_leader() {
    let redis = RedisServer::start();
    // The world's own proxy has no part in it.
    story(plan(3, &redis).with_api_key().leader_mode(Mode::Local), async |world| {
        let mut settings = world.settings().clone();
        settings.leader_mode(Mode::Elect);
        settings.leader_lease(secs(1));
        settings.leader_poll(millis(200));
        let mut programs = Vec::new();
        for _ in 0..3 {
            programs.push(Program::start(&settings, world.folder()).await);
        }
        let (mut term, mut pod) = until_said_by_all(&programs, &redis).await;
        let mut calls: Vec<usize> = (0..6).map(|number| number % 3).collect();
        let visitors = Visitors::sign_in(calls.len(), |number| programs[calls[number]].client()).await;
        let (mut histories, mut took_over, mut elected, mut agreed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for round in 0..kills() {
            let (kills_holder, kills_leader) = (round % 4 == 0, round % 8 == 0);
            let mut holders = Vec::new();
            for program in &programs {
                holders.push(holds_the_lease(program).await);
            }
            let victim =
                (0..3).map(|step| (round + step) % 3).find(|at| holders[*at] == kills_holder).expect("a victim");
            for (number, calls) in calls.iter_mut().enumerate().filter(|(_, calls)| **calls == victim) {
                *calls = (victim + 1 + number % 2) % 3;
                visitors.go_over(number, programs[*calls].client()).await;
            }
            let holder = redis.field(KEY, "holder");
            let began = Instant::now();
            if kills_leader {
                world.pod(&pod).kill().await;
            }
            programs[victim].signal("KILL");
            programs[victim].ended().await;
            let others = async {
                if kills_leader {
                    until("another leads", || redis.field(KEY, "value").is_some_and(|now| now != pod)).await;
                    elected.push(began.elapsed());
                }
                if kills_holder {
                    let taken = || redis.field(KEY, "holder").is_some_and(|now| Some(now) != holder);
                    until("the lease has another holder", taken).await;
                    took_over.push(began.elapsed());
                }
            };
            let (again, ()) = tokio::join!(Program::start(&settings, world.folder()), others);
            histories.push(said(&std::mem::replace(&mut programs[victim], again)));
            let (next_term, next) = until_said_by_all(&programs, &redis).await;
            agreed.push(began.elapsed());
            assert_eq!(next_term, term + u64::from(kills_leader), "one change is one term");
            assert_eq!(next != pod, kills_leader, "the leader stays when it does not have to move");
            let first = said(&programs[victim]).first().cloned();
            assert!(first.as_ref().is_some_and(|(first, _)| *first >= term), "{first:?} after {term}");
            if kills_leader {
                world.pod(&pod).start_again().await.expect("it starts");
                world.until_state(&pod, State::Ready).await;
                for program in &programs {
                    until_all_ready(program).await;
                }
            }
            (term, pod) = (next_term, next);
            // Somebody calls the new one.
            let number = round % calls.len();
            calls[number] = victim;
            visitors.go_over(number, programs[victim].client()).await;
        }
        visitors.leave(&format!("{} kills of a replica", kills())).await;
        report("holder killed until the lease has another", took_over);
        report("holder and leader killed until another pod leads", elected);
        report("replica killed until it is back and all three agree", agreed);
        histories.extend(programs.iter().map(said));
        let mut pods: BTreeMap<u64, &str> = BTreeMap::new();
        let mut wrong = Vec::new();
        for history in &histories {
            for (term, pod) in history {
                let known = *pods.entry(*term).or_insert(pod);
                wrong.extend((known != *pod).then(|| format!("term {term}: {known} and {pod}")));
            }
            let shrank = history.windows(2).filter(|terms| terms[1].0 < terms[0].0);
            wrong.extend(shrank.map(|terms| format!("term {} after {}", terms[1].0, terms[0].0)));
        }
        println!("two leaders at once, or a term that shrank: {} in {} histories", wrong.len(), histories.len());
        assert_eq!(wrong, Vec::<String>::new());
        for mut program in programs {
            program.signal("TERM");
            program.ended().await;
        }
    })
    .await;
}

async fn until_all_ready(program: &Program) {
    until_so("all pods are ready", async || page(program, "/pods").await.matches("\"ready\"").count() == 3).await;
}

/// Every third time it has lost everything; every fifth time the leader is killed while it is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_replicas_name_one_leader_after_redis_was_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut redis = RedisServer::kept_in(folder.path());
    let plan = plan(3, &redis).with_api_key().leader_lease(secs(2)).leader_poll(millis(100));
    story(plan.redis_deadline(secs(1)), async |world| {
        let (second, third) = (world.replica(|_| {}).await, world.replica(|_| {}).await);
        let all = [&world.proxy, &second, &third];
        let (mut term, mut pod) = until_agreed(&all, None).await;
        let visitors = Visitors::sign_in(6, |number| all[number % 3].client()).await;
        let onlooker = Onlooker::of(&all);
        let (mut alone, mut agreed) = (Vec::new(), Vec::new());
        for round in 0..kills() {
            let (is_empty, kills_leader) = (round % 3 == 0, round % 5 == 0);
            redis.kill();
            if kills_leader {
                let began = Instant::now();
                world.pod(&pod).kill().await;
                until("all leave the dead pod", || all.iter().all(|proxy| !leads_now(proxy, &pod))).await;
                alone.push(began.elapsed());
                assert!(all.iter().all(|proxy| leads(proxy).1 == leads(all[0]).1), "by one rule");
            }
            if is_empty {
                redis.forget();
            }
            let began = Instant::now();
            redis.start_again();
            let mut now = None;
            until("all have asked Redis, and name the leader of the lease", || {
                let named = || Some((redis.field(KEY, "term")?.parse().ok()?, redis.field(KEY, "value")));
                let asked = || redis.text(&["CLIENT", "LIST"]).matches("cmd=eval").count() == all.len();
                now = named().filter(|named| all.iter().all(|proxy| leads(proxy) == *named) && asked());
                now.is_some()
            })
            .await;
            agreed.push(began.elapsed());
            let Some((next_term, Some(next))) = now else { panic!("no leader") };
            assert!(next_term >= term, "term {next_term} after {term}");
            assert_eq!(next != pod, kills_leader, "the leader stays when it does not have to move");
            if kills_leader {
                world.pod(&pod).start_again().await.expect("it starts");
                for proxy in all {
                    proxy.until_state(&pod, State::Ready).await;
                }
            }
            (term, pod) = (next_term, next);
        }
        visitors.leave(&format!("{} kills of Redis", kills())).await;
        report("leader killed without Redis until all three name another", alone);
        report("Redis killed until it is back and all three have agreed through it", agreed);
        onlooker.end();
    })
    .await;
}
