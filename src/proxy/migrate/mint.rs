//! The mint: three calls by which a pod creates a session for a user and device. One of them needs
//! an API key.

use std::sync::Arc;

use http::StatusCode;

use super::{Migrator, ending::MintRefusal};
use crate::{
    affinity::pins::Kind,
    forward::{Cause, Failure},
    jellyfin::client::{
        self, ApiCall,
        quick_connect::{self, Initiated},
    },
    pod::Pod,
    proxy::pod_client::Caller,
    sessions::{Session, Token, plain_id},
};

/// Further codes that a mint tries if another request holds the first.
const MORE_CODES: usize = 2;

/// Creates a session on a pod.
pub(super) struct Mint<'a> {
    pub(super) migrator: &'a Migrator,
    pub(super) session: &'a Session,
    pub(super) pod: &'a Arc<Pod>,
    pub(super) caller: &'a Caller,
}

impl Mint<'_> {
    /// Gives the new session's token. Tries a new code if another request got the same one.
    pub(super) async fn run(&self, api_key: &Token) -> Result<Token, MintError> {
        let mut last = self.try_to_mint(api_key).await;
        for _ in 0..MORE_CODES {
            if !matches!(last, Err(MintError::CodeCollision(_))) {
                break;
            }
            last = self.try_to_mint(api_key).await;
        }
        match last {
            // No code is taken so often: the pod cannot say who has which right, for want of its database.
            Err(MintError::CodeCollision(MintRefusal::Authorize)) => {
                let cause = Cause::ServerError;
                Err(MintError::Failed(Failure { cause, may_be_received: true, on_reused_connection: false }))
            }
            last => last,
        }
    }

    /// Makes the three calls. The first must not carry the API key, or the session would get the
    /// key's name.
    async fn try_to_mint(&self, api_key: &Token) -> Result<Token, MintError> {
        let begun = self.call(quick_connect::initiate(&self.session.device)).await?;
        let begun = begun.map_err(|status| MintError::Refused(initiate_refused(status)))?;
        let Some(Initiated { code, secret }) = begun else {
            return Err(MintError::Refused(MintRefusal::NoCode));
        };
        let shared = &self.migrator.shared;
        shared.mint_codes.take(self.pod.id, &code);
        if shared.pins.home(Kind::QuickConnect, &code, |home, _| home.pod == self.pod.id).is_some() {
            // The pod gave this code to a client too, which shows it to its user.
            return Err(MintError::CodeCollision(MintRefusal::CodeOfClient));
        }
        let user = &*self.session.user;
        let authorized = self.call(quick_connect::authorize(&code, user, api_key.as_str())).await?;
        if !authorized.is_success() {
            return Err(authorize_refused(authorized));
        }
        let log_in = self.call(quick_connect::authenticate(&secret)).await?;
        let log_in = log_in.map_err(|_| MintError::CodeCollision(MintRefusal::LogIn))?;
        let token = Token::new(log_in.token.ok_or(MintError::Refused(MintRefusal::NoToken))?);
        if log_in.user.is_some_and(|id| plain_id(&id) != user) {
            self.discard(&token).await;
            return Err(MintError::CodeCollision(MintRefusal::OtherUser));
        }
        Ok(token)
    }

    /// Logs out a token that no client has. If the pod misses the call, it only keeps a stale row.
    pub(super) async fn discard(&self, token: &Token) {
        let _ = self.call(client::sessions::log_out(token.as_str())).await;
    }

    async fn call<T>(&self, call: ApiCall<T>) -> Result<T, MintError> {
        self.migrator.pods.call(self.pod, self.caller, call).await.map_err(MintError::Failed)
    }
}

/// Why there is no token.
pub(super) enum MintError {
    Failed(Failure),
    Refused(MintRefusal),
    /// The pod no longer honours the code that it just gave. A code has six digits, and Jellyfin
    /// does not compare it with the others, so two requests may get the same. The newer request
    /// takes it over, and is authorized in place of the older.
    CodeCollision(MintRefusal),
}

fn initiate_refused(status: StatusCode) -> MintRefusal {
    match status {
        StatusCode::UNAUTHORIZED => MintRefusal::QuickConnectDisabled,
        _ => MintRefusal::Initiate,
    }
}

fn authorize_refused(status: StatusCode) -> MintError {
    match status {
        StatusCode::UNAUTHORIZED => MintError::Refused(MintRefusal::ApiKey),
        StatusCode::FORBIDDEN => MintError::Refused(MintRefusal::UserMayNotSignIn),
        // The code belongs to no request any more, or the user is gone.
        StatusCode::NOT_FOUND => MintError::CodeCollision(MintRefusal::UserIsGone),
        // Another request has authorized the code already.
        StatusCode::INTERNAL_SERVER_ERROR => MintError::CodeCollision(MintRefusal::Authorize),
        _ => MintError::Refused(MintRefusal::Authorize),
    }
}
