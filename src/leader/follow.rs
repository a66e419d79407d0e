//! Follows the pods' own election: reads the key that they write, and leads where it points.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{self, Instant},
};

use super::{
    Leader, PoolConfig, Why,
    field::{self, Field},
    naming::{Bearer, Problem, Reading, named},
    rule::{Candidate, Seat},
};
use crate::{
    observe::metrics::LeaderProblem,
    pod::{Pod, Pool},
    shutdown::Shutdown,
    store::shared::ledger::{Ledger, Value},
};

/// Time to the next look after one without an answer.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The longest part of a value that is written down.
const LONGEST_ID: usize = 64;

pub(super) struct Follower {
    pub(super) pool: Arc<Pool>,
    pub(super) leader: Arc<Leader>,
    pub(super) config: PoolConfig,
    pub(super) poll: Duration,
    pub(super) ledger: Ledger,
}

/// What is followed, and what was said of it.
#[derive(Default)]
struct Followed {
    seat: Seat,
    problem: Option<(Problem, Reading)>,
}

impl Follower {
    pub(super) async fn run(self, settled: oneshot::Sender<()>, shutdown: Shutdown) {
        let key = &self.config.key;
        let (mut answers, mut notices) = (self.ledger.answers(), self.ledger.notices_of_key(key));
        let mut settled = Some(settled);
        let (mut followed, mut reading) = (Followed::default(), None);
        let mut next = Instant::now();
        loop {
            let (field, mut change) = field::look(&self.pool);
            if answers.now() == Some(true) && Instant::now() >= next {
                let read = self.ledger.read(key).await;
                next = Instant::now() + if read.is_ok() { self.poll } else { self.poll.min(LOOK_AGAIN) };
                // One failure is no reason to leave what is followed.
                if let Ok(value) = read {
                    reading = Some(of_value(value));
                }
            }
            let up = answers.now();
            if up == Some(false) {
                reading = Some(Reading::Away);
            }
            if let Some(reading) = &reading {
                self.follow(&mut followed, reading, &field);
                // The start may have lost its patience.
                let _ = settled.take().map(|settled| settled.send(()));
            }
            tokio::select! {
                () = change.happens() => {}
                () = notices.next() => next = Instant::now(),
                () = answers.changed() => next = Instant::now(),
                () = time::sleep_until(next), if up == Some(true) => {}
                () = shutdown.stopping() => return,
            }
        }
    }

    fn follow(&self, followed: &mut Followed, reading: &Reading, field: &Field) {
        let candidates = field.candidates();
        let named = named(reading, &self.bearers(field, &candidates)).map(|pod| candidates[pod].name.clone());
        let seat = &mut followed.seat;
        let why = match &named {
            Ok(pod) => {
                seat.give(Some(pod));
                Why::Named
            }
            Err(_) => seat.settle(&candidates),
        };
        self.leader.set(field.pod(seat.pod.as_ref()), seat.term, why);
        self.tell(&mut followed.problem, named.err(), reading);
    }

    fn bearers(&self, field: &Field, candidates: &[Candidate]) -> Vec<Bearer> {
        let bearer = |(pod, candidate): (&Arc<Pod>, &Candidate)| Bearer {
            reported: pod.info().map(|info| info.id.clone()),
            configured: self.config.instance_ids.get(&*pod.name).cloned(),
            is_alive: candidate.is_alive(),
        };
        field.pods().iter().zip(candidates).map(bearer).collect()
    }

    /// Says a problem once, and that it is over.
    fn tell(&self, told: &mut Option<(Problem, Reading)>, problem: Option<Problem>, reading: &Reading) {
        let now = problem.map(|problem| (problem, reading.clone()));
        if *told == now {
            return;
        }
        let (pool, key) = (&*self.pool.name, &*self.config.key);
        match problem {
            Some(problem) => {
                let cause = problem.name();
                let label = LeaderProblem { pool: self.pool.name.clone(), cause };
                self.leader.metrics.leader_problems.get_or_create(&label).inc();
                let pod = self.leader.current().map(|pod| pod.name.clone());
                tracing::warn!(
                    leader.pool = pool,
                    leader.key = key,
                    leader.id = written(reading).as_deref(),
                    leader.problem = cause,
                    leader.pod = pod.as_deref(),
                    "the key names no leader: {problem}. The last one stays while it is alive, else the first ready pod leads"
                );
            }
            None => tracing::info!(leader.pool = pool, leader.key = key, "the key names the leader"),
        }
        *told = now;
    }
}

fn of_value(value: Value) -> Reading {
    match value {
        Value::Bytes(bytes) => Reading::Value(bytes),
        Value::Nothing => Reading::Nothing,
        Value::Other => Reading::Unreadable,
    }
}

/// The value as it may stand in the log.
fn written(reading: &Reading) -> Option<String> {
    let Reading::Value(value) = reading else { return None };
    Some(String::from_utf8_lossy(value).chars().filter(|c| !c.is_control()).take(LONGEST_ID).collect())
}
