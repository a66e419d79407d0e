//! The end of a film is the end of its other versions, which have rows of their own.

use std::sync::Arc;

use serde_json::json;

use super::{
    id,
    model::{Model, Pods, RUNTIME},
    run, until_in_step, write,
};
use crate::{jellyfin::user_data::Act, proxy::user_data::carry::Carrier, shutdown::Shutdown};

#[test]
fn what_ends_a_film_ends_its_other_versions_on_every_pod() {
    let (film, begun, other) = (id(0), id(1), id(2));
    for seed in 0..3 {
        for act in [Act::Reached(RUNTIME - 2), Act::Reached(RUNTIME - 1), Act::Ended, Act::Played(None)] {
            for dies in ["no", "at once", "once it was read"] {
                run(async {
                    let model = Model::new(seed, 3);
                    model.lock().versions = vec![film, begun, other];
                    let pods = Pods(model.clone());
                    let carrier = Carrier::new(Arc::default(), pods.clone(), Shutdown::new());
                    (0..3).for_each(|pod| {
                        model.lock().row(pod, other);
                    });
                    write(&carrier, &pods, 1, begun, Act::Reached(RUNTIME / 3 / 2 * 2)).await;
                    until_in_step(&carrier).await;
                    model.lock().dies_at_versions = (dies == "once it was read").then_some(0);
                    write(&carrier, &pods, 0, film, act.clone()).await;
                    if dies == "at once" {
                        let mut model = model.lock();
                        model.pods[0].is_alive = false;
                        model.pods[0].memory.clear();
                    }
                    write(&carrier, &pods, 2, begun, Act::Favorite(true)).await;
                    until_in_step(&carrier).await;
                    let model = model.lock();
                    for item in [film, begun, other] {
                        let stored = &model.database[&item];
                        let what = format!("{act:?}, dies: {dies}, {item}");
                        let seen = (&stored["Played"], &stored["PlaybackPositionTicks"], &stored["IsFavorite"]);
                        assert_eq!(seen, (&json!(true), &json!(0), &json!(item == begun)), "{what}");
                        let rows = model.pods.iter().filter(|pod| pod.is_alive).filter_map(|pod| pod.memory.get(&item));
                        rows.for_each(|row| assert_eq!(row, stored, "{what}"));
                    }
                });
            }
        }
    }
}

#[test]
fn a_version_that_is_begun_after_the_end_stays_begun() {
    let (film, version) = (id(0), id(1));
    for (pod, dies) in [(0, false), (1, false), (1, true)] {
        run(async {
            let model = Model::new(3, 3);
            model.lock().versions = vec![film, version];
            let pods = Pods(model.clone());
            let carrier = Carrier::new(Arc::default(), pods.clone(), Shutdown::new());
            write(&carrier, &pods, 0, film, Act::Played(None)).await;
            if !dies {
                until_in_step(&carrier).await;
            }
            let third = RUNTIME / 3 / 2 * 2;
            write(&carrier, &pods, pod, version, Act::Started).await;
            write(&carrier, &pods, pod, version, Act::Reached(third)).await;
            if dies {
                let mut model = model.lock();
                model.pods[0].is_alive = false;
                model.pods[0].memory.clear();
            }
            until_in_step(&carrier).await;
            let model = model.lock();
            let stored = &model.database[&version];
            assert_eq!(
                (&stored["Played"], &stored["PlaybackPositionTicks"]),
                (&json!(false), &json!(third)),
                "{pod} {dies}"
            );
            assert_eq!(model.database[&film]["Played"], json!(true));
        });
    }
}
