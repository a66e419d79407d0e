//! Faults of Redis, of the way to it, and of one of two replicas.

use std::time::Duration;

use crate::client::elapse;
use crate::link::Mode;
use crate::redis_server::RedisServer;
use crate::stage::Stage;

fn server(stage: &mut Stage) -> &mut RedisServer {
    stage.redis.as_mut().expect("a Redis")
}

pub(super) async fn kill(stage: &mut Stage) -> String {
    let time = stage.lasts(2.0, 15.0);
    server(stage).kill();
    elapse(time).await;
    server(stage).start_again().await;
    String::new()
}

pub(super) async fn hang(stage: &mut Stage) -> String {
    let time = stage.lasts(2.0, 15.0);
    server(stage).hang(true);
    elapse(time).await;
    server(stage).hang(false);
    String::new()
}

pub(super) async fn flush(stage: &mut Stage) -> String {
    server(stage).command(&["FLUSHALL"]);
    elapse(stage.lasts(1.0, 5.0)).await;
    String::new()
}

/// One command breaks it, another mends it.
async fn commanded(stage: &mut Stage, breaks: &[&str], mends: &[&str]) -> String {
    let time = stage.lasts(2.0, 15.0);
    server(stage).command(breaks);
    elapse(time).await;
    server(stage).command(mends);
    String::new()
}

pub(super) async fn fill(stage: &mut Stage) -> String {
    commanded(stage, &["CONFIG", "SET", "maxmemory", "1"], &["CONFIG", "SET", "maxmemory", "0"]).await
}

pub(super) async fn read_only(stage: &mut Stage) -> String {
    commanded(stage, &["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]).await
}

async fn on_links(stage: &mut Stage, links: usize, mode: Mode) -> String {
    stage.redis_links.iter().take(links).for_each(|link| link.set(mode));
    elapse(stage.lasts(2.0, 15.0)).await;
    stage.redis_links.iter().for_each(|link| link.set(Mode::Pass));
    String::new()
}

pub(super) async fn slow(stage: &mut Stage) -> String {
    on_links(stage, usize::MAX, Mode::SlowAnswers(Duration::from_millis(500))).await
}

pub(super) async fn cut_from_one(stage: &mut Stage) -> String {
    on_links(stage, 1, Mode::Cut).await
}

pub(super) async fn mix_types_up(stage: &mut Stage) -> String {
    server(stage).mix_types_up();
    elapse(stage.lasts(1.0, 10.0)).await;
    server(stage).command(&["FLUSHALL"]);
    String::new()
}

pub(super) async fn kill_replica(stage: &mut Stage) -> String {
    let time = stage.lasts(1.0, 10.0);
    let (fleet, proxy) = (&stage.fleet, &mut stage.proxies[0]);
    fleet.dies(proxy.address);
    proxy.kill();
    elapse(time).await;
    proxy.start_again().await;
    fleet.lives(proxy.address);
    String::new()
}
