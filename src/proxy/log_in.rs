//! Log-ins by password. Each takes a place of the brake before its dispatch; a failure keeps it.
//!
//! This module logs the events `log_in_failed` and `log_in_braked`.
//! fail2ban and CrowdSec read them (`deploy/fail2ban`, `deploy/crowdsec`).

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{Method, StatusCode};
use prometheus_client::metrics::counter::Counter;
use tokio::time::{self, Instant};

use super::{
    request::{context::RequestContext, refusal::Refusal},
    shared_state::SharedState,
};
use crate::{
    forward::outbound::ReplayBody,
    jellyfin::{
        endpoint::{self, LogInBy},
        log_in_name::{self, TwoNames},
    },
    limits::{
        Kind,
        log_in::{Attempt, Braked},
    },
};

/// A log-in whose outcome is not known yet.
pub(super) struct LogIn {
    attempt: Attempt,
    /// The name in the form that the log may show.
    user: String,
}

/// Most characters of a user name that the log shows.
const SHOWN: usize = 64;

/// With a smaller replay buffer in bytes the name may be unreadable, so the address replaces it.
const SHORTEST_KEPT: usize = 4096;

/// Limits failed log-ins by password.
pub(super) struct LogInBrake {
    shared: Arc<SharedState>,
    failures: Counter,
}

impl LogInBrake {
    /// `failures` counts the log-ins that failed.
    pub(super) fn new(shared: Arc<SharedState>, failures: Counter) -> LogInBrake {
        LogInBrake { shared, failures }
    }

    /// How a log-in request names its user, if the brake applies to it.
    pub(super) fn applies_to<'a>(&self, ctx: &RequestContext<'a>) -> Option<LogInBy<'a>> {
        if ctx.head.method != Method::POST {
            return None;
        }
        let by = endpoint::log_in_by_password(ctx.path)?;
        self.shared.limits.log_in.holds_for(ctx.origin).then_some(by)
    }

    /// Takes a place for a log-in.
    pub(super) async fn admit(
        &self,
        by: LogInBy<'_>,
        ctx: &RequestContext<'_>,
        replay_body: &ReplayBody,
    ) -> Result<LogIn, Refusal> {
        let user = match by {
            LogInBy::Id(id) => id.replace('-', "").to_lowercase(),
            LogInBy::Name => match self.body_of_log_in(replay_body).await? {
                Some(body) => log_in_name::user_name(&body).map_err(|TwoNames| Refusal::Malformed("two user names"))?,
                // Clients that hide the name in an oversized body share one limit.
                None if self.shared.forward.replay_bytes >= SHORTEST_KEPT => String::new(),
                None => ctx.origin.to_string(),
            },
        };
        self.start(ctx.origin, &user, &user)
    }

    /// Takes a place for a log-in from this address. `key` is whom failures count for, and `user` whom
    /// the log names.
    pub(super) fn start(&self, origin: IpAddr, key: &str, user: &str) -> Result<LogIn, Refusal> {
        let shown = shown(user);
        match self.shared.limits.log_in.start_attempt(origin, key, Instant::now()) {
            Ok(attempt) => Ok(LogIn { attempt, user: shown }),
            Err(braked) => Err(self.braked(braked, origin, &shown)),
        }
    }

    async fn body_of_log_in(&self, replay_body: &ReplayBody) -> Result<Option<Bytes>, Refusal> {
        let body = time::timeout(self.shared.forward.client_body, replay_body.read_ahead()).await;
        body.map_err(|_| Refusal::ClientSilent)
    }

    fn braked(&self, braked: Braked, origin: IpAddr, user: &str) -> Refusal {
        let Braked { scope, retry_after_s, is_to_be_logged } = braked;
        if is_to_be_logged {
            tracing::warn!(
                event = "log_in_braked",
                client.address = %origin,
                user.name = user,
                scope = scope.name(),
                retry_after_s,
                "too many log-ins have failed"
            );
        }
        self.shared.limits.count(Kind::LogIns, scope);
        Refusal::LogInBraked(retry_after_s)
    }

    /// Records how a log-in ended. `status` is `None` if nobody answered it.
    pub(super) fn record_end(&self, log_in: LogIn, origin: IpAddr, status: Option<StatusCode>) {
        if status != Some(StatusCode::UNAUTHORIZED) {
            let has_signed_in = status.is_some_and(|status| status.is_success());
            return self.shared.limits.log_in.did_not_fail(&log_in.attempt, has_signed_in, Instant::now());
        }
        self.failures.inc();
        tracing::warn!(
            event = "log_in_failed",
            client.address = %origin,
            user.name = log_in.user,
            "a log-in failed"
        );
    }
}

/// A user name for the log, with only letters, digits and harmless signs.
/// So no client can forge a log line.
fn shown(user: &str) -> String {
    let is_plain = |char: char| char.is_alphanumeric() || " ._-@+".contains(char);
    user.chars().take(SHOWN).map(|char| if is_plain(char) { char } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_name_can_forge_a_line() {
        assert_eq!(shown("alice@example.org"), "alice@example.org");
        assert_eq!(shown("a\n\"event\":\u{1b}[31m"), "a??event????31m");
        assert_eq!(shown(&"x".repeat(1000)).len(), SHOWN);
        assert_eq!(shown("zoë"), "zoë");
    }
}
