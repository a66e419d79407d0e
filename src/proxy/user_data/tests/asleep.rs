//! A pod that sleeps: its machine is suspended, and it wakes with the rows that it had in memory.

use std::time::Duration;

use serde_json::json;
use tokio::time;

use super::{
    assert_in_step, id,
    model::{Model, Pods},
    run, until_in_step, user, write, write_of,
};
use crate::{
    jellyfin::user_data::Act,
    proxy::{
        user_data::carry::Carrier,
        user_data_state::ledger::{Access, Admission, Ledger, Plan, PodView, UserKey},
    },
    shutdown::Shutdown,
};

#[test]
fn what_was_written_while_a_pod_slept_is_told_when_it_is_awake_again() {
    for (begins_an_epoch, hours) in [(true, 0), (true, 9), (false, 0), (false, 9)] {
        run(async {
            let model = Model::new(5, 3);
            let pods = Pods(model.clone());
            let carrier = Carrier::new(Default::default(), pods.clone(), Shutdown::new());
            (0..3).for_each(|pod| {
                model.lock().row(pod, id(0));
            });
            (model.lock().pods[2].is_alive, model.lock().pods[2].sleeps) = (false, true);
            write(&carrier, &pods, 0, id(0), Act::Favorite(true)).await;
            time::sleep(Duration::from_secs(hours * 3600 + 60)).await;
            assert_eq!(model.lock().told, 1, "the pod that is awake does not wait");
            assert_eq!(carrier.ledgers.pairs(), 1);
            {
                let pod = &mut model.lock().pods[2];
                (pod.is_alive, pod.sleeps) = (true, false);
                pod.epoch += u32::from(begins_an_epoch);
            }
            // It writes its whole row.
            write(&carrier, &pods, 2, id(0), Act::Likes(Some(true))).await;
            until_in_step(&carrier).await;
            assert_in_step(&model.lock(), 1);
            assert_eq!(model.lock().database[&id(0)]["IsFavorite"], json!(true));
        });
    }
}

#[test]
fn what_waits_for_a_pod_that_sleeps_takes_no_room_from_what_is_written_now() {
    run(async {
        let model = Model::new(1, 3);
        let [a, b, asleep] = [0, 1, 2].map(|pod| model.lock().instance(pod));
        let pods = [(a, true), (b, true), (asleep, false)];
        let pods = pods.map(|(instance, is_alive)| PodView { instance, is_alive, sleeps: !is_alive });
        let (mut ledger, began) = (Ledger::default(), time::Instant::now());
        let mut write = |user: UserKey, item, second| {
            let now = began + Duration::from_secs(second);
            let Admission::Granted(Some(ticket)) = ledger.admit(user, a, Access::Write(Some(item)), now, false) else {
                panic!("nothing is to be told to the pod")
            };
            let write = write_of(item, Act::Favorite(true));
            let has_dropped = ledger.end_write((user, a, ticket), Some(&write), now, std::time::SystemTime::now());
            let Plan::Work(rounds) = ledger.plan(user, &pods, now, false) else { panic!("the second pod is behind") };
            assert!(rounds.iter().any(|round| round.item == item && round.targets == [b]));
            (has_dropped, ledger.counts().1)
        };
        let user_of = |number: u64| UserKey { id: id(number), ..user() };
        let mut second = 0;
        let most = loop {
            second += 1;
            if let (true, most) = write(user_of(second / 200), id(second), second) {
                break most;
            }
        };
        assert_eq!(write(user_of(9_999), id(0), second + 1), (true, most), "the oldest one goes");
        assert_eq!(write(user_of(9_999), id(0), second + 2), (false, most), "it is kept");
    });
}
