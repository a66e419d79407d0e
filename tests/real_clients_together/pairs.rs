//! Twelve pairs of real clients, each pair of one user on two pods: one sees the other, plays, pauses and writes to it.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use jellyfin_sim::FILM;
use serde_json::{Value, json};
use tokio::{runtime::Handle, task::block_in_place};

use super::{Library, World, device_on};

const PAIRS: usize = 12;

/// A client whose pod was killed is seen again within this time.
const MOVED: Duration = Duration::from_secs(10);

/// What one client does to the other, and what the other then hears.
const ACTS: [(&str, &str); 3] = [("remote_play", "PlayNow"), ("remote_pause", "Pause"), ("message", "DisplayMessage")];

/// Two devices of one user, of two libraries in turn.
struct Pair {
    caller: String,
    receiver: String,
    caller_is_sdk: bool,
}

/// The clients of both libraries.
struct Libraries {
    sdk: Library,
    python: Library,
}

impl Libraries {
    fn of(&mut self, is_sdk: bool) -> &mut Library {
        if is_sdk { &mut self.sdk } else { &mut self.python }
    }

    fn sign_in(&mut self, is_sdk: bool, device: &str, user: &str) {
        let library = self.of(is_sdk);
        library.does(device, "log_in", json!({"user": user, "password": "pw"}));
        library.does(device, "listen", json!({}));
        library.does(device, "capable", json!({}));
    }

    fn heard(&mut self, pair: &Pair) -> BTreeMap<String, u64> {
        let heard = self.of(!pair.caller_is_sdk).does(&pair.receiver, "heard", json!({}))["heard"].clone();
        serde_json::from_value(heard).expect("counts")
    }

    /// One sees the other and does everything to it. Gives how often it saw one row, and how many acts succeeded. It looks again
    /// for so long if it sees no row.
    fn act(&mut self, pair: &Pair, patience: Duration) -> (usize, usize, Vec<String>) {
        let library = self.of(pair.caller_is_sdk);
        let (mut failed, end) = (Vec::new(), Instant::now() + patience);
        let ids = loop {
            let seen = library.tries(&pair.caller, "sees", json!({"device": pair.receiver}));
            match seen.as_ref().ok().and_then(|seen| seen["ids"].as_array().cloned()) {
                Some(ids) if ids.len() == 1 => break ids,
                _ if Instant::now() < end => {}
                _ => {
                    failed.push(format!("{} sees {seen:?}", pair.caller));
                    return (0, 0, failed);
                }
            }
        };
        let id = &ids[0];
        let mut done = 0;
        for (act, _) in ACTS {
            let more: Value = match act {
                "remote_play" => json!({"session": id, "item": FILM}),
                "message" => json!({"session": id, "text": "supper"}),
                _ => json!({"session": id}),
            };
            match library.tries(&pair.caller, act, more) {
                Ok(_) => done += 1,
                Err(error) => failed.push(format!("{} {act}: {error}", pair.caller)),
            }
        }
        (1, done, failed)
    }
}

/// Does something while the pod of half of the receivers is killed.
fn while_killed<T>(world: &World, act: impl FnOnce() -> T) -> T {
    let pod = world.pods.iter().find(|pod| pod.name() == "b").expect("the pod");
    let runtime = Handle::current();
    block_in_place(|| {
        thread::scope(|scope| {
            scope.spawn(|| runtime.block_on(pod.kill()));
            act()
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_pairs_see_and_control_each_other_before_during_and_after_a_kill() {
    let world = World::start().await;
    let mut libraries = Libraries { sdk: Library::sdk(&world.url(0)), python: Library::python(&world.url(0)) };
    let mut pairs = Vec::new();
    for number in 0..PAIRS {
        let there = ["b", "c"][number % 2];
        let pair = Pair {
            caller: device_on("a", &format!("caller-{number}")),
            receiver: device_on(there, &format!("receiver-{number}")),
            caller_is_sdk: number % 4 < 2,
        };
        let user = format!("user{number}");
        libraries.sign_in(pair.caller_is_sdk, &pair.caller, &user);
        libraries.sign_in(!pair.caller_is_sdk, &pair.receiver, &user);
        pairs.push(pair);
    }
    // The sockets are open once each has heard something.
    for pair in &pairs {
        assert_eq!(libraries.act(pair, Duration::ZERO), (1, ACTS.len(), Vec::new()));
        for (_, kind) in ACTS {
            libraries.of(!pair.caller_is_sdk).until_heard(&pair.receiver, kind, 1);
        }
    }
    let mut lines = vec![format!("before {0} of {0}", PAIRS * ACTS.len())];
    for (round, phase) in [(2, "during"), (3, "after")] {
        let (mut seen, mut done, mut failed) = (0, 0, Vec::new());
        for (number, pair) in pairs.iter().enumerate() {
            let (saw, did, errors) = match phase == "during" && number == PAIRS / 3 {
                // The row is away until the receiver's socket stands at another pod.
                true => while_killed(&world, || libraries.act(pair, MOVED)),
                false => libraries.act(pair, Duration::ZERO),
            };
            (seen, done) = (seen + saw, done + did);
            failed.extend(errors);
        }
        let mut delivered = 0;
        for pair in &pairs {
            for (_, kind) in ACTS {
                let library = libraries.of(!pair.caller_is_sdk);
                let came = library.tries(&pair.receiver, "hears", json!({"kind": kind, "times": round}));
                if came.is_err() {
                    failed.push(format!("{} has not heard {kind}: {:?}", pair.receiver, libraries.heard(pair)));
                }
                delivered += usize::from(came.is_ok());
            }
        }
        lines.push(format!(
            "{phase}: seen {seen} of {PAIRS}, accepted {done} and delivered {delivered} of {}",
            PAIRS * ACTS.len()
        ));
        println!("{failed:#?}");
        assert!(failed.is_empty(), "{phase}: {failed:#?}");
    }
    println!("{PAIRS} pairs of two libraries on three pods: {}", lines.join("; "));
    drop(libraries);
    world.stop().await;
}
