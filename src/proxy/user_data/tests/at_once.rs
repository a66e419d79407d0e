//! What devices of one user, other users and sessions that move do at the same time.

use std::sync::Arc;

use proptest::prelude::*;

use super::{
    assert_in_step, id,
    model::{Model, Pods, RUNTIME, any_act},
    run, until_in_step, user, write,
};
use crate::{
    jellyfin::user_data::Act,
    proxy::{user_data::carry::Carrier, user_data_state::ledger::Access},
    shutdown::Shutdown,
};

/// Several devices of one user write at once, each on its pod; pods die and come back. Or a session
/// moves about, and what it plays is replayed.
async fn devices_write(seed: u64, devices: usize, (kills, moves): (bool, bool)) {
    let model = Model::new(seed, 3);
    let (pods, items) = (Pods(model.clone()), 3);
    let carrier = Carrier::new(Arc::default(), pods.clone(), Shutdown::new());
    let device = |number: usize| {
        let (carrier, pods) = (carrier.clone(), pods.clone());
        async move {
            for _ in 0..15 {
                let (pod, item, act) = {
                    let mut model = pods.0.lock();
                    let act = any_act(&mut model);
                    let item = id(model.draw(items));
                    let moves = model.draw(4) == 0;
                    (if moves { model.draw(3) as usize } else { number % 3 }, item, act)
                };
                if pods.0.lock().pods[pod].is_alive {
                    write(&carrier, &pods, pod, item, act).await;
                }
                pods.pause().await;
            }
        }
    };
    let devices: Vec<_> = (0..devices).map(|number| tokio::spawn(device(number))).collect();
    // What other users write makes a pod read this one's rows again.
    let others = tokio::spawn(others_write(pods.clone(), items));
    let mover = moves.then(|| tokio::spawn(sessions_move(carrier.clone(), pods.clone(), items)));
    for device in devices {
        device.await.expect("a device");
        if kills {
            // No client's write is under way on it, but calls of the proxy may be.
            let mut model = model.lock();
            let pod = model.draw(3) as usize;
            let (is_alive, epoch) = (model.pods[pod].is_alive, model.pods[pod].epoch);
            let others_alive = model.pods.iter().filter(|pod| pod.is_alive).count() > 1;
            if is_alive && others_alive {
                model.pods[pod].is_alive = false;
                model.pods[pod].memory.clear();
            } else if !is_alive {
                model.pods[pod].is_alive = true;
                model.pods[pod].epoch = epoch + 1;
            }
        }
    }
    others.await.expect("the others");
    if let Some(mover) = mover {
        mover.await.expect("a mover");
    }
    until_in_step(&carrier).await;
    assert_in_step(&model.lock(), items);
    assert_eq!(model.lock().timed_out, 0);
}

/// A session comes to a pod again and again, which hears what the session has long played.
pub(super) async fn sessions_move(carrier: Arc<Carrier<Pods>>, pods: Pods, items: u64) {
    for _ in 0..15 {
        let (pod, item, at) = {
            let mut model = pods.0.lock();
            let pod = model.draw(3) as usize;
            (pod, id(model.draw(items)), model.instance(pod))
        };
        if !pods.0.lock().seems_alive(pod) {
            continue;
        }
        carrier.admit(user(), at, Access::All).await;
        let replaying = pods.clone();
        let replay = async move {
            replaying.reach(at, |model, _| model.act(pod, item, &Act::Reached(RUNTIME / 5 + 1))).await;
        };
        carrier.preserve(user(), at, item, replay).await;
        pods.pause().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_devices_write_at_once_is_on_every_pod(seed: u64, devices in 1_usize..4) {
        run(devices_write(seed, devices, (false, false)));
    }

    #[test]
    fn a_session_that_moves_meanwhile_takes_nothing_back(seed: u64, devices in 1_usize..4) {
        run(devices_write(seed, devices, (false, true)));
    }

    #[test]
    fn the_end_of_a_pod_loses_nothing_that_was_answered(seed: u64) {
        // One device at a time: its pod may die the moment after it has answered.
        run(one_device_and_its_pod_dies(seed));
    }
}

/// One user writes through a pod that dies as soon as it has answered, goes on through another one
/// and comes back.
async fn one_device_and_its_pod_dies(seed: u64) {
    let model = Model::new(seed, 3);
    let (pods, items) = (Pods(model.clone()), 2);
    let carrier = Carrier::new(Arc::default(), pods.clone(), Shutdown::new());
    // All pods have all rows in memory.
    for (pod, item) in (0..3).flat_map(|pod| (0..items).map(move |item| (pod, id(item)))) {
        model.lock().row(pod, item);
    }
    for _ in 0..12 {
        let (pod, item, act, dies) = {
            let mut model = model.lock();
            let act = any_act(&mut model);
            let alive: Vec<usize> = (0..3).filter(|pod| model.pods[*pod].is_alive).collect();
            let pod = alive[model.draw(alive.len() as u64) as usize];
            (pod, id(model.draw(items)), act, model.draw(3) == 0 && alive.len() > 1)
        };
        write(&carrier, &pods, pod, item, act).await;
        let mut model = model.lock();
        if dies {
            model.pods[pod].is_alive = false;
            model.pods[pod].memory.clear();
        } else {
            model.pods.iter_mut().filter(|pod| !pod.is_alive).for_each(|pod| {
                pod.epoch += 1;
                pod.is_alive = true;
            });
        }
    }
    until_in_step(&carrier).await;
    assert_in_step(&model.lock(), items);
}

/// Other users write the same items now and then: a pod that saves one user's row of an item reads
/// those of all users from the database.
pub(super) async fn others_write(pods: Pods, items: u64) {
    for _ in 0..150 {
        {
            let mut model = pods.0.lock();
            let (pod, item) = (model.draw(3) as usize, id(model.draw(items)));
            if model.pods[pod].is_alive
                && let Some(stored) = model.database.get(&item).cloned()
            {
                model.pods[pod].memory.insert(item, stored);
            }
        }
        pods.pause().await;
    }
}
