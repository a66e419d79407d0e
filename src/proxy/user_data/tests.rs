//! Users' data on three pods that behave as Jellyfin does: each has rows in memory, writes them
//! whole, and does not see what others write. Calls and writes meet in every order.

mod asleep;
mod at_once;
mod doubts;
mod killed;
mod model;
mod redone;
mod versions;

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time;

use super::{carry::Carrier, pod_calls::Answer};
use crate::{
    jellyfin::{
        endpoint::Write,
        user_data::{Act, Id},
    },
    proxy::{
        request::attempt::WriteUnderWay,
        user_data_state::ledger::{Access, UserKey},
    },
    shutdown::Shutdown,
};
use model::{Columns, Model, Pods, RUNTIME, Recorded, empty, sets};

fn user() -> UserKey {
    UserKey { pool: 0, id: id(7) }
}

fn id(number: u64) -> Id {
    Id::read(&format!("{:032x}", number + 1)).expect("an id")
}

fn write_of(item: Id, act: Act) -> Write {
    let is_progress = matches!(act, Act::Reached(ticks) if ticks % 2 == 1);
    Write { user: None, item, is_urgent: !is_progress, is_playing: is_progress || act == Act::Started, act }
}

/// A client's write through one pod, as the proxy carries it. Returns whether it was answered.
async fn write(carrier: &Arc<Carrier<Pods>>, pods: &Pods, pod: usize, item: Id, act: Act) -> bool {
    let began = {
        let mut model = pods.0.lock();
        model.tick += 1;
        model.tick
    };
    let instance = pods.0.lock().instance(pod);
    // A report names its item in its body only.
    let named = (!matches!(act, Act::Reached(_) | Act::Started)).then_some(item);
    let open = Box::new(carrier.admit(user(), instance, Access::Write(named)).await.expect("a write"));
    let done = pods.reach(instance, |model, pod| model.act(pod, item, &act)).await;
    if done != Answer::Got(()) {
        // Nobody knows what became of it.
        return false;
    }
    let write = write_of(item, act);
    open.end(Some(&write));
    let mut model = pods.0.lock();
    model.tick += 1;
    let ended = model.tick;
    let sets = sets(&write.act);
    model.writes.push(Recorded { began, ended, item, sets });
    true
}

async fn until_in_step(carrier: &Arc<Carrier<Pods>>) {
    for _ in 0..3_000 {
        if carrier.ledgers.pairs() == 0 {
            return;
        }
        time::sleep(Duration::from_secs(1)).await;
    }
    panic!("it never ends");
}

/// All pods and the database have the same row, with the last value of each column.
fn assert_in_step(model: &Model, items: u64) {
    for item in (0..items).map(id) {
        let stored = model.database.get(&item).cloned().unwrap_or_else(empty);
        for (number, pod) in model.pods.iter().enumerate().filter(|(_, pod)| pod.is_alive) {
            if let Some(row) = pod.memory.get(&item) {
                assert_eq!(row, &stored, "pod {number} and the database, item {item}");
            }
        }
        for name in ["IsFavorite", "Likes", "Played", "PlaybackPositionTicks"] {
            let of = |write: &Recorded| write.sets.iter().find(|(set, _)| *set == name).map(|(_, value)| value.clone());
            let writes: Vec<(&Recorded, Value)> = model
                .writes
                .iter()
                .filter(|write| write.item == item)
                .filter_map(|write| Some((write, of(write)?)))
                .collect();
            let is_last = |write: &Recorded| !writes.iter().any(|(other, _)| other.began > write.ended);
            let may_be: Vec<&Value> =
                writes.iter().filter(|(write, _)| is_last(write)).map(|(_, value)| value).collect();
            let value = stored.get(name).cloned().unwrap_or(Value::Null);
            assert!(may_be.is_empty() || may_be.contains(&&value), "{name} of {item}: {value}, not of {may_be:?}");
        }
    }
}

fn run<F: Future<Output = ()>>(scene: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(scene);
}

#[test]
fn every_pair_of_writes_in_every_order_ends_as_on_one_server() {
    let acts = || {
        [
            Act::Favorite(true),
            Act::Favorite(false),
            Act::Likes(Some(true)),
            Act::Likes(None),
            Act::Played(None),
            Act::Unplayed,
            Act::Started,
            Act::Reached(RUNTIME / 3),
            Act::Reached(RUNTIME - 1),
        ]
    };
    let without_dates =
        |row: Columns| row.into_iter().filter(|(name, _)| name != "LastPlayedDate").collect::<Columns>();
    let item = id(0);
    for before in [None, Some(Act::Favorite(true)), Some(Act::Played(None))] {
        for (first, second) in acts().into_iter().flat_map(|first| acts().map(|second| (first.clone(), second))) {
            for pods_of in [(0, 0), (0, 1), (1, 0)] {
                let scene = async {
                    let single = {
                        let model = Model::new(1, 1);
                        let mut model = model.lock();
                        before.iter().chain([&first, &second]).for_each(|act| model.act(0, item, act));
                        model.database[&item].clone()
                    };
                    let model = Model::new(1, 3);
                    let pods = Pods(model.clone());
                    let carrier = Carrier::new(Arc::default(), pods.clone(), Shutdown::new());
                    (0..3).for_each(|pod| {
                        model.lock().row(pod, item);
                    });
                    if let Some(before) = &before {
                        write(&carrier, &pods, 2, item, before.clone()).await;
                    }
                    write(&carrier, &pods, pods_of.0, item, first.clone()).await;
                    write(&carrier, &pods, pods_of.1, item, second.clone()).await;
                    until_in_step(&carrier).await;
                    assert_in_step(&model.lock(), 1);
                    let stored = model.lock().database[&item].clone();
                    assert_eq!(
                        without_dates(stored),
                        without_dates(single),
                        "{before:?} {first:?} {second:?} {pods_of:?}"
                    );
                };
                run(scene);
            }
        }
    }
}

#[test]
fn a_pod_that_hangs_delays_one_request_by_two_seconds_and_no_other_pod() {
    run(async {
        let model = Model::new(3, 3);
        let pods = Pods(model.clone());
        let carrier = Carrier::new(Arc::default(), pods.clone(), Shutdown::new());
        let [a, b, c] = [0, 1, 2].map(|pod| model.lock().instance(pod));
        model.lock().pods[2].hangs = true;
        write(&carrier, &pods, 0, id(0), Act::Favorite(true)).await;
        let began = time::Instant::now();
        assert!(carrier.admit(user(), b, Access::Item(id(0))).await.is_none());
        assert!(carrier.admit(user(), a, Access::Item(id(0))).await.is_none());
        assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
        carrier.admit(user(), c, Access::Other).await;
        assert_eq!(began.elapsed().as_secs(), 2);
        carrier.admit(user(), c, Access::Item(id(0))).await;
        assert_eq!(began.elapsed().as_secs(), 2, "it is told later");
        model.lock().pods[2].hangs = false;
        until_in_step(&carrier).await;
        assert_in_step(&model.lock(), 1);
    });
}

#[test]
fn progress_is_told_at_the_end_or_when_another_pod_is_asked() {
    run(async {
        let model = Model::new(5, 3);
        let pods = Pods(model.clone());
        let carrier = Carrier::new(Arc::default(), pods.clone(), Shutdown::new());
        let b = model.lock().instance(1);
        write(&carrier, &pods, 0, id(0), Act::Started).await;
        time::sleep(Duration::from_secs(1)).await;
        assert_eq!(model.lock().told, 2, "a start counts a play");
        for minute in 0..10 {
            write(&carrier, &pods, 0, id(0), Act::Reached(RUNTIME / 9 * 2 + 1 + minute * 2)).await;
            time::sleep(Duration::from_secs(10)).await;
        }
        assert_eq!(model.lock().told, 2);
        carrier.admit(user(), b, Access::Item(id(0))).await;
        assert_eq!(model.lock().pods[1].memory[&id(0)]["PlaybackPositionTicks"], json!(RUNTIME / 9 * 2 + 19));
        let told = model.lock().told;
        // It is seen on two pods now.
        for second in 0..17 {
            write(&carrier, &pods, 0, id(0), Act::Reached(RUNTIME / 9 * 2 + 101 + second * 2)).await;
            time::sleep(Duration::from_secs(7)).await;
        }
        let more = model.lock().told - told;
        assert!((5..=9).contains(&more), "every 30 s to both: {more}");
        write(&carrier, &pods, 0, id(0), Act::Reached(RUNTIME / 3 / 2 * 2)).await;
        until_in_step(&carrier).await;
        assert_in_step(&model.lock(), 1);
    });
}

#[test]
fn what_a_client_writes_while_a_row_takes_long_to_arrive_is_not_lost() {
    run(async {
        let model = Model::new(13, 3);
        let pods = Pods(model.clone());
        let carrier = Carrier::new(Arc::default(), pods.clone(), Shutdown::new());
        (0..3).for_each(|pod| {
            model.lock().row(pod, id(0));
        });
        model.lock().delay = Some((1, Duration::from_secs(3)));
        write(&carrier, &pods, 0, id(0), Act::Played(None)).await;
        // The pod takes the row only after the client's write, which did not wait for so long.
        write(&carrier, &pods, 1, id(0), Act::Unplayed).await;
        until_in_step(&carrier).await;
        assert_in_step(&model.lock(), 1);
        assert_eq!(model.lock().database[&id(0)]["Played"], json!(false));
    });
}

#[test]
fn a_difference_that_always_comes_back_is_told_a_few_times_only() {
    run(async {
        let model = Model::new(7, 3);
        let pods = Pods(model.clone());
        let carrier = Carrier::new(Arc::default(), pods.clone(), Shutdown::new());
        model.lock().stubborn = Some(1);
        write(&carrier, &pods, 0, id(0), Act::Favorite(true)).await;
        until_in_step(&carrier).await;
        let told = model.lock().told;
        assert!((3..=10).contains(&told), "{told}");
    });
}

#[test]
fn a_replayed_report_changes_no_row() {
    run(async {
        let model = Model::new(11, 3);
        let pods = Pods(model.clone());
        let carrier = Carrier::new(Arc::default(), pods.clone(), Shutdown::new());
        write(&carrier, &pods, 0, id(0), Act::Reached(RUNTIME / 5 + 1)).await;
        write(&carrier, &pods, 1, id(0), Act::Played(None)).await;
        let c = model.lock().instance(2);
        carrier.admit(user(), c, Access::All).await;
        let played = model.clone();
        let replay = async move { played.lock().act(2, id(0), &Act::Reached(RUNTIME / 5 + 1)) };
        carrier.preserve(user(), c, id(0), replay).await;
        until_in_step(&carrier).await;
        assert_in_step(&model.lock(), 1);
    });
}

#[test]
fn a_mark_of_a_folder_reaches_its_children_on_every_pod() {
    run(async {
        let (model, folder) = (Model::new(9, 3), id(100));
        let children: Vec<Id> = (0..25).map(id).collect();
        model.lock().folders.insert(folder, children.clone());
        let pods = Pods(model.clone());
        let carrier = Carrier::new(Arc::default(), pods.clone(), Shutdown::new());
        for (pod, child) in (0..3).flat_map(|pod| children.iter().map(move |child| (pod, *child))) {
            model.lock().row(pod, child);
        }
        write(&carrier, &pods, 1, id(3), Act::Favorite(true)).await;
        write(&carrier, &pods, 0, folder, Act::Played(None)).await;
        until_in_step(&carrier).await;
        let model = model.lock();
        for (pod, child) in model.pods.iter().flat_map(|pod| children.iter().map(move |child| (pod, child))) {
            assert_eq!(pod.memory[child]["Played"], json!(true), "{child}");
            assert_eq!(pod.memory[child], model.database[child], "{child}");
        }
        assert_eq!(model.database[&id(3)]["IsFavorite"], json!(true));
        assert!(!model.database.contains_key(&folder) || model.database[&folder]["Played"] == json!(false));
    });
}

#[test]
fn a_pod_that_ends_playback_by_itself_is_told_again() {
    run(async {
        let model = Model::new(5, 3);
        let pods = Pods(model.clone());
        let carrier = Carrier::new(Arc::default(), pods.clone(), Shutdown::new());
        write(&carrier, &pods, 0, id(0), Act::Started).await;
        write(&carrier, &pods, 0, id(0), Act::Reached(RUNTIME / 5 + 1)).await;
        // The user moves to another pod, and watches on.
        let b = model.lock().instance(1);
        carrier.admit(user(), b, Access::Other).await;
        write(&carrier, &pods, 1, id(0), Act::Reached(RUNTIME / 3 / 2 * 2)).await;
        time::sleep(Duration::from_secs(400)).await;
        model.lock().act(0, id(0), &Act::Reached(RUNTIME / 5 + 1));
        until_in_step(&carrier).await;
        assert_in_step(&model.lock(), 1);
        assert_eq!(model.lock().database[&id(0)]["PlaybackPositionTicks"], json!(RUNTIME / 3 / 2 * 2));
    });
}
