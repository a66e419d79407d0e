//! `basic_auth`: jellypin asks for a user's password before a service is reached.
//!
//! Failures count for the log-in brake like those of Jellyfin's users, under names of their own.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use http::{HeaderMap, StatusCode, header};

use crate::{
    passwords::PasswordHash,
    proxy::{log_in::LogInBrake, request::refusal::Refusal, shared_state::SharedState},
    route::auth,
};

pub(super) struct BasicAuth {
    shared: Arc<SharedState>,
    brake: Arc<LogInBrake>,
}

impl BasicAuth {
    pub(super) fn new(shared: Arc<SharedState>, brake: Arc<LogInBrake>) -> BasicAuth {
        BasicAuth { shared, brake }
    }

    /// Lets a request pass that names one of these users and the user's password. The service does not
    /// get them.
    pub(super) async fn admit(
        &self,
        users: &BTreeMap<String, PasswordHash>,
        pool: &str,
        headers: &mut HeaderMap,
        origin: IpAddr,
    ) -> Result<(), Refusal> {
        let Some((user, password)) = auth::credentials(headers) else { return Err(Refusal::PasswordWanted) };
        headers.remove(header::AUTHORIZATION);
        let passwords = &self.shared.passwords;
        let hash = users.get(&user);
        if hash.is_some_and(|hash| passwords.is_known(hash, &password)) {
            return Ok(());
        }
        let log_in = match self.shared.limits.log_in.holds_for(origin) {
            true => Some(self.brake.start(origin, &format!("{pool}\n{user}"), &user)?),
            false => None,
        };
        // A name that nobody has takes as long as one that somebody has.
        let Some(any) = hash.or_else(|| users.values().next()) else { return Err(Refusal::PasswordWanted) };
        let checked = passwords.check(any, &password).await;
        let (status, admitted) = match checked {
            Some(true) if hash.is_some() => (Some(StatusCode::OK), Ok(())),
            Some(_) => (Some(StatusCode::UNAUTHORIZED), Err(Refusal::PasswordWanted)),
            None => (None, Err(Refusal::Overloaded)),
        };
        if let Some(log_in) = log_in {
            self.brake.record_end(log_in, origin, status);
        }
        admitted
    }
}
