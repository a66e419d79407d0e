//! What a pod gets to do is what it can take: after the death of another, after a start, and when it is overloaded.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jellyfin_sim::{FILM, Machine};
use jellypin::pod::{Condition, State};
use serde_json::json;

use super::crowd::{Crowd, as_quick_as, cut, log_outs, times};
use super::{Standing, warm};
use crate::stories::migration::storm::{clients_at, shares, socket_of};
use crate::stories::migration::{minted, plan};
use crate::stories::world::{elapse, how_often, secs, story, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_of_a_dead_pod_move_and_the_next_pod_stays_well() {
    story(plan(2), async |world| {
        let mut at_a = clients_at(world, "a", 60, || world.client()).await;
        let at_b = clients_at(world, "b", 10, || world.client()).await;
        let sockets = join_all(at_a.iter_mut().step_by(2).map(socket_of)).await;
        world.pods.iter().for_each(|pod| pod.run_on(warm()));
        let mut crowd = Crowd::default();
        crowd.browse("a", at_a);
        crowd.browse("b", at_b);
        elapse(Duration::from_secs(2)).await;
        let calm = crowd.looked();
        world.pod("a").kill().await;
        let began = Instant::now();
        let (normal_after, mut visits) = crowd.until_normal("a", began, as_quick_as(&calm)).await;
        until("every socket is attached again", || world.pod("b").open_sockets() == sockets.len()).await;
        visits.extend(crowd.stop().await.0);
        println!(
            "60 clients of a pod that dies, 30 with a socket; one pod of two cores lives on\n\
             \x20 log-outs {}, cut requests {}, minted {}; all is normal after {normal_after:.1?}\n\
             \x20 the clients that moved: before {}; meanwhile {}\n\
             \x20 clients of the pod that lives on: before {}; meanwhile {}",
            log_outs(&visits),
            cut(&visits).len(),
            minted(world),
            shares(times(&calm, "a")),
            shares(times(&visits, "a")),
            shares(times(&calm, "b")),
            shares(times(&visits, "b")),
        );
        assert_eq!((log_outs(&visits), cut(&visits).len()), (0, 0), "{:#?}", cut(&visits));
        assert_eq!(minted(world), 60, "one mint for each");
        assert_eq!(world.proxy.pod("b").status().state, State::Ready);
        drop(sockets);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_all_start_cold_serve_those_who_waited_for_them() {
    let clients = how_often("STORY_CLIENTS", 30);
    story(plan(2), async |world| {
        let mut crowd = Crowd::default();
        for pod in ["a", "b"] {
            crowd.browse(pod, clients_at(world, pod, clients / 2, || world.client()).await);
        }
        for pod in &world.pods {
            pod.kill().await;
            pod.run_on(Some(Machine::RECORDED));
        }
        let all_wait = || world.pods.iter().all(|pod| world.proxy.pod(pod.name()).status().state == State::Down);
        until("both are down", all_wait).await;
        elapse(Duration::from_secs(2)).await;
        crowd.looked();
        let began = Instant::now();
        for pod in &world.pods {
            pod.start_again().await.expect("a start");
        }
        let (normal_after, mut visits) = crowd.until_normal("a", began, secs(2)).await;
        visits.extend(crowd.stop().await.0);
        println!(
            "{clients} clients held while two pods start cold: log-outs {}, cut requests {}; all is normal after {normal_after:.1?}; {}",
            log_outs(&visits),
            cut(&visits).len(),
            shares(visits.iter().map(|visit| visit.took).collect()),
        );
        assert_eq!((log_outs(&visits), cut(&visits).len()), (0, 0), "{:#?}", cut(&visits));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_overloaded_pod_cannot_take_waits_by_what_it_is_and_the_rest_is_told_to_come_later() {
    story(plan(2).queue(4).queue_time(secs(1)), async |world| {
        let mut clients = clients_at(world, "a", 40, || world.client()).await;
        let mut film = clients.pop().expect("a client");
        let mut careful = clients.pop().expect("a client");
        world.pods.iter().for_each(|pod| pod.run_on(warm()));
        world.pod("a").run_on(Some(Machine::RECORDED.warm().cores(0.002)));
        world.proxy.until_condition("a", Condition::Late).await;
        until("it gets less to do", || world.proxy.pod("a").concurrency.limit() < 10).await;
        let pages = join_all(clients.iter_mut().map(async |client| {
            let answer = client.get("/Items").await;
            (answer.status, answer.header("retry-after").to_owned())
        }));
        let token = film.token.clone().expect("a token");
        let path = format!("/Videos/{FILM}/hls1/main/0.ts?PlaySessionId=1&ApiKey={token}");
        let needed = async { (film.get(&path).await.status, careful.get("/System/Info").await.status) };
        let relieved = async {
            let is_full = || world.proxy.pod("a").concurrency.waiting() == 4;
            until("the queue is full", is_full).await;
            elapse(Duration::from_secs(2)).await;
            world.pod("a").run_on(warm());
        };
        let (pages, needed, ()) = tokio::join!(pages, needed, relieved);
        let put_off = pages.iter().filter(|(status, after)| *status == 503 && after == "5").count();
        let served = pages.iter().filter(|(status, _)| *status == 200).count();
        println!(
            "of 38 pages of an overloaded pod {served} were served and {put_off} put off; film and session {needed:?}"
        );
        assert_eq!((served + put_off, needed), (38, (200, 200)), "{pages:?}");
        assert!(served > 0 && put_off > 0);
        assert_eq!(world.proxy.metric("jellypin_rejected_total", &[("why", "overloaded")]).await, put_off as f64);
        world.proxy.until_condition("a", Condition::Well).await;
        for client in &mut clients {
            assert_eq!(client.get("/Items").await.status, 200, "all is as before");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_waits_too_long_is_asked_elsewhere_only_where_its_session_is_known() {
    story(plan(2).queue(2).queue_time(secs(1)), async |world| {
        let mut member = clients_at(world, "a", 1, || world.client()).await.pop().expect("a client");
        let mut clients = clients_at(world, "b", 22, || world.client()).await;
        let (mut known, mut strange) = (clients.pop().expect("a client"), clients.pop().expect("a client"));
        // Who looks for groups becomes known to the leader, and lives on elsewhere.
        assert_eq!(member.post("/SyncPlay/New", json!({"GroupName": "evening"})).await.status, 200);
        assert_eq!(known.get("/SyncPlay/List").await.json()[0]["GroupName"], "evening");
        world.pods.iter().for_each(|pod| pod.run_on(warm()));
        world.pod("b").run_on(Some(Machine::RECORDED.warm().cores(0.002)));
        world.proxy.until_condition("b", Condition::Late).await;
        until("it gets less to do", || world.proxy.pod("b").concurrency.limit() < 10).await;
        let before = Standing::of(world).await;
        let crowd = async {
            join_all(clients.iter_mut().map(async |client| client.get("/Items").await.status)).await;
        };
        let full = || world.proxy.pod("b").concurrency.waiting() == 2;
        let asked = async {
            until("the queue is full", full).await;
            let answers = [known.get("/Items").await, strange.get("/Items").await];
            world.pod("b").run_on(warm());
            answers
        };
        let ((), [by_known, by_strange]) = tokio::join!(crowd, asked);
        assert_eq!((by_known.status, world.home(&by_known)), (200, "a"));
        assert_eq!((by_strange.status, world.saw(&by_strange).len()), (503, 0), "nobody else knows it");
        assert_eq!(Standing::of(world).await, before, "nobody moved, and no session was made");
        world.proxy.until_condition("b", Condition::Well).await;
        let at_home = known.get("/Users/Me").await;
        assert_eq!((at_home.status, world.home(&at_home)), (200, "b"));
    })
    .await;
}
