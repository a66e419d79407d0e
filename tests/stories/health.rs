//! Who counts as ready, how soon a dead pod is out, and what is served when nobody is ready.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use jellyfin_sim::{FILM, PhaseLengths, Pod, StartUp};
use jellypin::pod::{Condition, State};

use super::migration::{minted, revocation::at_home};
use super::world::{Failed, World, body_of, elapse, millis, secs, story, until, until_so};

const PUBLIC: &str = "/System/Info/Public";

/// How often clients came to a pod; the proxy's own questions do not count.
fn visits(pod: &Pod) -> usize {
    pod.seen().iter().filter(|seen| seen.header("x-story-request").is_some()).count()
}

async fn visit(world: &World, times: usize) {
    for _ in 0..times {
        assert_eq!(world.client().get(PUBLIC).await.status, 200);
    }
}

#[tokio::test]
async fn a_degraded_pod_gets_no_client() {
    story(World::plan(2), async |world| {
        world.pod("a").degrade(true);
        world.until_state("a", State::Starting).await;
        visit(world, 20).await;
        assert_eq!(visits(world.pod("a")), 0, "200 is not enough: the body has to be Healthy");
        world.pod("a").degrade(false);
        world.until_state("a", State::Ready).await;
        visit(world, 20).await;
        assert!(visits(world.pod("a")) > 0);
    })
    .await;
}

#[tokio::test]
async fn a_starting_pod_gets_no_client() {
    let lengths = PhaseLengths::RECORDED.scaled(0.15);
    story(World::plan(2).build_one("b", move |pod| pod.start_up(StartUp::Phased(lengths))), async |world| {
        assert_ne!(world.proxy.pod("b").status().state, State::Ready);
        let mut early = 0;
        while world.proxy.pod("b").status().state != State::Ready {
            assert_eq!(visits(world.pod("b")), 0);
            visit(world, 1).await;
            early += 1;
        }
        assert!(early > 0 && world.pod("b").is_ready());
        visit(world, 20).await;
        assert!(visits(world.pod("b")) > 0);
        let life = world.proxy.pod("b").status().epoch;
        assert_eq!(life.0, 2, "it was seen to begin");

        // The same once more, for a pod that is started again.
        world.pod("b").kill().await;
        world.until_state("b", State::Down).await;
        world.pod("b").start_again().await.expect("a start");
        world.pod("b").clear_seen();
        while world.proxy.pod("b").status().state != State::Ready {
            assert_eq!(visits(world.pod("b")), 0);
            visit(world, 1).await;
        }
        assert_eq!(world.proxy.pod("b").status().epoch.0, life.0 + 1);
    })
    .await;
}

#[tokio::test]
async fn the_proxy_is_ready_when_a_pod_is() {
    let lengths = PhaseLengths::RECORDED.scaled(0.3);
    story(World::plan(1).build(move |pod| pod.start_up(StartUp::Phased(lengths))), async |world| {
        let early = world.proxy.ask_admin("/ready").await;
        assert_eq!((early.status, early.text()), (503, "no pod of the pool main is ready\n"));
        assert_eq!(world.proxy.ask_admin("/live").await.status, 200, "it lives all the same");
        world.until_state("a", State::Ready).await;
        let ready = world.proxy.ask_admin("/ready").await;
        assert_eq!((ready.status, ready.text()), (200, "ready\n"));
    })
    .await;
}

#[tokio::test]
async fn a_database_outage_takes_no_pod_out() {
    story(World::plan(2), async |world| {
        let mut client = world.client();
        let home = world.home(&client.get(PUBLIC).await).to_owned();
        for pod in &world.pods {
            pod.database_down(true);
        }
        for pod in ["a", "b"] {
            world.proxy.until_condition(pod, Condition::NoDatabase).await;
        }
        assert_eq!(world.proxy.ask_admin("/ready").await.status, 503);
        assert_eq!(world.proxy.ask_admin("/pods").await.json()[0]["condition"], "no_database");
        assert_eq!(world.proxy.metric("jellypin_pod_condition", &[("condition", "no_database")]).await, 2.0);
        let page = world.proxy.ask_admin("/overview").await.json();
        let verdict = &page["overview"]["verdict"];
        assert_eq!(
            (&verdict["level"], &page["overview"]["pods"][0]["condition"]),
            (&"wrong".into(), &"no_database".into())
        );
        assert_eq!(verdict["sentences"][0]["text"], "No pod reaches its database", "{verdict}");
        for path in [PUBLIC, "/Branding/Configuration", &format!("/Items/{FILM}/Images/Primary")] {
            assert_eq!(client.get(path).await.status, 200, "{path}");
        }
        // An ill pod may be slow as well.
        for pod in &world.pods {
            pod.slow_first_byte(Duration::from_millis(500));
            pod.clear_seen();
        }
        assert_eq!(client.get(PUBLIC).await.status, 200);
        assert_eq!(world.pods.iter().map(visits).sum::<usize>(), 1, "its answer was waited for");
        let own = client.get("/health").await;
        assert_eq!((own.status, own.text()), (503, "Unhealthy"), "the pod's own answer");

        for pod in &world.pods {
            pod.database_down(false);
        }
        world.proxy.until_condition(&home, Condition::Well).await;
        assert_eq!(world.proxy.pod(&home).status().epoch.0, 1, "it was the same process all the time");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_takes_no_pod_out_for_clients_of_a_dead_one() {
    story(World::plan(3).with_api_key().hold(millis(200)), async |world| {
        let [mut of_a, mut of_b, mut of_c] =
            [at_home(world, "alice", "a").await, at_home(world, "bob", "b").await, at_home(world, "user0", "c").await];
        let stay = || ["b", "c"].iter().all(|pod| world.proxy.pod(pod).status().state == State::Ready);
        for pod in &world.pods {
            pod.database_down(true);
        }
        for pod in ["a", "b", "c"] {
            world.proxy.until_condition(pod, Condition::NoDatabase).await;
        }
        world.pod("a").kill().await;
        world.until_state("a", State::Down).await;
        for _ in 0..5 {
            let answer = of_a.get("/Users/Me").await;
            assert!([500, 503].contains(&answer.status) && stay(), "{}", answer.status);
            let answer = of_b.get("/Users/Me").await;
            assert_eq!(answer.status, 500, "the pod's own answer");
            assert!(world.saw(&answer).iter().all(|pod| *pod == "b"));
        }
        let tries = |name: &str| world.pod(name).seen().iter().any(|seen| seen.path().starts_with("/QuickConnect/"));
        assert!(tries("b") || tries("c"), "a new session was tried");

        for pod in &world.pods {
            pod.database_down(false);
        }
        for pod in ["b", "c"] {
            world.proxy.until_condition(pod, Condition::Well).await;
        }
        for (client, home) in [(&mut of_b, "b"), (&mut of_c, "c")] {
            let answer = client.get("/Users/Me").await;
            assert_eq!((answer.status, world.home(&answer)), (200, home));
            assert_eq!(world.proxy.pod(home).status().epoch.0, 1, "it was the same process all the time");
        }
        until_so("the client of the dead pod goes on", async || of_a.get("/Users/Me").await.status == 200).await;
    })
    .await;
}

#[tokio::test]
async fn without_a_pod_requests_get_503_and_media_break_off() {
    story(World::plan(2).hold(millis(300)), async |world| {
        for pod in &world.pods {
            pod.kill().await;
        }
        for pod in ["a", "b"] {
            world.until_state(pod, State::Down).await;
        }
        let mut client = world.client();
        let answer = client.get("/Branding/Configuration").await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.text(), "No server can be reached at the moment.\n");
        assert_eq!(answer.set_cookie(), None, "nobody is bound to a dead pod");

        let began = Instant::now();
        let request = client.request(Method::GET, &format!("/Videos/{FILM}/stream?static=true"));
        let failed = client.send(request, body_of("")).await.expect_err("a broken connection");
        assert!(matches!(failed, Failed::NoAnswer), "{failed:?}");
        assert!(began.elapsed() >= Duration::from_millis(300), "it was held before that");

        world.pod("b").start_again().await.expect("a start");
        world.until_state("b", State::Ready).await;
        assert_eq!(world.home(&client.get(PUBLIC).await), "b");
    })
    .await;
}

#[tokio::test]
async fn a_film_waits_for_the_only_pod() {
    story(World::plan(1), async |world| {
        world.pod("a").kill().await;
        world.until_state("a", State::Down).await;
        let mut player = world.client();
        let began = async {
            let path = format!("/Videos/{FILM}/stream?static=true");
            player.get_with(&path, &[("range", "bytes=0-99")]).await
        };
        let returned = async {
            let is_held = || world.proxy.pod("a").load.total() == 0 && world.proxy.lines().is_empty();
            assert!(is_held());
            world.pod("a").start_again().await.expect("a start");
        };
        let (answer, ()) = tokio::join!(began, returned);
        assert_eq!((answer.status, answer.body.len()), (206, 100));
    })
    .await;
}

#[tokio::test]
async fn an_idle_proxy_finds_a_dead_pod_within_three_seconds_and_a_hung_one_within_ten() {
    story(World::plan(3), async |world| {
        for (pod, how) in [("a", "hung"), ("b", "killed"), ("c", "stopped")] {
            let began = Instant::now();
            match how {
                "killed" => world.pod(pod).kill().await,
                "stopped" => world.pod(pod).stop().await,
                _ => world.pod(pod).hang(true),
            }
            world.until_state(pod, State::Down).await;
            let found = began.elapsed();
            println!("a pod that was {how} is out after {found:?}");
            let promised = if how == "hung" { Duration::from_secs(10) } else { Duration::from_secs(3) };
            assert!(found <= promised, "{how}: {found:?}");
        }
        assert!(world.proxy.lines().is_empty(), "no traffic helped");
    })
    .await;
}

#[tokio::test]
async fn a_dead_pod_is_found_long_before_its_next_check() {
    story(World::plan(2).probe_interval(secs(3600)), async |world| {
        world.pod("a").kill().await;
        world.until_state("a", State::Down).await;
        assert!(world.proxy.lines().is_empty(), "no traffic helped");
    })
    .await;
}

#[tokio::test]
async fn the_admin_api_shows_every_pod() {
    story(World::plan(2), async |world| {
        visit(world, 3).await;
        world.pod("b").kill().await;
        world.until_state("b", State::Down).await;

        let pods = world.proxy.ask_admin("/pods").await;
        assert_eq!(pods.header("content-type"), "application/json");
        let pods = pods.json();
        let a = &pods[0];
        assert_eq!((&a["pool"], &a["name"], &a["state"]), (&"main".into(), &"a".into(), &"ready".into()));
        assert_eq!(a["address"], world.pod("a").address().to_string());
        assert_eq!((&a["epoch"], &a["server_id"]), (&1.into(), &world.pod("a").server_id().into()));
        assert_eq!((&a["version"], &a["accepts_connections"]), (&"12.0.0".into(), &true.into()));
        assert_eq!((&pods[1]["state"], &pods[1]["accepts_connections"]), (&"down".into(), &false.into()));

        let metric = |name, labels| world.proxy.metric(name, labels);
        assert_eq!(metric("jellypin_pod_state", &[("pod", "a"), ("state", "ready")]).await, 1.0);
        assert_eq!(metric("jellypin_pod_state", &[("pod", "b"), ("state", "down")]).await, 1.0);
        assert_eq!(metric("jellypin_pod_state", &[]).await, 2.0, "each pod is in one state");
        assert_eq!(metric("jellypin_pod_epoch", &[("pod", "a")]).await, 1.0);
        assert_eq!(metric("jellypin_requests_total", &[("code", "2xx")]).await, 3.0);
        assert_eq!(world.proxy.ask_admin("/nowhere").await.status, 404);
    })
    .await;
}

#[tokio::test]
async fn a_fresh_proxy_probes_before_it_listens() {
    story(World::plan(3), async |world| {
        for pod in ["a", "b", "c"] {
            assert_eq!(world.proxy.pod(pod).status().state, State::Ready, "{pod} right after the start");
        }
        // A pod that hangs holds the start up for a moment only.
        world.pod("c").hang(true);
        let began = Instant::now();
        let other = world.replica(|_| ()).await;
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert_eq!(other.client().get(PUBLIC).await.status, 200);
        assert_ne!(other.pod("c").status().state, State::Ready);
        world.pod("c").hang(false);
        until("the pod is ready", || other.pod("c").status().state == State::Ready).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_away_takes_no_pod_out_and_moves_nobody() {
    const AWAY: Duration = Duration::from_millis(3500);
    story(World::plan(2).with_api_key(), async |world| {
        let homes = [("alice", "a"), ("bob", "b")];
        let mut clients = Vec::new();
        for (user, pod) in homes {
            let client = at_home(world, user, pod).await;
            clients.extend((0..6).map(|_| (client.twin(), pod)));
        }
        let changes = world.proxy.metric("jellypin_leader_changes_total", &[]).await;
        let over = AtomicBool::new(false);
        let busy = clients.iter_mut().map(async |(client, home)| {
            while !over.load(Ordering::Relaxed) {
                let me = client.get("/Users/Me").await;
                assert_eq!((me.status, world.home(&me)), (200, *home));
                elapse(millis(50)).await;
            }
        });
        let fault = async {
            world.pods.iter().for_each(|pod| pod.go_dark(true));
            let (began, serve) = (Instant::now(), |pod| world.proxy.pod(pod).status().state == State::Ready);
            until("it is over", || {
                assert!(serve("a") && serve("b"), "{:?}", began.elapsed());
                began.elapsed() >= AWAY
            })
            .await;
            world.pods.iter().for_each(|pod| pod.go_dark(false));
            for (_, pod) in homes {
                world.proxy.until_condition(pod, Condition::Well).await;
            }
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(join_all(busy), fault);
        assert_eq!((minted(world), world.proxy.pod("a").status().epoch.0), (0, 1));
        assert_eq!(world.proxy.metric("jellypin_leader_changes_total", &[]).await, changes);
    })
    .await;
}
