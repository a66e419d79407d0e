//! Calls to other pods by the API key, for one client.

use std::sync::Arc;

use crate::{
    forward::Failure,
    jellyfin::client::ApiCall,
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
}
