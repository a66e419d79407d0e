//! The pods and what is known of each: its state, its epoch, its load.
//!
//! A pod's status is one word that every worker reads without a lock. `health` and `discovery`
//! write it. The request path only reads it, and reports failures through [`Suspicions::report`].

mod concurrency_limit;
mod drain;
mod extra_calls;
mod info;
mod instance;
mod life;
mod load;
mod pool;
mod sleep;
mod status;
mod suspicions;
mod transport;
mod vitals;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

pub use concurrency_limit::{Admitted, ConcurrencyLimit, Pressure, Slot, Urgency, Waiting};
pub use drain::DrainOrder;
pub use extra_calls::ExtraCalls;
pub use info::{Info, ReportedInfo};
pub use instance::PodInstance;
pub use life::Life;
pub use load::{Load, LoadGuard};
pub use pool::{Check, Pool, Pools};
pub use sleep::{Rest, Sleep, WakeCall};
pub use status::{Epoch, State, Status};
pub use suspicions::{Suspected, Suspicion, Suspicions};
pub use transport::{
    Fingerprint, HandshakeError, Tls, TlsConfig, Transport, TransportConfig, TransportStream, Trust, secure,
};
pub use vitals::{Condition, Moment, Vitals};

/// One pod as the operator names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodConfig {
    /// The name in logs, metrics and pages; unique within its pool.
    pub name: String,
    /// `host:port`; the host is a name or an address (IPv6 in brackets).
    pub authority: String,
    pub transport: TransportConfig,
}

/// A number that no other pod of this process has or ever had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodId(u32);

/// One pod, shared by all parts of the proxy. Each part of what is known of it has a field.
pub struct Pod {
    pub id: PodId,
    pub name: Arc<str>,
    pub pool: Arc<str>,
    /// `host:port`.
    pub authority: Arc<str>,
    /// How connections to it are made.
    pub transport: Transport,
    /// Its status, and its announced end.
    pub life: Life,
    /// What it reports about itself.
    pub info: ReportedInfo,
    /// What is ordered while it drains.
    pub drain: DrainOrder,
    /// Requests and sockets in progress.
    pub load: Load,
    /// How it does while it serves.
    pub vitals: Vitals,
    /// Whether its machine sleeps.
    pub sleep: Sleep,
    /// What live traffic makes the prober look at.
    pub suspicions: Suspicions,
    /// How much it is given to do at once.
    pub concurrency: Arc<ConcurrencyLimit>,
    /// How much jellypin may ask of it beyond what clients ask.
    pub extra_calls: ExtraCalls,
}

impl Pod {
    pub fn new(pool: &Arc<str>, config: &PodConfig) -> Arc<Pod> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let life = Life::new();
        Arc::new(Pod {
            id: PodId(NEXT.fetch_add(1, Ordering::Relaxed)),
            name: config.name.as_str().into(),
            pool: pool.clone(),
            authority: config.authority.as_str().into(),
            transport: Transport::new(&config.transport),
            drain: DrainOrder::new(life.reporter()),
            life,
            info: ReportedInfo::new(),
            load: Load::default(),
            vitals: Vitals::default(),
            sleep: Sleep::new(),
            suspicions: Suspicions::default(),
            concurrency: Arc::default(),
            extra_calls: ExtraCalls::default(),
        })
    }

    /// Whether it is the pod that this configuration names.
    pub fn matches(&self, config: &PodConfig) -> bool {
        *self.name == *config.name && *self.authority == *config.authority
    }

    /// Connections to it are made in this way from now on. It stays the same pod.
    pub fn change_transport(&self, config: &TransportConfig) {
        if self.transport.change(config) {
            self.suspicions.probe_now();
        }
    }

    /// The part that a decision reads: one load of one word.
    pub fn status(&self) -> Status {
        self.life.status()
    }

    /// Whether it serves and is likely to answer.
    pub fn can_answer(&self) -> bool {
        self.status().is_alive() && matches!(self.vitals.condition(), Condition::Well | Condition::Late)
    }

    /// Its state as operators see it, a label of a closed set.
    pub fn shown_state(&self) -> &'static str {
        match (self.sleep.rest(), self.status().state) {
            (Rest::Asleep, _) => "asleep",
            (Rest::Waking, State::Down | State::Starting) => "waking",
            (_, state) => state.as_str(),
        }
    }

    /// Its source no longer names it. Returns whether it continues to serve: then it drains.
    fn remove(&self) -> bool {
        if self.status().state == State::Ready {
            // What the operator ordered for an earlier drain no longer holds.
            self.drain.set_gives_up_lead(false);
        }
        let (_, after) = self.life.change(|status| match status.state {
            State::Ready | State::Draining => Status { state: State::Draining, ..status },
            State::Starting | State::Down => Status { state: State::Down, accepts: false, ..status },
        });
        self.drain.set_removed(after.is_alive());
        after.is_alive()
    }

    /// Its source names it again: it serves all clients.
    fn keep(&self) {
        if self.drain.set_removed(false) {
            self.drain.begin_round();
            self.drain.take_back(self.status().epoch);
            self.life.change(|status| match status.state {
                State::Draining => Status { state: State::Ready, ..status },
                _ => status,
            });
        }
    }

    fn set_down(&self) {
        self.life.change(|status| Status { state: State::Down, accepts: false, ..status });
    }
}

impl fmt::Debug for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.pool, self.name, self.status().state.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn pod(name: &str) -> Arc<Pod> {
        let config = PodConfig { name: name.into(), authority: "127.0.0.1:1".into(), ..Default::default() };
        Pod::new(&"pool".into(), &config)
    }
}
