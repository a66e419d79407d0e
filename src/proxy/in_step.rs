//! Keeps the pods of a pool in step: what a client changes on its own pod, the others follow.
//!
//! Pods share a database and keep files and memories of their own. After the caller's pod has done
//! an act (2xx), the API key makes the other pods follow, as `jellyfin/endpoint/scope` says. The
//! client waits for them for a moment only, and no other pod changes its answer.

mod carrier;
mod libraries;
mod outcome;
mod peers;
mod pictures;
mod returned;
mod rights;
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

pub(super) use returned::Returns;

use super::{
    in_step_state::ALL_BODIES_KIB,
    pod_client::{Caller, PodClient},
    request::{context::RequestContext, dispatch::Dispatch},
    shared_state::SharedState,
};
use crate::{
    forward::outbound::ReplayBody,
    jellyfin::{
        client::ApiCall,
        endpoint::{self, Act, DocumentKeys, Duty},
        images::Pictures,
        libraries::Library,
        settings::DocumentName,
    },
    observe::metrics::Metrics,
    pod::{Pod, PodId},
    shutdown::Shutdown,
};
use outcome::{Label, Outcome, PodOutcome, Skip};
use peers::Peers;
use rights::Right;
use work::{Job, Work};

/// Longest time that a client's answer waits for the other pods.
const LONGEST: Duration = Duration::from_secs(2);

/// Longest time for what must be known before the caller's pod gets the request.
const BEFORE: Duration = Duration::from_secs(2);

/// The same before a user's deletion. A pod that is not told shows no devices until it restarts.
const BEFORE_DELETION: Duration = Duration::from_secs(10);

/// Longest body that is kept to be repeated.
const LONGEST_BODY: usize = 1 << 20;

/// Lets other pods follow a client's change.
pub(super) struct InStep {
    peers: Arc<Peers>,
}

/// An act that other pods follow, from before its request until its answer.
pub(super) struct Begun {
    plan: Plan,
    /// The caller's own pod said that the caller is an administrator.
    is_right: bool,
    /// No other change that reads before it writes goes on meanwhile.
    turn: Option<OwnedSemaphorePermit>,
    /// The part of all kept bodies that is this one's.
    kept: Option<OwnedSemaphorePermit>,
    /// What was done before.
    told: Vec<PodOutcome>,
}

/// What is known of an act before its request.
enum Plan {
    Same {
        in_files: bool,
    },
    Refresh(String),
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

impl InStep {
    pub(super) fn new(shared: Arc<SharedState>, pods: Arc<PodClient>, metrics: Metrics, shutdown: Shutdown) -> InStep {
        InStep { peers: Arc::new(Peers { shared, pods, metrics, shutdown }) }
    }

    /// Whether a request needs [`InStep::look`]: nearly none does.
    pub(super) fn concerns(&self, ctx: &RequestContext<'_>) -> bool {
        !matches!(ctx.act, None | Some(Act::UserData | Act::Revocation))
            && !is_done_by_writer(ctx)
            // There each server has libraries, settings and users of its own.
            && ctx.pool.shown_server.users.is_none()
            && self.peers.key().is_some()
            && ctx.keys.identity.token.is_some()
            && ctx.pool.pool.pods().len() > 1
    }

    /// Notes what must be known before the caller's pod gets the request. `None` if no other pod
    /// follows.
    pub(super) async fn look(&self, ctx: &RequestContext<'_>, body: &ReplayBody) -> Option<Box<Begun>> {
        let act = ctx.act?;
        let mut begun = Begun { plan: Plan::Done, is_right: false, turn: None, kept: None, told: Vec::new() };
        begun.plan = match act {
            Act::Same { in_files } => {
                begun.kept = self.keep(ctx, body);
                Plan::Same { in_files }
            }
            Act::Sidecar { item, option } => {
                begun.kept = self.keep(ctx, body);
                Plan::Sidecar { item: item.to_owned(), option }
            }
            Act::Refresh(item) => Plan::Refresh(item.to_owned()),
            Act::Items(Some(item)) => Plan::Items(vec![item.to_owned()]),
            Act::Items(None) => Plan::Items(endpoint::ids_in_query(ctx.head.uri.query().unwrap_or_default(), "ids")),
            Act::Images { item, kind } => of_item(item, kind)?,
            Act::RemoteImage { item } => of_item(item, &ctx.query("type")?)?,
            Act::UserImage(user) => match user.map(str::to_owned).or_else(|| ctx.query("userId")) {
                Some(user) => Plan::Pictures(Pictures::OfUser(user)),
                None => Plan::OwnPicture,
            },
            Act::Splashscreen => Plan::Pictures(Pictures::Splashscreen),
            Act::Document { document, keys: keys @ DocumentKeys::These(_) } => {
                Plan::Settings { document: document.into(), keys, before: HashMap::new() }
            }
            // A stranger's request makes no pod read anything.
            Act::Document { .. } | Act::Library | Act::UserDeletion(_) => {
                match time::timeout(BEFORE, self.peers.judge(ctx)).await.unwrap_or(Right::Unknown) {
                    Right::Administrator(own) => {
                        begun.is_right = true;
                        begun.turn = self.peers.wait_turn(ctx.pool_index).await;
                        self.look_before(ctx, act, &own, &mut begun.told).await
                    }
                    Right::None => return None,
                    // Another pod will answer: the caller's home is away.
                    Right::Unknown => nothing_known_before(act),
                }
            }
            Act::UserData | Act::Revocation => return None,
        };
        Some(Box::new(begun))
    }

    /// Lets the other pods follow, after the caller's pod has answered. The access line gets what
    /// became of it until the client's answer must go.
    pub(super) async fn repeat(
        &self,
        begun: Box<Begun>,
        dispatch: &mut Dispatch<'_>,
        (from, status): (&Arc<Pod>, StatusCode),
    ) {
        let (ctx, told) = (dispatch.ctx, &begun.told);
        let Some(act) = ctx.act.map(Label::of) else { return };
        for told in told {
            self.peers.report(act, told);
            dispatch.record.record_fan_out(&told.pod, told.outcome.shown());
        }
        if !status.is_success() {
            if told.iter().any(|told| matches!(told.outcome, Outcome::Done(_))) {
                tracing::warn!(
                    pod.pool = &*from.pool,
                    status = status.as_u16(),
                    "a user was not deleted, and is signed out on the other pods"
                );
            }
            return;
        }
        for told in self.let_follow(begun, ctx, from, dispatch.body).await {
            dispatch.record.record_fan_out(&told.pod, told.outcome.shown());
        }
    }

    async fn let_follow(
        &self,
        begun: Box<Begun>,
        ctx: &RequestContext<'_>,
        from: &Arc<Pod>,
        body: &ReplayBody,
    ) -> Vec<PodOutcome> {
        let Begun { plan, is_right, turn, kept, .. } = *begun;
        let Some(act) = ctx.act else { return Vec::new() };
        let others: Vec<Arc<Pod>> = ctx.pool.pool.pods().iter().filter(|pod| pod.id != from.id).cloned().collect();
        // A pod that is being set up lets strangers make libraries.
        let may_act = is_right || ctx.endpoint.proves_token();
        let work = if may_act { self.work(plan, ctx, from, body).await } else { Err(Skip::Unknown) };
        drop(kept);
        let work = match work {
            Ok(Some(work)) => work,
            Ok(None) => return Vec::new(),
            Err(why) => {
                let skipped = |pod| PodOutcome { pod, outcome: Outcome::Skipped(why) };
                let skipped: Vec<_> = others.into_iter().map(skipped).collect();
                skipped.iter().for_each(|told| self.peers.report(Label::of(act), told));
                return skipped;
            }
        };
        let is_scan = |value: String| value.eq_ignore_ascii_case("true");
        let job = Job {
            peers: self.peers.clone(),
            caller: Caller::of(ctx),
            pool_index: ctx.pool_index,
            from: from.clone(),
            viewer: ctx.session().map(|session| session.user.clone()),
            act: Label::of(act),
            work,
            turn,
            scans: act == Act::Library && ctx.query("refreshLibrary").is_some_and(is_scan),
        };
        let (sender, mut receiver) = mpsc::channel(others.len().max(1));
        // It goes on when the client's answer does not wait any longer.
        tokio::spawn(self.peers.shutdown.track(job.run(others.clone(), sender)));
        let deadline = Instant::now() + LONGEST;
        let mut told: Vec<PodOutcome> = Vec::with_capacity(others.len());
        while let Ok(Some(one)) = time::timeout_at(deadline, receiver.recv()).await {
            told.push(one);
        }
        let late = others.into_iter().filter(|pod| !told.iter().any(|told| told.pod.id == pod.id));
        let late: Vec<_> = late.map(|pod| PodOutcome { pod, outcome: Outcome::Late }).collect();
        told.extend(late);
        told
    }

    /// What the other pods are to do. `None`: nothing is left.
    async fn work(
        &self,
        plan: Plan,
        ctx: &RequestContext<'_>,
        from: &Arc<Pod>,
        body: &ReplayBody,
    ) -> Result<Option<Work>, Skip> {
        let key = self.peers.key().ok_or(Skip::Unknown)?;
        Ok(Some(match plan {
            Plan::Same { in_files } => {
                let calls = vec![repeated(ctx, body, key)?];
                Work::Calls { calls, is_gone: ctx.head.method == Method::DELETE, in_files }
            }
            Plan::Items(items) if items.is_empty() => return Ok(None),
            Plan::Items(items) => Work::Items(items),
            Plan::Refresh(item) => Work::Refresh { item, call: repeated(ctx, body, key)? },
            Plan::Sidecar { item, option } => Work::Sidecar { item, option, call: repeated(ctx, body, key)? },
            Plan::Pictures(pictures) => Work::Pictures(pictures),
            Plan::OwnPicture => {
                let user = self.peers.user_of(ctx, from).await.ok_or(Skip::Unknown)?;
                Work::Pictures(Pictures::OfUser(user))
            }
            Plan::Settings { document, keys, mut before } => {
                Work::Settings { document, keys, before: before.remove(&from.id) }
            }
            Plan::Libraries(mut before) => Work::Libraries(before.remove(&from.id).ok_or(Skip::Unknown)?),
            Plan::Done => return Ok(None),
        }))
    }

    /// Reads what the act is about to change on whichever pod gets it.
    async fn look_before(
        &self,
        ctx: &RequestContext<'_>,
        act: Act<'_>,
        own: &Arc<Pod>,
        told: &mut Vec<PodOutcome>,
    ) -> Plan {
        let caller = Caller::of(ctx);
        let Some(carrier) = self.peers.carrier(&caller) else { return Plan::Done };
        let pods = ctx.pool.pool.pods().to_vec();
        let alive = || pods.iter().filter(|pod| pod.status().is_alive());
        match act {
            Act::Document { document, keys } => {
                let document = DocumentName::from(document);
                let reads = alive().map(|pod| async { Some((pod.id, carrier.settings(pod, &document).await?)) });
                let before = time::timeout(BEFORE, join_all(reads)).await.unwrap_or_default();
                Plan::Settings { document: document.clone(), keys, before: before.into_iter().flatten().collect() }
            }
            Act::Library => {
                let reads = alive().map(|pod| async { Some((pod.id, carrier.libraries(pod).await?)) });
                let before = time::timeout(BEFORE, join_all(reads)).await.unwrap_or_default();
                Plan::Libraries(before.into_iter().flatten().collect())
            }
            Act::UserDeletion(user) => {
                let others: Vec<_> = pods.iter().filter(|pod| pod.id != own.id).cloned().collect();
                let forgotten = carrier.forget_devices(own, &others, user);
                *told = time::timeout(BEFORE_DELETION, forgotten).await.unwrap_or_default();
                Plan::Done
            }
            _ => Plan::Done,
        }
    }

    /// Keeps more of a body than other requests need, while there is room. Half of the room is for
    /// known clients, so that strangers cannot fill it.
    fn keep(&self, ctx: &RequestContext<'_>, body: &ReplayBody) -> Option<OwnedSemaphorePermit> {
        let kib = body.length_at_most(LONGEST_BODY).div_ceil(1024);
        let bodies = &self.peers.shared.in_step.bodies;
        if ctx.session().is_none() && bodies.available_permits() < ALL_BODIES_KIB / 2 + kib {
            return None;
        }
        let permit = bodies.clone().try_acquire_many_owned(kib.try_into().ok()?).ok()?;
        body.keep_up_to(LONGEST_BODY);
        Some(permit)
    }
}

/// Whether nothing is left for the other pods: where one pod writes the catalogue, it is in the
/// database and in folders that all share. Only settings stay in each pod's memory.
fn is_done_by_writer(ctx: &RequestContext<'_>) -> bool {
    let is_in_memory = match ctx.act {
        Some(Act::Document { .. } | Act::UserDeletion(_)) => true,
        Some(Act::Same { .. }) => ctx.duty == Duty::Any,
        _ => false,
    };
    ctx.pool.writer.is_one() && !is_in_memory
}

/// The client's own request, for other pods.
fn repeated(ctx: &RequestContext<'_>, body: &ReplayBody, key: &str) -> Result<ApiCall<StatusCode>, Skip> {
    // Jellyfin reads no coded bodies, so what this one means is unknown.
    if ctx.head.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Skip::Unknown);
    }
    let body = body.replayable().ok_or(Skip::TooLarge)?;
    let content_type = ctx.head.headers.get(header::CONTENT_TYPE).cloned();
    let call = ApiCall::repeated(ctx.head.method.clone(), ctx.target_without_tokens());
    Ok(call.with_token(key).with_content(body, content_type).within(work::PATIENCE))
}

/// For a caller whose own pod cannot be asked.
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
