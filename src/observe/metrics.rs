//! The Prometheus metrics. Labels are closed sets, or names that the operator gives.

mod labels;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64},
    },
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

pub use labels::{
    AcmeOrder, Autodiscovery, Disagreement, Dropped, GroupMove, InStep, LeaderChange, LeaderProblem, Limited,
    Migration, MissingRequirement, Move, OfCertificate, OfKind, OfPod, OfPool, PodCall, PodCondition, PodState,
    Rejected, Request, Resumption, RolledPool, StoreOutcome, TriggersSet, UserDataTold, Waited, WakeHook,
};

/// Every metric of the proxy. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub requests: Family<Request, Counter>,
    pub first_byte: Family<OfPod, Histogram, fn() -> Histogram>,
    pub moves: Family<Move, Counter>,
    pub migrations: Family<Migration, Counter>,
    pub migration_seconds: Histogram,
    pub group_moves: Family<GroupMove, Counter>,
    pub rolls: Family<RolledPool, Counter>,
    pub missing_requirements: Family<MissingRequirement, Gauge>,
    pub sessions: Gauge,
    pub in_step: Family<InStep, Counter>,
    pub resumed: Family<Resumption, Counter>,
    pub rejected: Family<Rejected, Counter>,
    pub limited: Family<Limited, Counter>,
    pub log_in_failures: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    pub connections: Gauge,
    pub pins: Gauge,
    pub access_lost: Counter,
    pub pod_state: Family<PodState, Gauge>,
    pub pod_condition: Family<PodCondition, Gauge>,
    pub pod_check_seconds: Family<OfPod, Gauge<f64, AtomicU64>>,
    pub pod_share: Family<OfPod, Gauge<f64, AtomicU64>>,
    pub pod_limit: Family<OfPod, Gauge>,
    pub pod_waiting: Family<OfPod, Gauge>,
    pub pod_extra_calls_waited: Family<OfPod, Gauge>,
    pub pod_epoch: Family<OfPod, Gauge<i64, AtomicI64>>,
    pub pod_requests: Family<OfPod, Gauge>,
    pub pod_sockets: Family<OfPod, Gauge>,
    pub socket_messages: Counter<u64, AtomicU64>,
    pub pod_calls: Family<PodCall, Counter>,
    pub autodiscovery: Family<Autodiscovery, Counter>,
    /// 1 while the latest configuration is in use.
    pub reload_success: Gauge,
    pub redis_up: Gauge,
    /// `hit`, `miss`, `timed_out`, `failed`, `skipped`.
    pub shared_lookups: Family<StoreOutcome, Counter>,
    /// `written`, `dropped`, `full`.
    pub store_writes: Family<StoreOutcome, Counter>,
    pub redis_evicts: Gauge,
    pub redis_persists: Gauge,
    pub redis_keys: Family<OfKind, Gauge>,
    pub redis_bytes: Family<OfKind, Gauge>,
    pub redis_let_go: Family<OfKind, Counter>,
    pub redis_rewritten: Counter,
    pub user_data_told: Family<UserDataTold, Counter>,
    pub user_data_waits: Family<Waited, Counter>,
    pub user_data_dropped: Family<Dropped, Counter>,
    pub user_data_pairs: Gauge,
    pub certificate_expiry: Family<OfCertificate, Gauge>,
    /// `issued`, `refused`, `away`.
    pub acme_orders: Family<AcmeOrder, Counter>,
    pub replicas: Gauge,
    pub replicas_disagree: Family<Disagreement, Gauge>,
    pub writer: Family<OfPod, Gauge>,
    pub leader: Family<OfPod, Gauge>,
    pub leader_term: Family<OfPool, Gauge>,
    pub leader_lease: Family<OfPool, Gauge>,
    pub leader_changes: Family<LeaderChange, Counter>,
    pub leader_problems: Family<LeaderProblem, Counter>,
    pub triggers_set: Family<TriggersSet, Counter>,
    pub wake_hooks: Family<WakeHook, Counter>,
    registry: Arc<Registry>,
}

/// Histogram buckets of durations, in seconds.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    pub fn new() -> Metrics {
        let mut metrics = Metrics {
            requests: Family::default(),
            first_byte: Family::new_with_constructor(histogram),
            moves: Family::default(),
            migrations: Family::default(),
            migration_seconds: histogram(),
            group_moves: Family::default(),
            rolls: Family::default(),
            missing_requirements: Family::default(),
            sessions: Gauge::default(),
            in_step: Family::default(),
            resumed: Family::default(),
            rejected: Family::default(),
            limited: Family::default(),
            log_in_failures: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            connections: Gauge::default(),
            pins: Gauge::default(),
            access_lost: Counter::default(),
            pod_state: Family::default(),
            pod_condition: Family::default(),
            pod_check_seconds: Family::default(),
            pod_share: Family::default(),
            pod_limit: Family::default(),
            pod_waiting: Family::default(),
            pod_extra_calls_waited: Family::default(),
            pod_epoch: Family::default(),
            pod_requests: Family::default(),
            pod_sockets: Family::default(),
            socket_messages: Counter::default(),
            pod_calls: Family::default(),
            autodiscovery: Family::default(),
            reload_success: Gauge::default(),
            redis_up: Gauge::default(),
            shared_lookups: Family::default(),
            store_writes: Family::default(),
            redis_evicts: Gauge::default(),
            redis_persists: Gauge::default(),
            redis_keys: Family::default(),
            redis_bytes: Family::default(),
            redis_let_go: Family::default(),
            redis_rewritten: Counter::default(),
            user_data_told: Family::default(),
            user_data_waits: Family::default(),
            user_data_dropped: Family::default(),
            user_data_pairs: Gauge::default(),
            certificate_expiry: Family::default(),
            acme_orders: Family::default(),
            replicas: Gauge::default(),
            replicas_disagree: Family::default(),
            writer: Family::default(),
            leader: Family::default(),
            leader_term: Family::default(),
            leader_lease: Family::default(),
            leader_changes: Family::default(),
            leader_problems: Family::default(),
            triggers_set: Family::default(),
            wake_hooks: Family::default(),
            registry: Arc::default(),
        };
        metrics.reload_success.set(1);
        metrics.registry = Arc::new(metrics.register());
        metrics
    }

    fn register(&self) -> Registry {
        let mut all = Registry::with_prefix("jellypin");
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        all.register("build", "The version that runs", version);
        all.register(
            "requests",
            "Requests whose answer ended, by route, pod, class of status and reason of the decision",
            self.requests.clone(),
        );
        all.register_with_unit(
            "first_byte",
            "Time until the head of the pod's answer",
            Unit::Seconds,
            self.first_byte.clone(),
        );
        all.register(
            "moves",
            "Requests that failed over to another pod, by the pod left and the cause",
            self.moves.clone(),
        );
        all.register("migrations", "Session migrations, by target pod and outcome", self.migrations.clone());
        all.register_with_unit(
            "migration",
            "Duration of a session migration",
            Unit::Seconds,
            self.migration_seconds.clone(),
        );
        all.register(
            "sync_play_group_moves",
            "SyncPlay groups whose pod was gone or drained, by what became of them",
            self.group_moves.clone(),
        );
        all.register("rolls", "Restarts of all pods of a pool, by what became of them", self.rolls.clone());
        all.register(
            "migration_requirements_missing",
            "1 for each requirement of session migration that a pod does not meet",
            self.missing_requirements.clone(),
        );
        all.register("sessions", "Sessions known now", self.sessions.clone());
        all.register(
            "in_step",
            "Changes that another pod was to follow, by pod, kind and outcome",
            self.in_step.clone(),
        );
        all.register(
            "resumed",
            "File answers that broke off, by the pod that sent them and whether another pod continued them",
            self.resumed.clone(),
        );
        all.register("rejected", "Requests answered by the proxy itself, by cause", self.rejected.clone());
        all.register("limited", "What was turned away because it exceeds a limit", self.limited.clone());
        all.register(
            "log_in_failures",
            "Log-ins by password that a pod refused, from addresses that the brake holds for",
            self.log_in_failures.clone(),
        );
        all.register_with_unit("received", "Bytes of request bodies", Unit::Bytes, self.bytes_in.clone());
        all.register_with_unit("sent", "Bytes of answers' bodies", Unit::Bytes, self.bytes_out.clone());
        all.register("client_connections", "Client connections open now", self.connections.clone());
        all.register("pins", "Pins kept now", self.pins.clone());
        all.register(
            "access_log_lost_buffers",
            "Buffers of access lines that were dropped because the log's reader was too slow",
            self.access_lost.clone(),
        );
        all.register("pod_state", "1 for the state that a pod is in", self.pod_state.clone());
        all.register("pod_condition", "1 for the condition of a pod that serves", self.pod_condition.clone());
        all.register_with_unit(
            "pod_check",
            "What a pod's health checks take at present",
            Unit::Seconds,
            self.pod_check_seconds.clone(),
        );
        all.register(
            "pod_share",
            "A pod's share of new clients, beside 1 for a pod that is well",
            self.pod_share.clone(),
        );
        all.register(
            "pod_limit",
            "Requests that a pod is given at once, before their answers begin",
            self.pod_limit.clone(),
        );
        all.register("pod_waiting", "Requests that wait for their turn at a pod", self.pod_waiting.clone());
        all.register(
            "pod_extra_calls_waited",
            "Retries and calls of the proxy's own that had to wait for a pod's budget",
            self.pod_extra_calls_waited.clone(),
        );
        all.register("pod_epoch", "Epoch of a pod; it grows with each restart of the pod", self.pod_epoch.clone());
        all.register("pod_requests", "Requests under way at a pod", self.pod_requests.clone());
        all.register("pod_sockets", "WebSockets open to a pod", self.pod_sockets.clone());
        all.register("socket_messages", "WebSocket messages relayed, both ways", self.socket_messages.clone());
        all.register(
            "pod_calls",
            "Calls to other pods than the caller's own, by what they are for and how they ended",
            self.pod_calls.clone(),
        );
        all.register(
            "autodiscovery",
            "Datagrams on the port where apps look for a server, by what became of them",
            self.autodiscovery.clone(),
        );
        all.register(
            "config_reload_success",
            "1 while the latest configuration is in use, 0 after one that was refused",
            self.reload_success.clone(),
        );
        all.register("redis_up", "1 while Redis answers; 0 without one", self.redis_up.clone());
        all.register("shared_lookups", "Redis lookups made for requests, by outcome", self.shared_lookups.clone());
        all.register("store_writes", "Writes to Redis or to disk, by outcome", self.store_writes.clone());
        self.register_redis(&mut all);
        self.register_user_data(&mut all);
        self.register_certificates(&mut all);
        all.register("writer", "1 for the pod that writes its pool's catalogue alone", self.writer.clone());
        all.register("leader", "1 for the pod that leads its pool", self.leader.clone());
        all.register("leader_term", "Number of the present leader's term", self.leader_term.clone());
        all.register("leader_lease", "1 while this replica holds the lease of an election", self.leader_lease.clone());
        all.register(
            "leader_changes",
            "Changes of the pod that leads, or of its term, by cause",
            self.leader_changes.clone(),
        );
        all.register(
            "leader_problems",
            "Times that the pods' key began to name no leader, by cause",
            self.leader_problems.clone(),
        );
        all.register(
            "task_triggers",
            "Triggers of tasks that the proxy has emptied or given, and attempts that failed",
            self.triggers_set.clone(),
        );
        all.register(
            "wake_hooks",
            "Calls of the hooks that wake pods or let them sleep, by outcome",
            self.wake_hooks.clone(),
        );
        all
    }

    fn register_user_data(&self, all: &mut Registry) {
        all.register(
            "user_data_told",
            "Rows of users' data that a pod was told because another had written them, by outcome",
            self.user_data_told.clone(),
        );
        all.register(
            "user_data_waits",
            "Requests that waited for their pod to be told a user's data, by outcome",
            self.user_data_waits.clone(),
        );
        all.register(
            "user_data_dropped",
            "Writes of users' data that other pods do not hear of, by cause",
            self.user_data_dropped.clone(),
        );
        all.register(
            "user_data_pairs",
            "Pairs of user and item that some pod has not heard of, or that play",
            self.user_data_pairs.clone(),
        );
    }

    fn register_certificates(&self, all: &mut Registry) {
        all.register_with_unit(
            "certificate_expiry_timestamp",
            "When a certificate in use ends, in seconds since 1970",
            Unit::Seconds,
            self.certificate_expiry.clone(),
        );
        all.register("acme_orders", "Orders of certificates, by outcome", self.acme_orders.clone());
    }

    fn register_redis(&self, all: &mut Registry) {
        all.register("redis_evicts", "1 where Redis throws entries out when it is full", self.redis_evicts.clone());
        all.register("redis_persists", "0 where Redis keeps nothing over its restart", self.redis_persists.clone());
        all.register("redis_keys", "Keys in Redis at the last count, by kind", self.redis_keys.clone());
        all.register("redis_bytes", "Their bytes, estimated", self.redis_bytes.clone());
        all.register("redis_let_go", "Entries in Redis beyond their bound, by kind", self.redis_let_go.clone());
        all.register(
            "redis_rewritten",
            "Entries that were missing in Redis and were written again",
            self.redis_rewritten.clone(),
        );
        all.register("replicas", "Replicas that Redis knows of, this one included", self.replicas.clone());
        all.register("replicas_disagree", "1 for what another replica has otherwise", self.replicas_disagree.clone());
    }

    /// The page that Prometheus reads (OpenMetrics text).
    pub fn page(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

/// The class of an HTTP status, as a label.
pub fn class(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "none",
    }
}
