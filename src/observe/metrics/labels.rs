//! The labels of metrics. Each is of a closed set, or a name that the operator gives.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;

/// The pod that answered a request, the class of its status, and why jellypin chose the pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Request {
    pub route: Arc<str>,
    pub pod: Arc<str>,
    /// Like `2xx`; `none` when no answer began.
    pub code: &'static str,
    pub reason: &'static str,
}

/// How an order of a certificate ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AcmeOrder {
    pub outcome: &'static str,
}

/// Labels of a metric for each certificate: its first name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfCertificate {
    pub name: String,
}

/// Labels of a metric for each pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfPod {
    pub pool: Arc<str>,
    pub pod: Arc<str>,
}

/// Labels of a metric for each pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfPool {
    pub pool: Arc<str>,
}

/// A change of a pool's leader, or of its term.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LeaderChange {
    pub pool: Arc<str>,
    pub why: &'static str,
}

/// Why the pods' key named no leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LeaderProblem {
    pub pool: Arc<str>,
    pub cause: &'static str,
}

/// A request that moved from one pod to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Move {
    pub pool: Arc<str>,
    pub from: Arc<str>,
    pub why: &'static str,
}

/// An attempt to migrate a session to another pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Migration {
    pub pool: Arc<str>,
    pub to: Arc<str>,
    /// `known`, `minted`, `refused`, `dead`, `failed`.
    pub outcome: &'static str,
}

/// A SyncPlay group that had to leave its pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct GroupMove {
    pub pool: Arc<str>,
    /// `moved`, `ended`.
    pub outcome: &'static str,
}

/// A restart of all pods of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RolledPool {
    pub pool: Arc<str>,
    /// `done`, `stopped`.
    pub outcome: &'static str,
}

/// A set of a task's triggers that the proxy has changed at a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TriggersSet {
    pub pool: Arc<str>,
    /// `emptied`, `given`, `failed`.
    pub act: &'static str,
}

/// A call of the hook that wakes a pod or lets it sleep.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WakeHook {
    pub pool: Arc<str>,
    pub pod: Arc<str>,
    /// `wake`, `sleep`.
    pub act: &'static str,
    /// `done`, `failed`.
    pub outcome: &'static str,
}

/// A requirement for session migration that a pod does not meet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MissingRequirement {
    pub pool: Arc<str>,
    pub pod: Arc<str>,
    /// `api_key`, `quick_connect`, `no_answer`.
    pub what: &'static str,
}

/// An answer that broke off, the pod that sent it, and whether another pod continued it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Resumption {
    pub pool: Arc<str>,
    pub from: Arc<str>,
    /// `resumed`; `changed` if no pod had the same file; `gave_up`.
    pub outcome: &'static str,
}

/// A pod and one of its possible states.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PodState {
    pub pool: Arc<str>,
    pub pod: Arc<str>,
    pub state: &'static str,
}

/// A pod that serves, and one of its possible conditions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PodCondition {
    pub pool: Arc<str>,
    pub pod: Arc<str>,
    pub condition: &'static str,
}

/// Why the proxy itself answered a request, or closed a connection at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Rejected {
    pub why: &'static str,
}

/// What became of a change at another pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct InStep {
    pub pool: Arc<str>,
    pub pod: Arc<str>,
    /// What was changed, like `settings`; `return` for a pod that comes back.
    pub act: &'static str,
    /// `done`, `in_step`, `refused`, `failed`, `away`, `skipped`.
    pub outcome: &'static str,
}

/// What exceeded a limit, and the scope of that limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Limited {
    /// `connections`, `handshakes`, `requests`, `holds`, `sockets`, `http2_frames`, `stalls`,
    /// `log_ins`.
    pub what: &'static str,
    /// `all`, `address`, `connection`, `user`, `user_at_address`.
    pub scope: &'static str,
}

/// The outcome of a read from a store, or of a write to one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StoreOutcome {
    pub outcome: &'static str,
}

/// A pod that was told what a user wrote through another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UserDataTold {
    pub pool: Arc<str>,
    pub pod: Arc<str>,
    /// `told`, `failed`; `gone` without the item; `redone` when the pod of the write is gone.
    pub outcome: &'static str,
}

/// How a request's wait for its pod ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Waited {
    /// `told`, `timed_out`.
    pub outcome: &'static str,
}

/// Why other pods do not hear of a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Dropped {
    /// `full`, `children`, `user`, `body`.
    pub why: &'static str,
}

/// A kind of entry in Redis.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfKind {
    /// `session`, `ended`, `pin`.
    pub kind: &'static str,
}

/// A setting on which replicas disagree.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Disagreement {
    pub what: &'static str,
}

/// A call that jellypin made to a pod other than the caller's own, for what a client asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PodCall {
    pub pool: Arc<str>,
    pub pod: Arc<str>,
    /// `session_list`, `device_list`, `remote_control`.
    pub what: &'static str,
    /// The class of the status, `timed_out` or `failed`.
    pub outcome: &'static str,
}

/// What became of a question of an app that looks for a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Autodiscovery {
    /// `answered`, `no_question`, `foreign`, `limited`, `unknown`.
    pub outcome: &'static str,
}
