//! Follows the pods' own election: reads the key that they write, and makes the named pod the
//! leader.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{self, Instant},
};

use super::{
    Leader, PoolConfig, Why,
    naming::{KeyReading, NamedPod, Problem, named},
    pool_view::{self, PoolView},
    rule::{Candidate, Incumbency},
};
use crate::{
    observe::metrics::LeaderProblem,
    pod::{Pod, Pool},
    shutdown::Shutdown,
    store::redis_store::ledger::{Ledger, Value},
};

/// Time to the next read after one without an answer.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The longest part of a value that the log shows.
const LONGEST_ID: usize = 64;

pub(super) struct Follower {
    pub(super) pool: Arc<Pool>,
    pub(super) leader: Arc<Leader>,
    pub(super) config: PoolConfig,
    pub(super) poll: Duration,
    pub(super) ledger: Ledger,
}

/// What this task follows, and what it has logged about it.
#[derive(Default)]
struct Followed {
    incumbency: Incumbency,
    problem: Option<(Problem, KeyReading)>,
}

impl Follower {
    pub(super) async fn run(self, settled: oneshot::Sender<()>, shutdown: Shutdown) {
        let key = &self.config.key;
        let (mut answers, mut notices) = (self.ledger.answers(), self.ledger.notices_of_key(key));
        let mut settled = Some(settled);
        let mut followed = Followed { incumbency: self.leader.incumbency(), problem: None };
        let mut reading = None;
        let mut next = Instant::now();
        loop {
            let (field, mut change) = pool_view::look(&self.pool);
            if answers.now() == Some(true) && Instant::now() >= next {
                let read = self.ledger.read(key).await;
                next = Instant::now() + if read.is_ok() { self.poll } else { self.poll.min(LOOK_AGAIN) };
                // After one failure the followed leader stays.
                if let Ok(value) = read {
                    reading = Some(of_value(value));
                }
            }
            let up = answers.now();
            if up == Some(false) {
                reading = Some(KeyReading::Away);
            }
            if let Some(reading) = &reading {
                self.follow(&mut followed, reading, &field);
                // The start may have stopped waiting.
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

    fn follow(&self, followed: &mut Followed, reading: &KeyReading, field: &PoolView) {
        let candidates = field.candidates();
        let named = named(reading, &self.bearers(field, &candidates)).map(|pod| candidates[pod].name.clone());
        let incumbency = &mut followed.incumbency;
        let why = match &named {
            Ok(pod) => {
                incumbency.set(Some(pod));
                Why::Named
            }
            Err(_) => incumbency.choose(&candidates),
        };
        self.leader.set(field.pod(incumbency.pod.as_ref()), incumbency.term, why);
        self.log_change(&mut followed.problem, named.err(), reading);
    }

    fn bearers(&self, field: &PoolView, candidates: &[Candidate]) -> Vec<NamedPod> {
        let bearer = |(pod, candidate): (&Arc<Pod>, &Candidate)| NamedPod {
            reported: pod.info.latest().map(|info| info.id.clone()),
            configured: self.config.instance_ids.get(&*pod.name).cloned(),
            is_alive: candidate.is_alive(),
        };
        field.pods().iter().zip(candidates).map(bearer).collect()
    }

    /// Logs a problem once, and once when it is over.
    fn log_change(&self, logged: &mut Option<(Problem, KeyReading)>, problem: Option<Problem>, reading: &KeyReading) {
        let now = problem.map(|problem| (problem, reading.clone()));
        if *logged == now {
            return;
        }
        let (pool, key) = (&*self.pool.name, &*self.config.key);
        match problem {
            Some(problem) => {
                let cause = problem.as_str();
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
        *logged = now;
    }
}

fn of_value(value: Value) -> KeyReading {
    match value {
        Value::Bytes(bytes) => KeyReading::Value(bytes),
        Value::Nothing => KeyReading::Nothing,
        Value::Other => KeyReading::Unreadable,
    }
}

/// The value in the form that the log shows.
fn written(reading: &KeyReading) -> Option<String> {
    let KeyReading::Value(value) = reading else { return None };
    Some(String::from_utf8_lossy(value).chars().filter(|c| !c.is_control()).take(LONGEST_ID).collect())
}
