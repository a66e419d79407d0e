//! A log-out ends a token on every pod, not only on its home.
//!
//! A pod that was restarted since the log-in has read the token's row and would take it for ever. So each living pod hears the
//! same request before the client hears that it is logged out, and no pod is asked for this token again.

use std::{fmt::Write, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time;

use super::{
    Asking, Proxy,
    decide::{Decision, Reason},
    exchange::Exchange,
};
use crate::{affinity::pins::Kind, forward::outbound::Source, pod::Pod};

/// Longest time that a log-out waits for the other pods.
const LONGEST: Duration = Duration::from_secs(2);

impl Proxy {
    /// Tells every other living pod. What each answered goes to the access line: 401 means that it did not know the token.
    pub(super) async fn log_out_everywhere(
        &self,
        asking: &Asking<'_>,
        source: &Source,
        done: &Decision,
        exchange: &mut Exchange,
    ) {
        let Some(token) = asking.keys.identity.token.as_deref() else { return };
        let pods = asking.pool.pool.pods().to_vec();
        self.site.pins.forget(Kind::Token, token);
        pods.iter().for_each(|pod| self.site.refusals.remember(token, pod));
        // Nobody sends a body along; one that is gone cannot be sent again.
        let is_told = |pod: &Arc<Pod>| pod.id != done.pod.id && pod.status().is_alive() && source.can_replay();
        let others = pods.into_iter().filter(is_told);
        let told = others.map(|pod| async move {
            let decision = Decision { pod, reason: Reason::Token };
            let answer = time::timeout(LONGEST, self.send(asking, source, &decision)).await;
            let outcome = match answer {
                Ok(Ok(answer)) => answer.status().as_u16().to_string(),
                Ok(Err(failure)) => failure.cause.name().to_owned(),
                Err(_) => "timed_out".to_owned(),
            };
            (decision.pod, outcome)
        });
        let mut fan_out = String::new();
        for (pod, outcome) in join_all(told).await {
            // Writing into memory cannot fail.
            let _ = write!(fan_out, "{}{}={outcome}", if fan_out.is_empty() { "" } else { " " }, pod.name);
        }
        exchange.fan_out = fan_out;
    }
}
