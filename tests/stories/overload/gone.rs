//! Pods that answer nothing are told from slow ones, and what all of them suffer moves nobody.

use std::time::{Duration, Instant};

use jellypin::pod::{Condition, State};

use super::crowd::{Crowd, as_quick_as, cut, log_outs};
use super::{Standing, warm};
use crate::stories::migration::plan;
use crate::stories::migration::storm::{clients_at, shares};
use crate::stories::world::{World, elapse, story};

/// So many clients of each of two pods, who ask all the while.
async fn crowd(world: &World, of_each: usize) -> Crowd {
    let mut crowd = Crowd::default();
    for pod in ["a", "b"] {
        crowd.browse(pod, clients_at(world, pod, of_each, || world.client()).await);
    }
    crowd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_pod_is_out_within_ten_seconds_and_its_clients_go_on() {
    story(plan(2), async |world| {
        let crowd = crowd(world, 10).await;
        world.pods.iter().for_each(|pod| pod.run_on(warm()));
        elapse(Duration::from_secs(2)).await;
        let calm = crowd.looked();
        world.pod("a").hang(true);
        let began = Instant::now();
        world.proxy.until_condition("a", Condition::Silent).await;
        world.until_state("a", State::Down).await;
        let found = began.elapsed();
        let (normal_after, later) = crowd.until_normal("a", began, as_quick_as(&calm)).await;
        let mut visits = [calm, later].concat();
        visits.extend(crowd.stop().await.0);
        println!("a hung pod was out after {found:.1?}, and its clients were served as usual after {normal_after:.1?}");
        assert_eq!((log_outs(&visits), cut(&visits).len()), (0, 0), "{:#?}", cut(&visits));
        assert!(found <= Duration::from_secs(10), "{found:?}");
        world.pod("a").hang(false);
        world.until_state("a", State::Ready).await;
        assert_eq!(world.proxy.pod("a").status().epoch.0, 1, "the same process as before");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_moves_nobody() {
    story(plan(2), async |world| {
        let crowd = crowd(world, 10).await;
        world.pods.iter().for_each(|pod| pod.run_on(warm()));
        elapse(Duration::from_secs(2)).await;
        let calm = crowd.looked();
        let before = Standing::of(world).await;
        world.cluster.hang_database(true);
        let ill = |pod: &str| world.proxy.pod(pod).vitals.condition() != Condition::Well;
        for _ in 0..80 {
            elapse(Duration::from_millis(100)).await;
            assert!(["a", "b"].iter().all(|pod| world.proxy.pod(pod).status().state == State::Ready));
        }
        assert!(ill("a") && ill("b"), "it is seen, and shown");
        let during = Standing::of(world).await;
        world.cluster.hang_database(false);
        let (normal_after, mut visits) = crowd.until_normal("a", Instant::now(), as_quick_as(&calm)).await;
        let after = Standing::of(world).await;
        visits.extend(crowd.stop().await.0);
        println!("the database hung for 8 s; all was normal {normal_after:.1?} later");
        assert_eq!((log_outs(&visits), cut(&visits).len()), (0, 0), "{:#?}", cut(&visits));
        assert_eq!(during, before);
        assert_eq!(after, before);
        assert!(normal_after.as_secs() < 20, "{normal_after:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_pod_is_out_at_once_while_clients_ask() {
    const KILLS: usize = 20;
    story(plan(2), async |world| {
        let crowd = crowd(world, 10).await;
        let mut times = Vec::new();
        for _ in 0..KILLS {
            world.pod("a").kill().await;
            let began = Instant::now();
            world.until_state("a", State::Down).await;
            times.push(began.elapsed());
            world.pod("a").start_again().await.expect("a start");
            world.until_state("a", State::Ready).await;
        }
        println!("a killed pod was out, {KILLS} times: {}", shares(times.clone()));
        let (visits, _) = crowd.stop().await;
        assert_eq!((log_outs(&visits), cut(&visits).len()), (0, 0), "{:#?}", cut(&visits));
        assert!(times.iter().all(|time| *time < Duration::from_secs(3)), "{times:?}");
    })
    .await;
}
