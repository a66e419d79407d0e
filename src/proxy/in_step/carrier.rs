//! Calls to other pods by the API key, for one client.

use std::sync::Arc;

use http::StatusCode;

use super::outcome::Outcome;
use crate::{
    forward::Failure,
    jellyfin::client::{ApiCall, users},
    pod::Pod,
    proxy::pod_client::{Caller, PodClient},
};

pub(super) struct Carrier<'a> {
    pub(super) pods: &'a PodClient,
    pub(super) caller: &'a Caller,
    pub(super) key: &'a str,
}

impl Carrier<'_> {
    pub(super) async fn call<T>(&self, pod: &Arc<Pod>, call: ApiCall<T>) -> Result<T, Failure> {
        self.pods.call(pod, self.caller, call).await
    }

    /// A user in whose name pods show an item: the caller, else any administrator.
    pub(super) async fn viewer(&self, pod: &Arc<Pod>, caller: Option<String>) -> Option<String> {
        if caller.is_some() {
            return caller;
        }
        let users = self.call(pod, users::list(self.key)).await.ok()?;
        users.into_iter().find(|user| user.is_administrator).map(|user| user.id)
    }

    /// Repeats a client's call. If `is_gone`, a 404 means that there is nothing left to do.
    pub(super) async fn repeat(&self, pod: &Arc<Pod>, call: &ApiCall<StatusCode>, is_gone: bool) -> Outcome {
        match Outcome::of(self.call(pod, call.clone()).await) {
            Outcome::Refused(StatusCode::NOT_FOUND) if is_gone => Outcome::InStep,
            outcome => outcome,
        }
    }
}
