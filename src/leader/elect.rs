//! Runs a replica's part in an election: sends the claims of [`Election`] to Redis, and records the
//! result.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{self, Instant},
};

use super::{
    Leader,
    election::Election,
    pool_view::{self, PoolView},
};
use crate::{
    observe::metrics::OfPool,
    pod::Pool,
    shutdown::Shutdown,
    store::redis_store::ledger::{Lease, Ledger},
};

pub(super) struct Elector {
    pub(super) pool: Arc<Pool>,
    pub(super) leader: Arc<Leader>,
    pub(super) key: String,
    pub(super) lease: Duration,
    pub(super) poll: Duration,
    pub(super) ledger: Ledger,
}

impl Elector {
    pub(super) async fn run(self, settled: oneshot::Sender<()>, shutdown: Shutdown) {
        let lease = Lease::new(&self.key, self.lease);
        let (mut answers, mut notices) = (self.ledger.answers(), self.ledger.notices_of(&lease));
        let me = replica();
        let mut election = Election::new(me.clone(), self.lease, self.poll, Instant::now());
        election.incumbency = self.leader.incumbency();
        let mut settled = Some(settled);
        loop {
            let (field, mut change) = pool_view::look(&self.pool);
            election.set_redis_answers(answers.now());
            election.set_candidates(field.candidates());
            self.write_down(&mut election, &field);
            if election.is_settled {
                // The start may have stopped waiting.
                let _ = settled.take().map(|settled| settled.send(()));
            }
            if let Some(claim) = election.claim(Instant::now()) {
                let sent = Instant::now();
                match self.ledger.claim(&lease, &claim).await {
                    Ok(held) => election.on_answer(sent, held),
                    // The ledger has logged the reason.
                    Err(_) => election.on_no_answer(Instant::now()),
                }
                if !shutdown.is_stopping() {
                    continue;
                }
            }
            let next_wake = election.next_wake();
            tokio::select! {
                () = change.happens() => {}
                () = notices.next() => election.on_notice(),
                () = answers.changed() => {}
                () = until(next_wake) => {}
                () = shutdown.stopping() => break,
            }
        }
        self.ledger.release(&lease, &me).await;
    }

    fn write_down(&self, election: &mut Election, field: &PoolView) {
        let now = Instant::now();
        if election.lease.has_run_out(now) {
            tracing::warn!(
                leader.pool = &*self.pool.name,
                leader.term = election.incumbency.term,
                "the lease has run out"
            );
        }
        let of = OfPool { pool: self.pool.name.clone() };
        self.leader.metrics.leader_lease.get_or_create(&of).set(election.lease.holds(now).into());
        self.leader.set(field.pod(election.leads()), election.incumbency.term, election.why);
    }
}

async fn until(next_wake: Option<Instant>) {
    match next_wake {
        Some(at) => time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A name for this replica that no other replica has.
fn replica() -> String {
    let mut bytes = [0_u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // Without randomness, the time and the process id tell replicas apart, though not for
        // certain.
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        bytes = (since.as_nanos() ^ (u128::from(std::process::id()) << 96)).to_be_bytes();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
