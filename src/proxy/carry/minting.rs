//! The mint: three calls by which a pod makes a session for a user and a device, of which one needs an API key.

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;

use super::Carrying;
use crate::{carryover::Token, forward::Failure, identity::authorization, proxy::call::Call};

impl Carrying {
    /// The three calls. The first must not bear the API key, or the session would bear the key's name.
    pub(super) async fn mint(&self, api_key: &Token) -> Result<Token, Unminted> {
        let device = self.device();
        let begun = self.post("/QuickConnect/Initiate", Some(device.header(None)), Bytes::new()).await?;
        let begun = begun.map_err(|status| Unminted::Refused(initiate_refused(status)))?;
        let (Some(code), Some(secret)) = (text(&begun, "Code"), text(&begun, "Secret")) else {
            return Err(Unminted::Refused("Initiate gave no code"));
        };
        let target = format!("/QuickConnect/Authorize?code={code}&userId={}", self.session.user);
        let authorized = self.post(&target, Some(authorization::token_only(api_key.as_str())), Bytes::new()).await?;
        authorized.map_err(|status| Unminted::Refused(authorize_refused(status)))?;
        let body = Bytes::from(json!({"Secret": secret}).to_string());
        let minted = self.post("/Users/AuthenticateWithQuickConnect", None, body).await?;
        let minted = minted.map_err(|_| Unminted::Refused("the log-in was refused"))?;
        text(&minted, "AccessToken").map(Token::new).ok_or(Unminted::Refused("the log-in gave no token"))
    }

    pub(super) async fn post(
        &self,
        target: &str,
        authorization: Option<HeaderValue>,
        body: Bytes,
    ) -> Result<Result<serde_json::Value, StatusCode>, Unminted> {
        let call = Call { method: Method::POST, target, client: &self.errand.client, authorization, body };
        let reply = self.proxy.call(&self.pod, &self.errand.base_path, call).await.map_err(Unminted::Failed)?;
        Ok(if reply.status.is_success() { Ok(reply.json().unwrap_or_default()) } else { Err(reply.status) })
    }
}

/// Why there is no token.
pub(super) enum Unminted {
    Failed(Failure),
    Refused(&'static str),
}

fn initiate_refused(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "Quick Connect is disabled in Jellyfin",
        _ => "Initiate was refused",
    }
}

fn authorize_refused(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "the API key is not valid",
        StatusCode::FORBIDDEN => "the user may not sign in there",
        StatusCode::NOT_FOUND => "the user is gone",
        _ => "Authorize was refused",
    }
}

/// A field's text, in PascalCase or camelCase.
fn text(json: &serde_json::Value, name: &str) -> Option<String> {
    let camel = name[..1].to_ascii_lowercase() + &name[1..];
    json.get(name).or_else(|| json.get(&camel))?.as_str().map(str::to_owned)
}
