//! The list of devices that an administrator gets, merged out of those of all pods.
//!
//! A pod knows the devices that signed in on it, and those that stood in the database when it
//! started. The caller's own pod answers, and so says whether the caller may see them. Only then the
//! other pods are asked by API key. A device that the own pod does not know is looked for there too.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, StatusCode, header, response};
use tokio::time;

use super::{
    pod_client::{Caller, PodClient},
    request::{context::RequestContext, record::RequestRecord},
    response::{
        answer::strip,
        body::Body,
        rewriting::{BrokeOff, Collected, collect, shown, shown_read_ahead},
    },
    shared_state::SharedState,
};
use crate::{
    forward::answer::AnswerBody,
    jellyfin::{
        client::devices::{self, LONGEST_LIST},
        device_list::DeviceList,
        endpoint,
    },
    observe::metrics::{self, Metrics},
    pod::Pod,
    server_id::is_readable_json,
    sessions::Token,
};

/// The longest wait for the other pods. One that does not answer in time is left out.
const LONGEST: Duration = Duration::from_secs(1);

/// One worker's lists of devices.
pub(super) struct DeviceLists {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
    metrics: Metrics,
}

impl DeviceLists {
    pub(super) fn new(shared: Arc<SharedState>, pods: Arc<PodClient>, metrics: Metrics) -> DeviceLists {
        DeviceLists { shared, pods, metrics }
    }

    /// 8. Makes `GET /Devices` the list of all pods, and finds the device of `GET /Devices/Info` on
    ///    whatever pod knows it.
    pub(super) async fn answer(
        &self,
        ctx: &RequestContext<'_>,
        answer: &mut response::Parts,
        mut body: AnswerBody,
        record: &mut RequestRecord,
    ) -> Result<Body, BrokeOff> {
        let own_pod = body.pod().clone();
        let Some(key) = self.shared.api_key() else { return Ok(shown(ctx, body)) };
        let is_one = endpoint::is_one_device(ctx.path);
        match answer.status {
            StatusCode::OK if !is_one && is_readable_json(&answer.headers) => {
                let whole = match collect(&mut body, LONGEST_LIST).await? {
                    Collected::Whole(whole) => whole,
                    Collected::Longer(early) => return Ok(shown_read_ahead(ctx, early, body)),
                };
                let whole = ctx.pool.shown_server.whole_to_client(&own_pod, whole);
                let Some(own) = DeviceList::read(&whole) else { return Ok(Body::whole(whole)) };
                let others = self.of_others(ctx, &own_pod, key, record).await;
                let json = own.merged_with(others.iter().filter_map(DeviceList::read)).write();
                answer.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(json.len()));
                Ok(Body::whole(json))
            }
            // A client that may not see devices is told so, whether there is such a device or not.
            StatusCode::NOT_FOUND if is_one => {
                let Some(found) = self.of_others(ctx, &own_pod, key, record).await.into_iter().next() else {
                    return Ok(shown(ctx, body));
                };
                answer.status = StatusCode::OK;
                record.set_status(StatusCode::OK.as_u16());
                strip(&mut answer.headers);
                let json = HeaderValue::from_static("application/json; charset=utf-8");
                answer.headers.insert(header::CONTENT_TYPE, json);
                answer.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(found.len()));
                Ok(Body::whole(found))
            }
            _ => Ok(shown(ctx, body)),
        }
    }

    /// What the other living pods answer to the same question.
    async fn of_others(
        &self,
        ctx: &RequestContext<'_>,
        own: &Arc<Pod>,
        key: &Token,
        record: &mut RequestRecord,
    ) -> Vec<Bytes> {
        let mut caller = Caller::of(ctx);
        // The pods then write their fields in the same case.
        if let Some(accept) = ctx.head.headers.get(header::ACCEPT) {
            caller.headers_mut().insert(header::ACCEPT, accept.clone());
        }
        let pods = ctx.pool.pool.pods();
        let others = pods.iter().filter(|pod| pod.id != own.id && pod.status().is_alive());
        let asked = others.map(async |pod| {
            let call = devices::look(ctx.target_without_tokens(), key.as_str());
            (pod, time::timeout(LONGEST, self.pods.call(pod, &caller, call)).await)
        });
        let mut answers = Vec::new();
        for (pod, answered) in join_all(asked).await {
            let outcome = match &answered {
                Ok(Ok(Ok(_))) => "200",
                Ok(Ok(Err(status))) => metrics::class(status.as_u16()),
                Ok(Err(_)) => "failed",
                Err(_) => "timed_out",
            };
            record.record_fan_out(pod, outcome);
            let outcome = if outcome == "200" { "2xx" } else { outcome };
            let labels =
                metrics::PodCall { pool: pod.pool.clone(), pod: pod.name.clone(), what: "device_list", outcome };
            self.metrics.pod_calls.get_or_create(&labels).inc();
            if let Ok(Ok(Ok(list))) = answered {
                answers.push(ctx.pool.shown_server.whole_to_client(pod, list));
            }
        }
        answers
    }
}
