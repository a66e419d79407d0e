//! Routes what only the leader can answer: QuickConnect, SyncPlay, single sign-on and tasks, for
//! clients that live on other pods; and what only the writer of the catalogue can do.

mod duty;
mod quick_connect;
mod sign_on;
mod sync_play;

use std::sync::Arc;

use tokio::time;

use super::{
    dispatch::Dispatcher,
    migrate::Migrator,
    pod_client::PodClient,
    request::{
        attempt::Attempt,
        context::{RequestContext, Target},
        dispatch::Dispatch,
        refusal::Refusal,
    },
    selector::Selector,
    shared_state::SharedState,
    visit::Visits,
    writers::Writers,
};
use crate::{
    jellyfin::endpoint::{Duty, LeaderCall},
    observe::metrics::{self, Metrics},
    pod::State,
    shutdown::Shutdown,
};
use duty::DutyRouter;
use quick_connect::QuickConnect;
use sign_on::SignOn;
use sync_play::SyncPlay;

/// Sends one worker's requests to pods, by way of the leader if they need it.
pub(super) struct LeaderRouter {
    shared: Arc<SharedState>,
    dispatcher: Arc<Dispatcher>,
    duty_router: DutyRouter,
    quick_connect: QuickConnect,
    sync_play: SyncPlay,
    sign_on: SignOn,
}

impl LeaderRouter {
    pub(super) fn new(
        shared: Arc<SharedState>,
        dispatcher: Arc<Dispatcher>,
        (selector, migrator): (Arc<Selector>, Arc<Migrator>),
        (pods, visits): (Arc<PodClient>, Arc<Visits>),
        (metrics, shutdown): (Metrics, Shutdown),
    ) -> LeaderRouter {
        let duty_router = DutyRouter {
            shared: shared.clone(),
            dispatcher: dispatcher.clone(),
            migrator: migrator.clone(),
            visits: visits.clone(),
            writers: Writers::with(shared.clone(), pods.clone(), shutdown),
        };
        let quick_connect =
            QuickConnect { shared: shared.clone(), dispatcher: dispatcher.clone(), pods, metrics: metrics.clone() };
        let sign_on = SignOn {
            shared: shared.clone(),
            dispatcher: dispatcher.clone(),
            migrator: migrator.clone(),
            visits: visits.clone(),
        };
        let sync_play =
            SyncPlay { shared: shared.clone(), dispatcher: dispatcher.clone(), selector, migrator, visits, metrics };
        LeaderRouter { shared, dispatcher, duty_router, quick_connect, sync_play, sign_on }
    }

    /// Dispatches a request, by way of the leader if it needs the leader.
    pub(super) async fn dispatch(&self, dispatch: &mut Dispatch<'_>) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        let call = match ctx.endpoint {
            endpoint if endpoint.may_be_leader_call() => LeaderCall::of(&ctx.head.method, ctx.path),
            _ if self.shared.is_leaders(ctx.path) => Some(LeaderCall::SignOn),
            _ => None,
        };
        match call {
            None if ctx.duty != Duty::Any => Box::pin(self.duty_router.dispatch(dispatch)).await,
            None => match self.dispatcher.dispatch(dispatch).await {
                Ok(failed) if DutyRouter::may_lack_what_writer_has(ctx, &failed) => {
                    Box::pin(self.duty_router.ask_writer_first(dispatch, failed)).await
                }
                attempt => attempt,
            },
            // Boxed: these paths are rare, and would make every request's future larger.
            Some(call) => Box::pin(self.dispatch_call(call, dispatch)).await,
        }
    }

    async fn dispatch_call(&self, call: LeaderCall, dispatch: &mut Dispatch<'_>) -> Result<Attempt, Refusal> {
        let ctx = dispatch.ctx;
        match call {
            LeaderCall::Enabled => dispatch_to_leader(&self.dispatcher, dispatch, None).await,
            LeaderCall::Initiate => self.quick_connect.initiate(dispatch).await,
            LeaderCall::Connect => dispatch_to_leader(&self.dispatcher, dispatch, ctx.query("secret")).await,
            LeaderCall::LogIn => {
                let secret = self.text_in_body(dispatch, "Secret").await;
                dispatch_to_leader(&self.dispatcher, dispatch, secret).await
            }
            LeaderCall::Authorize => self.quick_connect.authorize(dispatch).await,
            LeaderCall::New => {
                // A draining leader keeps the lead for its existing groups, but not for new ones.
                if let Some(leader) = ctx.pool.leader.current().filter(|pod| pod.status().state == State::Draining) {
                    leader.drain.set_gives_up_lead(true);
                }
                self.sync_play.join(dispatch, None).await
            }
            LeaderCall::Join => {
                let group = self.text_in_body(dispatch, "GroupId").await;
                self.sync_play.join(dispatch, group.as_deref()).await
            }
            LeaderCall::Member => self.sync_play.call(dispatch).await,
            LeaderCall::Look => self.sync_play.list_groups(dispatch).await,
            LeaderCall::Time => self.sync_play.time(dispatch).await,
            LeaderCall::SignOn => self.sign_on.dispatch(dispatch, ctx.query("state")).await,
            LeaderCall::SignOnEnd => {
                let state = self.text_in_body(dispatch, "data").await;
                self.sign_on.dispatch(dispatch, state).await
            }
        }
    }

    /// A text in the request's body. The wait for the body is bounded; the pod itself ends bodies
    /// that come too slowly.
    async fn text_in_body(&self, dispatch: &Dispatch<'_>, name: &str) -> Option<String> {
        let body = time::timeout(self.shared.forward.hold, dispatch.body.read_ahead()).await;
        text_in(&body.ok().flatten()?, name)
    }
}

/// Sends a request to the leader, or to the pod that made this code, secret or state.
async fn dispatch_to_leader(
    dispatcher: &Dispatcher,
    dispatch: &mut Dispatch<'_>,
    key: Option<String>,
) -> Result<Attempt, Refusal> {
    let ctx = dispatch.ctx.with_target(Target::Leader(key));
    dispatcher.dispatch(&mut dispatch.with_context(&ctx)).await
}

/// What needs an API key between clients of different pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feature {
    QuickConnect,
    SyncPlay,
}

impl Feature {
    fn as_str(self) -> &'static str {
        match self {
            Feature::QuickConnect => "quick_connect",
            Feature::SyncPlay => "sync_play",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Feature::QuickConnect => "Quick Connect",
            Feature::SyncPlay => "SyncPlay",
        }
    }
}

/// Warns once about a feature that needs an API key.
fn warn_missing_key(metrics: &Metrics, ctx: &RequestContext<'_>, feature: Feature) {
    let pool = ctx.pool.pool.name.clone();
    let labels = metrics::MissingRequirement { pool, pod: "".into(), what: feature.as_str() };
    let gauge = metrics.missing_requirements.get_or_create(&labels).clone();
    if gauge.set(1) == 0 {
        let feature = feature.name();
        tracing::warn!(
            "{feature} between clients of different pods needs an API key of Jellyfin; set [jellyfin] api_key"
        );
    }
}

/// Reads a text from a JSON body, ignoring the case of its key: a QuickConnect's secret or a single
/// sign-on's state.
fn text_in(body: &[u8], name: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = json.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1;
    text.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_as_the_server_reads_them() {
        assert_eq!(text_in(br#"{"secret":"ABC"}"#, "Secret").as_deref(), Some("ABC"));
        assert_eq!(text_in(b"no JSON", "Secret"), None);
    }
}
