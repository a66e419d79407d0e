//! Keeps the pods of a pool in step: what a client changes on its own pod, the others follow.
//!
//! Pods share a database and keep files and memories of their own. After the caller's pod has done
//! an act (2xx), the API key makes the other pods follow, as `jellyfin/endpoint/scope` says. The
//! client waits for them for a moment only, and no other pod changes its answer.

mod libraries;
mod memory;
mod outcome;
mod pictures;
mod returned;
mod settings;
mod sidecar;
mod user_deletion;
mod work;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::{Method, StatusCode, header};
use serde_json::Value;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{self, Instant},
};

pub(super) use memory::PoolMemory;
pub(super) use outcome::{Outcome, PodOutcome};

use super::{
    SharedState,
    pod_client::{Caller, PodClient},
    request::context::{ClientSession, RequestContext},
};
use crate::{
    forward::{Failure, outbound::ReplayBody},
    jellyfin::{
        client::{ApiCall, libraries as libraries_api, system, users},
        endpoint::{Act, DocumentKeys},
        libraries::Library,
        settings::DocumentName,
    },
    observe::metrics::{self, Metrics},
    pod::{Pod, PodId, PodInstance},
    sessions::Token,
    shutdown::Shutdown,
};
use outcome::Skip;
use pictures::Pictures;
use work::{Job, Work};

/// Longest time that a client's answer waits for the other pods.
const LONGEST: Duration = Duration::from_secs(2);

/// Longest time for what must be known before the caller's pod gets the request.
const BEFORE: Duration = Duration::from_secs(2);

/// Longest time that a change waits for the one before.
const LONGEST_TURN: Duration = Duration::from_secs(5);

/// Longest body that is kept to be repeated, and all of them at once, in KiB.
const LONGEST_BODY: usize = 1 << 20;
pub const ALL_BODIES_KIB: usize = 16 << 10;

/// Changes under way at once, over all workers.
pub const AT_ONCE: usize = 64;

/// One worker's part.
pub(super) struct InStep {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
    metrics: Metrics,
    shutdown: Shutdown,
}

/// An act that other pods follow, from before its request until its answer.
pub(super) struct Begun {
    plan: Plan,
    /// The caller's own pod said that the caller is an administrator.
    is_right: bool,
    /// No other change that reads before it writes goes on meanwhile.
    turn: Option<OwnedSemaphorePermit>,
    /// The part of all kept bodies that is this one's.
    _kept: Option<OwnedSemaphorePermit>,
    /// What was done before.
    told: Vec<PodOutcome>,
}

/// What is known of an act before its request.
enum Plan {
    Same,
    Items(Vec<String>),
    Sidecar {
        item: String,
        option: &'static str,
    },
    Pictures(Pictures),
    /// The picture of the caller's own user.
    OwnPicture,
    Settings {
        document: DocumentName,
        keys: DocumentKeys,
        before: HashMap<PodId, Value>,
    },
    Libraries(HashMap<PodId, Vec<Library>>),
    /// All is done before the request.
    Done,
}

/// What the caller's own pod says of the caller.
enum Right {
    Administrator(Arc<Pod>),
    None,
    /// No pod that knows the caller can be asked.
    Unknown,
}

/// Calls to pods, for one client.
struct Carrier<'a> {
    pods: &'a PodClient,
    caller: &'a Caller,
    key: &'a str,
}

impl Carrier<'_> {
    async fn call<T>(&self, pod: &Arc<Pod>, call: ApiCall<T>) -> Result<T, Failure> {
        self.pods.call(pod, self.caller, call).await
    }
}

impl InStep {
    pub(super) fn new(
        shared: Arc<SharedState>,
        pods: Arc<PodClient>,
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> Arc<InStep> {
        Arc::new(InStep { shared, pods, metrics, shutdown })
    }

    /// Whether a request needs [`InStep::begin`]: nearly none does.
    pub(super) fn concerns(&self, ctx: &RequestContext<'_>) -> bool {
        let is_carried = !matches!(ctx.act, None | Some(Act::UserData | Act::Revocation));
        is_carried && self.key().is_some() && ctx.keys.identity.token.is_some() && ctx.pool.pool.pods().len() > 1
    }

    /// Notes what must be known before the caller's pod gets the request. `None` if no other pod
    /// follows.
    pub(super) async fn begin(&self, ctx: &RequestContext<'_>, body: &ReplayBody) -> Option<Box<Begun>> {
        let act = ctx.act?;
        let mut begun = Begun { plan: Plan::Same, is_right: false, turn: None, _kept: None, told: Vec::new() };
        begun.plan = match act {
            Act::Same => {
                begun._kept = self.keep(body);
                Plan::Same
            }
            Act::Sidecar { item, option } => {
                begun._kept = self.keep(body);
                Plan::Sidecar { item: item.to_owned(), option }
            }
            Act::Items(Some(item)) => Plan::Items(vec![item.to_owned()]),
            Act::Items(None) => Plan::Items(ctx.query_ids("ids")),
            Act::Images { item, kind } => of_item(item, kind)?,
            Act::RemoteImage { item } => of_item(item, &ctx.query("type")?)?,
            Act::UserImage(Some(user)) => Plan::Pictures(Pictures::OfUser(user.to_owned())),
            Act::UserImage(None) => match ctx.query("userId") {
                Some(user) => Plan::Pictures(Pictures::OfUser(user)),
                None => Plan::OwnPicture,
            },
            Act::Splashscreen => Plan::Pictures(Pictures::Splashscreen),
            Act::Document { document, keys: keys @ DocumentKeys::These(_) } => {
                Plan::Settings { document: document.into(), keys, before: HashMap::new() }
            }
            Act::Document { .. } | Act::Library | Act::UserDeletion(_) => {
                // A stranger's request makes no pod read anything.
                match self.judge(ctx).await {
                    Right::Administrator(own) => {
                        begun.is_right = true;
                        begun.turn = self.turn(ctx.pool_index).await;
                        self.read_before(ctx, act, &own, &mut begun.told).await
                    }
                    Right::None => return None,
                    Right::Unknown => nothing_known_before(act),
                }
            }
            Act::UserData | Act::Revocation => return None,
        };
        Some(Box::new(begun))
    }

    /// Lets the other pods follow, after the caller's pod has answered. Gives what became of it
    /// until the client's answer must go.
    pub(super) async fn carry(
        self: &Arc<Self>,
        begun: Box<Begun>,
        ctx: &RequestContext<'_>,
        answered: (&Arc<Pod>, StatusCode),
        body: &ReplayBody,
    ) -> Vec<PodOutcome> {
        let (from, status) = answered;
        let Begun { plan, is_right, turn, _kept: kept, told } = *begun;
        let Some(act) = ctx.act else { return told };
        told.iter().for_each(|told| self.count(act, told));
        if !status.is_success() {
            if told.iter().any(|told| matches!(told.outcome, Outcome::Done(_))) {
                tracing::warn!(
                    pod.pool = &*from.pool,
                    status = status.as_u16(),
                    "a user was not deleted, and is signed out on the other pods"
                );
            }
            return told;
        }
        let others: Vec<Arc<Pod>> = ctx.pool.pool.pods().iter().filter(|pod| pod.id != from.id).cloned().collect();
        // A pod that is being set up lets strangers make libraries.
        let may_act = is_right || ctx.endpoint.proves_token();
        let work = if may_act { self.work(plan, ctx, from, body).await } else { Err(Skip::Unknown) };
        let work = match work {
            Ok(Some(work)) => work,
            Ok(None) => return told,
            Err(why) => {
                let skipped = |pod| PodOutcome { pod, outcome: Outcome::Skipped(why) };
                let skipped: Vec<_> = others.into_iter().map(skipped).collect();
                skipped.iter().for_each(|told| self.report(act, told));
                return skipped;
            }
        };
        drop(kept);
        let scans =
            act == Act::Library && ctx.query("refreshLibrary").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let job = Job {
            in_step: self.clone(),
            caller: Caller::of(ctx),
            pool_index: ctx.pool_index,
            from: from.clone(),
            label: label(act),
            work,
            turn,
            scans,
        };
        let (sender, mut receiver) = mpsc::channel(others.len().max(1));
        // It goes on when the client's answer does not wait any longer.
        tokio::spawn(self.shutdown.track(job.run(others.clone(), sender)));
        let deadline = Instant::now() + LONGEST;
        let mut told = Vec::with_capacity(others.len());
        while let Ok(Some(one)) = time::timeout_at(deadline, receiver.recv()).await {
            told.push(one);
        }
        let late = others.into_iter().filter(|pod| !told.iter().any(|told| told.pod.id == pod.id));
        let late: Vec<_> = late.map(|pod| PodOutcome { pod, outcome: Outcome::Late }).collect();
        told.extend(late);
        told
    }

    /// What the other pods are to do.
    async fn work(
        &self,
        plan: Plan,
        ctx: &RequestContext<'_>,
        from: &Arc<Pod>,
        body: &ReplayBody,
    ) -> Result<Option<Work>, Skip> {
        let repeated = || -> Result<ApiCall<StatusCode>, Skip> {
            // Pods take no other coding, so what this one means is unknown.
            if ctx.head.headers.contains_key(header::CONTENT_ENCODING) {
                return Err(Skip::Unknown);
            }
            let body = body.replayable().ok_or(Skip::TooLarge)?;
            let content_type = ctx.head.headers.get(header::CONTENT_TYPE).cloned();
            let key = self.key().ok_or(Skip::Unknown)?;
            Ok(ApiCall::repeated(ctx.head.method.clone(), ctx.target_without_tokens())
                .with_token(key)
                .with_content(body, content_type)
                .within(work::PATIENCE))
        };
        Ok(Some(match plan {
            Plan::Same => Work::Calls { calls: vec![repeated()?], is_gone: ctx.head.method == Method::DELETE },
            Plan::Items(items) => {
                let key = self.key().ok_or(Skip::Unknown)?;
                let calls = items.iter().map(|item| crate::jellyfin::client::items::delete(item, key)).collect();
                Work::Calls { calls, is_gone: true }
            }
            Plan::Sidecar { item, option } => Work::Sidecar { item, option, call: repeated()? },
            Plan::Pictures(pictures) => Work::Pictures(pictures),
            Plan::OwnPicture => {
                let user = match ctx.session() {
                    Some(session) => Some(session.user.clone()),
                    None => self.user_of(ctx, from).await,
                };
                Work::Pictures(Pictures::OfUser(user.ok_or(Skip::Unknown)?))
            }
            Plan::Settings { document, keys, mut before } => {
                Work::Settings { document, keys, before: before.remove(&from.id) }
            }
            Plan::Libraries(mut before) => Work::Libraries(before.remove(&from.id).ok_or(Skip::Unknown)?),
            Plan::Done => return Ok(None),
        }))
    }

    /// Reads what the act is about to change on whichever pod gets it.
    async fn read_before(
        &self,
        ctx: &RequestContext<'_>,
        act: Act<'_>,
        own: &Arc<Pod>,
        told: &mut Vec<PodOutcome>,
    ) -> Plan {
        let caller = Caller::of(ctx);
        let Some(key) = self.key() else { return Plan::Done };
        let carrier = Carrier { pods: &self.pods, caller: &caller, key };
        let pods = ctx.pool.pool.pods().to_vec();
        let alive = || pods.iter().filter(|pod| pod.status().is_alive());
        match act {
            Act::Document { document, keys } => {
                let document = DocumentName::from(document);
                let reads = alive().map(|pod| async { Some((pod.id, carrier.settings(pod, &document).await?)) });
                let before = time::timeout(BEFORE, join_all(reads)).await.unwrap_or_default();
                let before = before.into_iter().flatten().collect();
                Plan::Settings { document, keys, before }
            }
            Act::Library => {
                let reads = alive()
                    .map(|pod| async { Some((pod.id, carrier.call(pod, libraries_api::list(key)).await.ok()?)) });
                let before = time::timeout(BEFORE, join_all(reads)).await.unwrap_or_default();
                Plan::Libraries(before.into_iter().flatten().collect())
            }
            Act::UserDeletion(user) => {
                let others: Vec<_> = pods.iter().filter(|pod| pod.id != own.id).cloned().collect();
                let forgotten = self.forget_devices(&carrier, own, &others, user);
                *told = time::timeout(BEFORE, forgotten).await.unwrap_or_default();
                Plan::Done
            }
            _ => Plan::Done,
        }
    }

    /// Asks the caller's own pod whether the caller is an administrator.
    async fn judge(&self, ctx: &RequestContext<'_>) -> Right {
        let caller = Caller::of(ctx);
        let judged = async {
            for (pod, token) in self.knowers(ctx) {
                let who = self.pods.call(&pod, &caller, users::who_am_i(token.as_str())).await;
                let is_administrator = match who {
                    Ok(users::TokenStatus::Known { user: Some(_), is_administrator }) => is_administrator,
                    // An API key, which pods admit wherever an administrator may go.
                    Ok(users::TokenStatus::Known { user: None, .. }) => {
                        let may = self.pods.call(&pod, &caller, system::may_administer(token.as_str())).await;
                        may.unwrap_or_default()
                    }
                    Ok(users::TokenStatus::Unknown) | Err(_) => continue,
                };
                return if is_administrator { Right::Administrator(pod) } else { Right::None };
            }
            Right::Unknown
        };
        time::timeout(BEFORE, judged).await.unwrap_or(Right::Unknown)
    }

    /// The user of the caller's token, by the pod that answered.
    async fn user_of(&self, ctx: &RequestContext<'_>, pod: &Arc<Pod>) -> Option<String> {
        let token = ctx.keys.identity.token.as_deref()?;
        match self.pods.call(pod, &Caller::of(ctx), users::who_am_i(token)).await {
            Ok(users::TokenStatus::Known { user, .. }) => user,
            Ok(users::TokenStatus::Unknown) | Err(_) => None,
        }
    }

    /// The pods that may know the caller, each with the token that it knows.
    fn knowers(&self, ctx: &RequestContext<'_>) -> Vec<(Arc<Pod>, Token)> {
        let Some(own) = ctx.keys.identity.token.as_deref() else { return Vec::new() };
        let pods = ctx.pool.pool.pods();
        let alive = pods.iter().filter(|pod| pod.status().is_alive());
        match &ctx.client_session {
            ClientSession::Known(session) => {
                let known_at = |pod: &Arc<Pod>| Some((pod.clone(), session.token_at(PodInstance::of(pod))?));
                let mut knowers: Vec<_> = alive.filter_map(known_at).collect();
                let home = session.home().map(|home| home.pod);
                knowers.sort_by_key(|(pod, _)| Some(pod.id) != home);
                knowers
            }
            ClientSession::Ended => Vec::new(),
            ClientSession::Unknown | ClientSession::Unresolved => {
                alive.map(|pod| (pod.clone(), Token::new(own))).collect()
            }
        }
    }

    /// Keeps more of a body than other requests need, while there is room.
    fn keep(&self, body: &ReplayBody) -> Option<OwnedSemaphorePermit> {
        let kib = body.length_at_most(LONGEST_BODY).div_ceil(1024).try_into().ok()?;
        let permit = self.shared.in_step_bodies.clone().try_acquire_many_owned(kib).ok()?;
        body.keep_up_to(LONGEST_BODY);
        Some(permit)
    }

    /// Waits for the change before; after a while it goes on without.
    async fn turn(&self, pool_index: usize) -> Option<OwnedSemaphorePermit> {
        let turn = self.memory(pool_index).turn.clone();
        time::timeout(LONGEST_TURN, turn.acquire_owned()).await.ok()?.ok()
    }

    fn memory(&self, pool_index: usize) -> &PoolMemory {
        &self.shared.pools[pool_index].in_step
    }

    /// The API key, if pods are kept in step at all.
    fn key(&self) -> Option<&str> {
        self.shared.migration.api_key.as_ref().filter(|_| self.shared.keeps_in_step).map(Token::as_str)
    }

    fn report(&self, act: Act<'_>, told: &PodOutcome) {
        self.count(act, told);
        report_behind(label(act), told);
    }

    fn count(&self, act: Act<'_>, told: &PodOutcome) {
        self.count_label(label(act), told);
    }

    fn count_label(&self, act: &'static str, told: &PodOutcome) {
        let PodOutcome { pod, outcome } = told;
        let labels = metrics::InStep { pool: pod.pool.clone(), pod: pod.name.clone(), act, outcome: outcome.label() };
        self.metrics.in_step.get_or_create(&labels).inc();
    }
}

/// Says in the log that a pod goes on with what it had.
fn report_behind(act: &'static str, told: &PodOutcome) {
    if told.outcome.is_behind() {
        tracing::warn!(
            pod.name = &*told.pod.name,
            pod.pool = &*told.pod.pool,
            act,
            outcome = told.outcome.shown(),
            "a pod did not follow a change, and goes on with what it had"
        );
    }
}

/// The metric's label, of a closed set.
fn label(act: Act<'_>) -> &'static str {
    match act {
        Act::Same => "same_request",
        Act::Items(_) => "item_deletion",
        Act::Images { .. } | Act::RemoteImage { .. } => "item_picture",
        Act::UserImage(_) => "user_picture",
        Act::Splashscreen => "splash_screen",
        Act::Document { .. } => "settings",
        Act::Library => "library",
        Act::Sidecar { .. } => "sidecar",
        Act::UserDeletion(_) => "user_devices",
        Act::UserData => "user_data",
        Act::Revocation => "revocation",
    }
}

/// For a caller whose own pod cannot be asked: another one will answer the request.
fn nothing_known_before(act: Act<'_>) -> Plan {
    match act {
        Act::Document { document, keys } => Plan::Settings { document: document.into(), keys, before: HashMap::new() },
        Act::Library => Plan::Libraries(HashMap::new()),
        _ => Plan::Done,
    }
}

/// ASP.NET also takes a kind by its number, which jellypin does not.
fn of_item(item: &str, kind: &str) -> Option<Plan> {
    let is_name = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_name.then(|| Plan::Pictures(Pictures::OfItem { item: item.to_owned(), kind: kind.to_owned() }))
}
