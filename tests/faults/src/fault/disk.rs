//! Faults of jellypin's own disk.

use std::fs;

use crate::client::elapse;
use crate::stage::Stage;

/// Below the length of every file that is written.
const FULL: u64 = 4096;

/// How long a write that failed is not tried again, and some more.
const TRIED_AGAIN: u64 = 4;

pub(super) async fn fill(stage: &mut Stage) -> String {
    let time = stage.lasts(2.0, 15.0);
    stage.proxies[0].process().limit_files(Some(FULL));
    elapse(time).await;
    let newcomer = stage.newcomer(0).await;
    stage.proxies[0].process().limit_files(None);
    elapse(std::time::Duration::from_secs(TRIED_AGAIN)).await;
    // What waited in memory is written by now, and outlives the process and the pod.
    restart(stage).await;
    match newcomer {
        Err(why) => format!("a log-in on a full disk: {why:?}"),
        Ok(mut client) => {
            let answer = client.send(http::Method::GET, "/Users/Me", serde_json::Value::Null).await;
            format!("a log-in on a full disk, after a kill: {:?}", answer.map(|answer| answer.status))
        }
    }
}

async fn restart(stage: &mut Stage) {
    let (fleet, proxy) = (&stage.fleet, &mut stage.proxies[0]);
    fleet.dies(proxy.address);
    proxy.kill();
    proxy.start_again().await;
    fleet.lives(proxy.address);
}

pub(super) async fn start_without(stage: &mut Stage) -> String {
    let time = stage.lasts(1.0, 10.0);
    {
        let (fleet, proxy) = (&stage.fleet, &mut stage.proxies[0]);
        fleet.dies(proxy.address);
        proxy.kill();
        proxy.start_without_disk().await;
        fleet.lives(proxy.address);
    }
    elapse(time).await;
    restart(stage).await;
    String::new()
}

pub(super) async fn corrupt(stage: &mut Stage) -> String {
    let (fleet, proxy) = (&stage.fleet, &mut stage.proxies[0]);
    fleet.dies(proxy.address);
    proxy.kill();
    let mut broken = 0;
    for entry in fs::read_dir(proxy.state_folder()).expect("the state folder").flatten() {
        if entry.path().extension().is_some_and(|end| end == "redb") {
            let length = fs::metadata(entry.path()).map_or(0, |about| about.len());
            fs::write(entry.path(), vec![0x5a; length as usize]).expect("written");
            broken += 1;
        }
    }
    proxy.start_again().await;
    fleet.lives(proxy.address);
    format!("{broken} stores")
}
