//! Limits: how much all clients together, and each client's address, may have in progress at once.
//!
//! Every limit is a pair: one for all clients, one for each address (IPv4 /32, IPv6 /64). A
//! [`Permit`] counts until it is dropped. An address keeps its counters while it has anything in
//! progress, so the limits for all clients also bound their number.

pub mod log_in;

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::observe::metrics::{Limited, Metrics};

/// How much clients may have in progress.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections. Default 10,000 in all, 1,000 per address.
    pub connections: Most,
    /// TLS handshakes. Default 1,000 in all, 200 per address.
    pub handshakes: Most,
    /// Requests, until the last byte of their answers. Default 5,000 in all, 500 per address.
    pub requests: Most,
    /// Requests that wait for a pod. Default 4,096 in all, 512 per address.
    pub holds: Most,
    /// WebSockets. Default 5,000 in all, 500 per address.
    pub sockets: Most,
    /// The brake on log-ins.
    pub log_in: log_in::Config,
}

/// The two limits of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    pub in_all: u32,
    pub per_address: u32,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Connections,
    Handshakes,
    Requests,
    Holds,
    Sockets,
    /// Control frames of one HTTP/2 connection.
    Frames,
    /// An answer that its client does not read.
    Stalls,
    LogIns,
}

const KINDS: usize = 8;

/// The scope of the limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    Address,
    /// One connection.
    Connection,
    /// One user name from any address.
    User,
    /// One user name at one address.
    UserAtAddress,
}

const SCOPES: usize = 5;

/// A limit is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {} allows", key(self.kind, self.scope))]
pub struct Exceeded {
    pub kind: Kind,
    pub scope: Scope,
}

impl Kind {
    /// The metric label.
    fn name(self) -> &'static str {
        match self {
            Kind::Connections => "connections",
            Kind::Handshakes => "handshakes",
            Kind::Requests => "requests",
            Kind::Holds => "holds",
            Kind::Sockets => "sockets",
            Kind::Frames => "http2_frames",
            Kind::Stalls => "stalls",
            Kind::LogIns => "log_ins",
        }
    }
}

impl Scope {
    /// The metric label.
    pub fn name(self) -> &'static str {
        match self {
            Scope::All => "all",
            Scope::Address => "address",
            Scope::Connection => "connection",
            Scope::User => "user",
            Scope::UserAtAddress => "user_at_address",
        }
    }
}

/// The configuration key of a limit.
fn key(kind: Kind, scope: Scope) -> &'static str {
    match (kind, scope) {
        (Kind::Connections, Scope::All) => "[listen] max_connections",
        (Kind::Connections, _) => "[limits] connections_per_address",
        (Kind::Handshakes, Scope::All) => "[limits] handshakes",
        (Kind::Handshakes, _) => "[limits] handshakes_per_address",
        (Kind::Requests, Scope::All) => "[limits] requests",
        (Kind::Requests, _) => "[limits] requests_per_address",
        (Kind::Holds, Scope::All) => "[limits] holds",
        (Kind::Holds, _) => "[limits] holds_per_address",
        (Kind::Sockets, Scope::All) => "[limits] sockets",
        (Kind::Sockets, _) => "[limits] sockets_per_address",
        (Kind::Frames, _) => "the bound of HTTP/2 control frames",
        (Kind::Stalls, _) => "[timeouts] client_stall",
        (Kind::LogIns, _) => "[limits.log_in]",
    }
}

/// The counters of all clients, shared by all workers, and what they may reach.
pub struct Limits {
    config: Config,
    in_all: Arc<Counts>,
    addresses: Arc<Addresses>,
    /// The brake on log-ins.
    pub log_in: log_in::Brake,
    metrics: Metrics,
    /// For each limit: when it was last logged, and how often it was exceeded since.
    logged: Arc<Mutex<[Logged; KINDS * SCOPES]>>,
}

type Addresses = DashMap<IpAddr, Weak<AddressUse>, ahash::RandomState>;

/// What one address has in progress. The table loses the entry with its last holder.
pub struct AddressUse {
    network: IpAddr,
    counts: Counts,
    table: Arc<Addresses>,
}

#[derive(Default)]
struct Counts([AtomicU32; KINDS]);

#[derive(Clone, Copy, Default)]
struct Logged {
    at: Option<Instant>,
    since: u64,
}

/// One slot under a limit. Dropping it frees the slot.
pub struct Permit {
    limits: Arc<Limits>,
    address: Option<Arc<AddressUse>>,
    kind: Kind,
}

/// Time until the same limit may be logged again.
const LOG_AGAIN: Duration = Duration::from_secs(60);

impl Limits {
    pub fn new(config: Config, metrics: Metrics) -> Arc<Limits> {
        let log_in = log_in::Brake::new(config.log_in.clone());
        Arc::new(Limits {
            config,
            in_all: Arc::default(),
            addresses: Arc::default(),
            log_in,
            metrics,
            logged: Arc::new(Mutex::new([Logged::default(); KINDS * SCOPES])),
        })
    }

    /// The same counters under other limits. What is in progress stays, also beyond a lower limit.
    #[must_use]
    pub fn renewed(&self, config: Config) -> Arc<Limits> {
        Arc::new(Limits {
            log_in: self.log_in.renewed(config.log_in.clone()),
            config,
            in_all: self.in_all.clone(),
            addresses: self.addresses.clone(),
            metrics: self.metrics.clone(),
            logged: self.logged.clone(),
        })
    }

    /// The counters of an address.
    pub fn address(&self, address: IpAddr) -> Arc<AddressUse> {
        let network = network(address);
        let mut entry = self.addresses.entry(network).or_default();
        if let Some(known) = entry.upgrade() {
            return known;
        }
        let fresh = Arc::new(AddressUse { network, counts: Counts::default(), table: self.addresses.clone() });
        *entry = Arc::downgrade(&fresh);
        fresh
    }

    /// Takes a slot under the limit for all clients, and under that of `address` if there is one.
    ///
    /// # Errors
    /// No slot is free. Each case is counted; the log gets an entry at a bounded rate.
    pub fn take(self: &Arc<Self>, kind: Kind, address: Option<&Arc<AddressUse>>) -> Result<Permit, Exceeded> {
        let most = self.most(kind);
        if let Some(of) = address
            && !of.counts.take(kind, most.per_address)
        {
            return Err(self.exceeded(kind, Scope::Address, Some(of.network)));
        }
        if !self.in_all.take(kind, most.in_all) {
            if let Some(of) = address {
                of.counts.give_back(kind);
            }
            return Err(self.exceeded(kind, Scope::All, address.map(|of| of.network)));
        }
        Ok(Permit { limits: self.clone(), address: address.cloned(), kind })
    }

    /// Counts a case that exceeds a limit, and logs it unless it was just logged.
    pub fn exceeded(&self, kind: Kind, scope: Scope, address: Option<IpAddr>) -> Exceeded {
        self.count(kind, scope);
        if let Some(times) = self.times_to_log(kind, scope) {
            let address = address.map(tracing::field::display);
            tracing::warn!(
                limit = kind.name(),
                scope = scope.name(),
                client.address = address,
                times,
                "more than {} allows; what exceeds it is turned away",
                key(kind, scope)
            );
        }
        Exceeded { kind, scope }
    }

    /// Counts a case that exceeds a limit, without a log entry.
    pub fn count(&self, kind: Kind, scope: Scope) {
        self.metrics.limited.get_or_create(&Limited { what: kind.name(), scope: scope.name() }).inc();
    }

    fn times_to_log(&self, kind: Kind, scope: Scope) -> Option<u64> {
        let now = Instant::now();
        let mut logged = self.logged.lock();
        let logged = &mut logged[kind as usize * SCOPES + scope as usize];
        logged.since += 1;
        if logged.at.is_some_and(|at| now.duration_since(at) < LOG_AGAIN) {
            return None;
        }
        logged.at = Some(now);
        Some(std::mem::take(&mut logged.since))
    }

    fn most(&self, kind: Kind) -> Most {
        match kind {
            Kind::Connections => self.config.connections,
            Kind::Handshakes => self.config.handshakes,
            Kind::Requests => self.config.requests,
            Kind::Holds => self.config.holds,
            Kind::Sockets => self.config.sockets,
            // Permits do not count these.
            Kind::Frames | Kind::Stalls | Kind::LogIns => Most { in_all: u32::MAX, per_address: u32::MAX },
        }
    }

    /// How many of this kind are in progress, over all clients.
    pub fn in_progress(&self, kind: Kind) -> u32 {
        self.in_all.0[kind as usize].load(Ordering::Relaxed)
    }

    /// The number of addresses that have something in progress.
    pub fn known_addresses(&self) -> usize {
        self.addresses.len()
    }
}

impl Counts {
    fn take(&self, kind: Kind, most: u32) -> bool {
        let count = &self.0[kind as usize];
        let is_free = count.fetch_add(1, Ordering::Relaxed) < most;
        if !is_free {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        is_free
    }

    fn give_back(&self, kind: Kind) {
        self.0[kind as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Permit {
    /// Counts it for an address too.
    ///
    /// # Errors
    /// As [`Limits::take`].
    pub fn charge(mut self, address: Option<&Arc<AddressUse>>) -> Result<Permit, Exceeded> {
        if let Some(of) = address {
            if !of.counts.take(self.kind, self.limits.most(self.kind).per_address) {
                return Err(self.limits.exceeded(self.kind, Scope::Address, Some(of.network)));
            }
            self.address = Some(of.clone());
        }
        Ok(self)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limits.in_all.give_back(self.kind);
        if let Some(address) = &self.address {
            address.counts.give_back(self.kind);
        }
    }
}

impl Drop for AddressUse {
    fn drop(&mut self) {
        // A new entry may have replaced this one by now. That one is in use and stays.
        self.table.remove_if(&self.network, |_, known| known.strong_count() == 0);
    }
}

impl fmt::Debug for AddressUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AddressUse({})", self.network)
    }
}

/// The network that belongs to one client: an IPv4 address, or an IPv6 /64.
pub fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests;
