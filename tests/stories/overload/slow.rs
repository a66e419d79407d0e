//! A pod that is starved of its processor keeps all that it has.

use std::time::Instant;

use futures_util::{SinkExt, StreamExt, future::join_all};
use jellyfin_sim::Machine;
use jellypin::pod::{Condition, State};
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_tungstenite::tungstenite::Message;

use super::crowd::{Crowd, as_quick_as, cut, log_outs, times};
use super::{Standing, for_long, warm};
use crate::stories::migration::storm::{clients_at, shares, socket_of};
use crate::stories::migration::{client_of, plan};
use crate::stories::world::{Client, Socket, World, elapse, secs, story, until};

/// Starves pod `a` for a time in which nothing may change.
async fn starve(world: &World, what: &str, starved: Machine, crowd: Crowd) {
    elapse(for_long() / 4).await;
    let calm = crowd.looked();
    let before = Standing::of(world).await;
    // A process whose code is cold has to compile it again.
    world.pod("a").run_on(None);
    world.pod("a").run_on(Some(starved));
    elapse(for_long()).await;
    let mut hard = crowd.looked();
    let during = Standing::of(world).await;
    world.pod("a").run_on(warm());
    let (normal_after, later) = crowd.until_normal("a", Instant::now(), as_quick_as(&calm)).await;
    hard.extend(later);
    let after = Standing::of(world).await;
    hard.extend(crowd.stop().await.0);
    println!(
        "{what} for {:?}\n\
         \x20 log-outs {}, cut requests {}, leader changes {}, minted {}, homes {:?} -> {:?} -> {:?}\n\
         \x20 clients of a: before {}; meanwhile {}\n\
         \x20 clients of b: before {}; meanwhile {}\n\
         \x20 all is normal {normal_after:.1?} after its end",
        for_long(),
        log_outs(&hard),
        cut(&hard).len(),
        after.leader_changes - before.leader_changes,
        after.minted - before.minted,
        before.homes,
        during.homes,
        after.homes,
        shares(times(&calm, "a")),
        shares(times(&hard, "a")),
        shares(times(&calm, "b")),
        shares(times(&hard, "b")),
    );
    assert_eq!((log_outs(&hard), cut(&hard).len()), (0, 0), "{:#?}", cut(&hard));
    assert_eq!(during, before);
    assert_eq!(after, before);
    assert!(normal_after.as_secs() < 20, "{normal_after:?}");
}

/// Says all the while that these clients are there; pods drop a socket that says nothing for a minute.
fn keep_alive(sockets: Vec<Socket>) -> JoinSet<()> {
    let keep = async |mut socket: Socket| {
        let mut pace = interval(secs(15));
        loop {
            tokio::select! {
                message = socket.next() => assert!(matches!(message, Some(Ok(_))), "a socket has ended: {message:?}"),
                _ = pace.tick() => drop(socket.send(Message::text(r#"{"MessageType":"KeepAlive"}"#)).await),
            }
        }
    };
    sockets.into_iter().map(keep).collect()
}

async fn clients(world: &World, pod: &str, count: usize) -> Vec<Client> {
    clients_at(world, pod, count, || world.client()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_starved_pod_keeps_its_clients_their_films_and_the_lead() {
    story(plan(2), async |world| {
        let (mut at_a, mut at_b) = (clients(world, "a", 30).await, clients(world, "b", 30).await);
        let sockets = keep_alive(join_all(at_a.iter_mut().chain(&mut at_b).step_by(2).map(socket_of)).await);
        world.pods.iter().for_each(|pod| pod.run_on(warm()));
        let mut crowd = Crowd::default();
        crowd.watch("a", at_a.drain(..2).collect());
        crowd.watch("b", at_b.drain(..1).collect());
        crowd.browse("a", at_a);
        crowd.browse("b", at_b);
        let what = "60 clients, 3 films, one of two pods starved to a fifth of a core";
        starve(world, what, Machine::RECORDED.warm().cores(0.2), crowd).await;
        drop(sockets);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_pod_that_answers_nothing_for_seconds_keeps_them_too() {
    story(plan(2), async |world| {
        let (mut at_a, at_b) = (clients(world, "a", 9).await, clients(world, "b", 6).await);
        let sockets = keep_alive(join_all(at_a.iter_mut().step_by(2).map(socket_of)).await);
        world.pods.iter().for_each(|pod| pod.run_on(warm()));
        let mut crowd = Crowd::default();
        crowd.watch("a", at_a.drain(..3).collect());
        crowd.browse("a", at_a);
        crowd.browse("b", at_b);
        let what = "15 clients, 3 films at one of two pods, which has half a core and has just started";
        starve(world, what, Machine::RECORDED.cores(0.5), crowd).await;
        drop(sockets);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_of_which_sockets_alone_answer_is_alive() {
    story(plan(2).silence(secs(2)), async |world| {
        let (mut client, home) = client_of(world, "alice", "sofa").await;
        let sockets = keep_alive(vec![socket_of(&mut client).await]);
        let pod = world.proxy.pod(&home);
        let mut changes = pod.life.changes();
        changes.mark_unchanged();
        world.pod(&home).hold_http(true);
        until("its checks are late", || pod.vitals.condition() != Condition::Well).await;
        elapse(secs(6)).await;
        assert!(!changes.has_changed().expect("the pod"), "its pongs show that it lives");
        // Without them nothing does.
        drop(sockets);
        world.until_state(&home, State::Down).await;
        world.pod(&home).hold_http(false);
        world.until_state(&home, State::Ready).await;
        assert_eq!(client.get("/Users/Me").await.status, 200);
    })
    .await;
}
