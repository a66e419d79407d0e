//! Faults of pods, networks, Redis and disks under clients at work, before the program itself: what clients notice.
//!
//! `cargo test --test faults -- --nocapture` prints the table. `FAULTS_CLIENTS=100` is the full size, `FAULTS_ONLY=Redis` runs some.

use std::path::PathBuf;
use std::time::Duration;

use fault_tables::detection::{Death, times};
use fault_tables::lanes::LANES;
use fault_tables::pod::{PodProgram, become_pod_if_asked};
use fault_tables::proxy::Programs;
use fault_tables::table;
use futures_util::future::join_all;

/// Becomes a pod if a test has started this program for that.
#[test]
#[ignore = "a pod of the other tests"]
fn pod() {
    become_pod_if_asked();
}

fn programs() -> Programs {
    Programs { jellypin: PathBuf::from(env!("CARGO_BIN_EXE_jellypin")), others: None }
}

fn pods() -> PodProgram {
    PodProgram { arguments: ["pod", "--exact", "--ignored", "--nocapture"].map(str::to_owned).to_vec() }
}

/// So many clients in each lane, and whether faults have their full length.
fn size() -> (usize, bool) {
    let clients = std::env::var("FAULTS_CLIENTS").map(|text| text.parse().expect("a number"));
    clients.map_or((6, false), |clients| (clients, true))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_notice_no_more_of_faults_than_the_table_allows() {
    let ((clients, is_full), programs, pods) = (size(), programs(), pods());
    let only = std::env::var("FAULTS_ONLY").unwrap_or_default();
    let lanes = LANES.map(|lane| {
        let (programs, pods, only) = (programs.clone(), pods.clone(), only.clone());
        let is_wanted = move |fault| format!("{fault:?}").contains(&only);
        async move { lane.run(clients, is_full, &programs, &pods, is_wanted).await }
    });
    let rows: Vec<_> = join_all(lanes).await.into_iter().flatten().collect();
    println!("{}", table::text(&rows));
    let wrongs = rows.iter().filter_map(|row| {
        let wrongs = row.wrongs();
        (!wrongs.is_empty()).then(|| format!("{}: {}", row.fault.name(), wrongs.join("; ")))
    });
    let wrongs: Vec<String> = wrongs.collect();
    assert!(wrongs.is_empty(), "\n{}", wrongs.join("\n"));
}

fn shown(what: &str, took: &[Duration]) -> Duration {
    let at = |share: usize| took[(took.len() * share).div_ceil(100).max(1) - 1];
    println!("{what}: {} times, median {:?}, p99 {:?}", took.len(), at(50), at(99));
    at(99)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_pod_is_found_out_in_time() {
    let ((clients, is_full), programs, pods) = (size(), programs(), pods());
    let often = if is_full { 20 } else { 2 };
    let (busy, idle, stopped) = tokio::join!(
        times(Death::Killed, often, clients.max(4), &programs, &pods),
        times(Death::Killed, often, 0, &programs, &pods),
        times(Death::Stopped, if is_full { often } else { 1 }, clients.max(4), &programs, &pods),
    );
    // In the gate the machine is busy with other tests.
    let slack = if is_full { 1 } else { 5 };
    assert!(shown("killed under traffic", &busy) <= slack * Duration::from_millis(300));
    assert!(shown("killed without traffic", &idle) <= slack * Duration::from_secs(3));
    // 5 to 7 s for a pod that was quick; four times as long as it took lately for one that was not.
    assert!(shown("stopped", &stopped) <= slack.max(2) * Duration::from_secs(6));
}
