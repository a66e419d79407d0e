//! Three replicas elect one pod.

use super::*;
use crate::stories::world::{Client, Program, Visitors, body_of, elapse, how_often, millis, secs, story, until};
use http::Method;
use jellypin::leader::Mode;
use jellypin::pod::State;

/// How often something is killed: `STORY_KILLS=50`. Each kind of kill comes twice in sixteen.
pub(super) fn kills() -> usize {
    how_often("STORY_KILLS", 16)
}

pub(super) const KEY: &str = "jellypin:leader:main";

/// What an onlooker of all replicas saw: it compares them all the time.
pub(super) struct Onlooker {
    task: tokio::task::JoinHandle<()>,
    seen: Arc<parking_lot::Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    looks: usize,
    /// The pod of each term.
    terms: std::collections::BTreeMap<u64, String>,
    two_at_once: Vec<String>,
}

impl Onlooker {
    pub(super) fn of(proxies: &[&Proxy]) -> Onlooker {
        let leaders: Vec<_> = proxies.iter().map(|proxy| leader(proxy)).collect();
        let seen = Arc::new(parking_lot::Mutex::new(Seen::default()));
        let notes = seen.clone();
        let task = tokio::spawn(async move {
            let mut last = vec![0; leaders.len()];
            loop {
                for (number, leader) in leaders.iter().enumerate() {
                    let now = leader.now();
                    let mut notes = notes.lock();
                    notes.looks += 1;
                    if now.term < last[number] {
                        notes.two_at_once.push(format!("replica {number}: term {} after {}", now.term, last[number]));
                    }
                    last[number] = now.term;
                    let Some(pod) = &now.pod else { continue };
                    let known = notes.terms.entry(now.term).or_insert_with(|| pod.name.to_string()).clone();
                    if *known != *pod.name {
                        notes.two_at_once.push(format!("term {}: {known} and {}", now.term, pod.name));
                    }
                }
                elapse(Duration::from_micros(500)).await;
            }
        });
        Onlooker { task, seen }
    }

    /// Nobody ever saw two leaders of one term, nor a term that shrank.
    pub(super) fn end(self) {
        self.task.abort();
        let seen = self.seen.lock();
        println!(
            "two leaders at once: {} in {} looks over {} terms",
            seen.two_at_once.len(),
            seen.looks,
            seen.terms.len()
        );
        assert_eq!(seen.two_at_once, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_replaced_on_all_replicas() {
    let redis = RedisServer::start();
    story(plan(3, &redis).with_api_key(), async |world| {
        let (second, third) = (world.replica(|_| {}).await, world.replica(|_| {}).await);
        let all = [&world.proxy, &second, &third];
        let (mut term, mut pod) = until_agreed(&all, None).await;
        assert_eq!(pod, "a");
        let visitors = Visitors::sign_in(6, |number| all[number % 3].client()).await;
        let onlooker = Onlooker::of(&all);
        let (mut first_knew, mut all_agreed) = (Vec::new(), Vec::new());
        for _ in 0..kills() {
            let began = Instant::now();
            world.pod(&pod).kill().await;
            until("one has a new leader", || all.iter().any(|proxy| !leads_now(proxy, &pod))).await;
            first_knew.push(began.elapsed());
            let (next_term, next) = until_agreed(&all, Some(&pod)).await;
            all_agreed.push(began.elapsed());
            assert_eq!(next_term, term + 1, "one change is one term");
            world.pod(&pod).start_again().await.expect("it starts");
            for proxy in all {
                proxy.until_state(&pod, State::Ready).await;
                assert!(leads_now(proxy, &next), "a pod that comes back takes nothing away");
            }
            (term, pod) = (next_term, next);
        }
        report("leader killed until the first replica names a new one", first_knew);
        report("leader killed until all three replicas name the new one", all_agreed);
        onlooker.end();
        visitors.leave(&format!("{} kills of the leader", kills())).await;
        let mut held = 0.0;
        for proxy in all {
            held += proxy.metric("jellypin_leader_lease", &[]).await;
        }
        assert_eq!(held, 1.0, "one replica renews");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_drained_at_one_replica_loses_it_on_all() {
    // Told to the one that renews the lease, and to one that does not.
    for (when, number) in [("now", 0), ("idle", 1), ("now", 1)] {
        let redis = RedisServer::start();
        story(plan(3, &redis), async |world| {
            let second = world.replica(|_| {}).await;
            let all = [&world.proxy, &second];
            let (term, pod) = until_agreed(&all, None).await;
            let onlooker = Onlooker::of(&all);
            let mut operator = all[number].operators();
            let request = operator.request(Method::POST, &format!("/pods/main/{pod}/drain?when={when}"));
            assert_eq!(operator.send(request, body_of("")).await.expect("an answer").status, 202);
            let (next_term, next) = until_agreed(&all, Some(&pod)).await;
            assert_eq!((next_term, &*next), (term + 1, "b"), "one change is one term");
            assert_eq!(redis.field(KEY, "value").as_deref(), Some("b"));
            // Each looks again once a second, and the one that was told nothing sees a pod that could lead.
            elapse(millis(1500)).await;
            assert_eq!(until_agreed(&all, None).await, (next_term, next), "it stays so");
            onlooker.end();
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_stays_while_replicas_come_and_go() {
    let redis = RedisServer::start();
    story(plan(3, &redis), async |world| {
        // The first by name is away when the leader is elected.
        world.pod("a").kill().await;
        until_leads(&world.proxy, "b").await;
        world.pod("a").start_again().await.expect("it starts");
        world.until_state("a", State::Ready).await;
        let before = leads(&world.proxy);
        let second = world.replica(|_| {}).await;
        assert_eq!(leads(&second), before);
        let holder = redis.field(KEY, "holder");
        world.restart(|_| {}).await;
        until("the lease is taken by the other", || redis.field(KEY, "holder").is_some_and(|now| Some(now) != holder))
            .await;
        assert_eq!((leads(&world.proxy), leads(&second)), (before.clone(), before.clone()));
        second.stop().await;
        world.restart(|_| {}).await;
        assert_eq!(leads(&world.proxy), before, "even when all were gone at once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_lease_holder_is_replaced() {
    let redis = RedisServer::start();
    // The world's own proxy has no part in it.
    story(plan(2, &redis).leader_mode(Mode::Local), async |world| {
        let mut settings = world.settings().clone();
        settings.leader_mode(Mode::Elect);
        settings.leader_lease(secs(2));
        settings.leader_poll(millis(200));
        let mut holder = Program::start(&settings, world.folder()).await;
        until("it holds the lease", || redis.field(KEY, "holder").is_some()).await;
        let name = redis.field(KEY, "holder");
        let mut other = Program::start(&settings, world.folder()).await;
        let leads = async |program: &Program| {
            let page = Client::at_address(program.addresses()[1]).get("/pods").await.json();
            page.as_array().expect("a list").iter().find(|pod| pod["leads"] == true).map(|pod| pod["name"].clone())
        };
        assert_eq!(leads(&other).await, Some("a".into()));
        holder.signal("KILL");
        holder.ended().await;
        let began = Instant::now();
        until("the lease has another holder", || redis.field(KEY, "holder").is_some_and(|now| Some(now) != name)).await;
        println!("holder killed until its lease of 2 s has another: {:.0} ms", began.elapsed().as_secs_f64() * 1000.0);
        assert_eq!((leads(&other).await, redis.field(KEY, "term").as_deref()), (Some("a".into()), Some("1")));
        // And it elects: nobody else is there.
        world.pod("a").kill().await;
        until("b is elected", || redis.field(KEY, "value").as_deref() == Some("b")).await;
        until("it is said", || other.log().contains("\"leader.why\":\"elected\"")).await;
        assert!(!other.log().contains("\"leader.term\":0"), "{}", other.log());
        other.signal("TERM");
        other.ended().await;
        assert_eq!(redis.life(KEY), -2, "a replica that stops gives its lease back");
    })
    .await;
}
