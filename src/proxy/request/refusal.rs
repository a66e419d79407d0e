//! The one place where an error becomes a response.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::{
    forward::{Cause, Failure},
    jellyfin::{canonical::Ambiguity, endpoint::Endpoint},
    limits::Scope,
};

/// Why the proxy answers a request itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Refusal {
    Malformed(&'static str),
    /// The same, but the message's end is uncertain: the connection closes after the answer.
    Framing(&'static str),
    /// The request line is longer than pods accept.
    TargetTooLong,
    /// Two parsers could read the request differently, and jellypin acts on the difference.
    Ambiguous(Ambiguity),
    Method,
    /// It was sent by this process: a pod's address leads back here.
    Loop,
    NoRoute,
    /// The operator lets this address not do that.
    NotAllowed,
    /// Where users are one by their names, only an administrator may change a name.
    NotAdministrator,
    /// No pod accepts connections, or the pool is empty.
    NoPod,
    /// The home of the client's user is away, and the other pods, whose users are their own, do not have
    /// the user.
    UserNotThere,
    /// The pod broke off before an answer, and the request cannot be sent again.
    Broken,
    /// The pod gave no answer in time.
    TimedOut,
    /// This machine has no port or file handle left.
    Exhausted,
    /// The pod has too much to do.
    Overloaded,
    /// The client's own body broke off.
    ClientGone,
    /// The client announced a body, but has sent nothing of it for too long.
    ClientSilent,
    /// The client's address, or all clients together, have too much under way.
    Limited(Scope),
    /// Too many log-ins have failed; the next is allowed after this many seconds.
    LogInBraked(u32),
    /// The operator lets users in by their passwords, and the request names none, or a wrong one.
    PasswordWanted,
    /// The server that decides about requests of this route does not answer.
    AuthAway,
    /// Every pod has refused the token; asking again is useless.
    DeadToken,
    /// Nobody knows whether another replica has ended the client's session.
    StoreUnavailable,
    /// Like `DeadToken` for a WebSocket, which Jellyfin refuses with 403.
    DeadSocketToken,
    /// For media, breaks off the connection: a player takes any error for the end of the film, but
    /// asks again after a broken connection.
    Media,
    /// The same if a living pod did not answer in time; jellypin tries no other pod.
    MediaTimedOut,
}

/// When to ask again after a 503, in seconds. Held requests look for pods several times a second.
const RETRY_AFTER: &str = "1";

/// The same while a pod has too much to do.
const RETRY_OVERLOADED: &str = "5";

/// Pods let pages of every origin read their answers (`CorsHosts`), also errors. Without this
/// field, such a page sees a lost connection instead of the session's end, and does nothing.
const ANY_ORIGIN: HeaderValue = HeaderValue::from_static("*");

/// Browsers then ask their user (RFC 7617).
const ASKS_FOR_PASSWORD: HeaderValue = HeaderValue::from_static("Basic realm=\"jellypin\", charset=\"UTF-8\"");

impl Refusal {
    /// The client's body is no HTTP.
    pub(in crate::proxy) const MALFORMED_BODY: Refusal = Refusal::Framing("the chunks of its body are malformed");

    /// While nobody knows whether the token is dead.
    pub(in crate::proxy) fn of_unknown_token(endpoint: Endpoint) -> Refusal {
        if endpoint.is_media() { Refusal::Media } else { Refusal::StoreUnavailable }
    }

    /// The refusal as its client gets it: a player must not get an error while no pod can answer.
    pub(in crate::proxy) fn shown_at(self, endpoint: Endpoint) -> Refusal {
        use Refusal::{Broken, Media, NoPod, Overloaded, StoreUnavailable, TimedOut, UserNotThere};
        match self {
            NoPod | UserNotThere | StoreUnavailable | Broken | TimedOut | Overloaded if endpoint.is_media() => Media,
            refusal => refusal,
        }
    }

    pub(in crate::proxy) fn of(failure: Failure, endpoint: Endpoint) -> Refusal {
        match failure.cause {
            Cause::ClientGone => Refusal::ClientGone,
            Cause::ClientMalformed => Refusal::MALFORMED_BODY,
            Cause::ClientSilent => Refusal::ClientSilent,
            Cause::Exhausted => Refusal::Exhausted,
            Cause::TimedOut if endpoint.is_media() && failure.may_be_received => Refusal::MediaTimedOut,
            _ if endpoint.is_media() => Refusal::Media,
            Cause::Refused | Cause::ConnectTimedOut | Cause::Untrusted => Refusal::NoPod,
            // No pod has any of it, so it can wait for one, whatever it is.
            Cause::Broken | Cause::TimedOut | Cause::Lost if !failure.may_be_received => Refusal::NoPod,
            Cause::Broken | Cause::Malformed | Cause::ServerError | Cause::Lost => Refusal::Broken,
            Cause::TimedOut => Refusal::TimedOut,
            Cause::Overloaded => Refusal::Overloaded,
        }
    }

    /// For a request that has waited for its turn in vain.
    pub(in crate::proxy) fn overloaded(endpoint: Endpoint) -> Refusal {
        if endpoint.is_media() { Refusal::Media } else { Refusal::Overloaded }
    }

    /// The label for metrics and logs, out of a closed set.
    pub(in crate::proxy) fn as_str(self) -> &'static str {
        match self {
            Refusal::Malformed(_) | Refusal::Framing(_) => "malformed",
            Refusal::TargetTooLong => "target_too_long",
            Refusal::Ambiguous(ambiguity) => ambiguity.as_str(),
            Refusal::Method => "method",
            Refusal::Loop => "loop",
            Refusal::NoRoute => "no_route",
            Refusal::NotAllowed | Refusal::NotAdministrator => "not_allowed",
            Refusal::NoPod => "no_pod",
            Refusal::UserNotThere => "user_not_there",
            Refusal::Broken => "pod_broke",
            Refusal::TimedOut => "pod_timed_out",
            Refusal::Exhausted => "exhausted",
            Refusal::Overloaded => "overloaded",
            Refusal::ClientGone => "client_gone",
            Refusal::ClientSilent => "client_silent",
            Refusal::Limited(Scope::All) => "limit_of_all",
            Refusal::Limited(_) => "limit_of_address",
            Refusal::LogInBraked(_) => "log_in_braked",
            Refusal::PasswordWanted => "password_wanted",
            Refusal::AuthAway => "auth_away",
            Refusal::StoreUnavailable => "undecided",
            Refusal::DeadToken | Refusal::DeadSocketToken => "dead_token",
            Refusal::Media | Refusal::MediaTimedOut => "aborted",
        }
    }

    /// Whether the cause may be gone in a moment.
    pub(in crate::proxy) fn is_transient(self) -> bool {
        matches!(
            self,
            Refusal::NoPod
                | Refusal::UserNotThere
                | Refusal::StoreUnavailable
                | Refusal::Broken
                | Refusal::TimedOut
                | Refusal::Overloaded
                | Refusal::Media
        )
    }

    /// The answer, or `None` to break off the connection.
    pub(in crate::proxy) fn response(self) -> Option<Response<Bytes>> {
        let (status, text) = match self {
            Refusal::Malformed(why) | Refusal::Framing(why) => {
                (StatusCode::BAD_REQUEST, format!("Bad request: {why}.\n"))
            }
            Refusal::TargetTooLong => (StatusCode::URI_TOO_LONG, "The address of this request is too long.\n".into()),
            Refusal::Ambiguous(ambiguity) => {
                (StatusCode::BAD_REQUEST, format!("Bad request: {}.\n", ambiguity.describe()))
            }
            Refusal::Method => (StatusCode::METHOD_NOT_ALLOWED, "This method is not served here.\n".into()),
            Refusal::Loop => (StatusCode::LOOP_DETECTED, "This address leads back to the proxy that asks.\n".into()),
            Refusal::NoRoute => (StatusCode::NOT_FOUND, "No route leads from this host and path to a server.\n".into()),
            Refusal::NotAllowed => (StatusCode::FORBIDDEN, "This is not allowed from your address.\n".into()),
            Refusal::NotAdministrator => {
                (StatusCode::FORBIDDEN, "Only an administrator may change a user here.\n".into())
            }
            Refusal::NoPod => (StatusCode::SERVICE_UNAVAILABLE, "No server can be reached at the moment.\n".into()),
            Refusal::UserNotThere => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Your Jellyfin server cannot be reached at the moment, and your account is not on the other one.\n"
                    .into(),
            ),
            Refusal::StoreUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "It cannot be told at the moment whether this session was ended.\n".into(),
            ),
            Refusal::Exhausted => (StatusCode::SERVICE_UNAVAILABLE, "Too many connections at the moment.\n".into()),
            Refusal::Overloaded => {
                (StatusCode::SERVICE_UNAVAILABLE, "The server has too much to do at the moment.\n".into())
            }
            Refusal::Broken => (StatusCode::BAD_GATEWAY, "The server broke off before it answered.\n".into()),
            Refusal::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "The server did not answer in time.\n".into()),
            Refusal::ClientSilent => (StatusCode::REQUEST_TIMEOUT, "The body of the request did not come.\n".into()),
            Refusal::Limited(Scope::All) => {
                (StatusCode::SERVICE_UNAVAILABLE, "Too many requests are under way at the moment.\n".into())
            }
            Refusal::Limited(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "Too many requests of this address are under way.\n".into())
            }
            Refusal::LogInBraked(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "Too many log-ins have failed. Try again later.\n".into())
            }
            Refusal::PasswordWanted => {
                (StatusCode::UNAUTHORIZED, "A user name and a password are needed here.\n".into())
            }
            Refusal::AuthAway => {
                (StatusCode::SERVICE_UNAVAILABLE, "The server that says who may come in does not answer.\n".into())
            }
            Refusal::DeadSocketToken => (StatusCode::FORBIDDEN, "Error processing request.".into()),
            Refusal::DeadToken => return Some(challenge()),
            Refusal::ClientGone | Refusal::Media | Refusal::MediaTimedOut => return None,
        };
        let mut response = Response::new(Bytes::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match status {
            StatusCode::TOO_MANY_REQUESTS => {
                let seconds = if let Refusal::LogInBraked(seconds) = self { seconds } else { 1 };
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds))
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                let seconds = if self == Refusal::Overloaded { RETRY_OVERLOADED } else { RETRY_AFTER };
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds))
            }
            // After a message with an unknown end, nothing on the connection can be parsed.
            StatusCode::BAD_REQUEST | StatusCode::REQUEST_TIMEOUT
                if matches!(self, Refusal::Framing(_) | Refusal::ClientSilent) =>
            {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"))
            }
            StatusCode::UNAUTHORIZED => headers.insert(header::WWW_AUTHENTICATE, ASKS_FOR_PASSWORD),
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"))
            }
            _ => None,
        };
        Some(response)
    }
}

/// What a pod answers to an unknown token: 401 and nothing else.
fn challenge() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_player_gets_no_error_while_no_pod_can_answer() {
        let unanswered = [
            Refusal::NoPod,
            Refusal::UserNotThere,
            Refusal::StoreUnavailable,
            Refusal::Broken,
            Refusal::TimedOut,
            Refusal::Overloaded,
        ];
        for refusal in unanswered {
            for media in [Endpoint::AnonymousMedia, Endpoint::AuthenticatedMedia] {
                assert!(refusal.shown_at(media).response().is_none(), "{refusal:?}");
            }
            let page = refusal.shown_at(Endpoint::Authenticated);
            assert!(page == refusal && page.response().is_some(), "{refusal:?}");
        }
        let dead = Refusal::DeadToken.shown_at(Endpoint::AuthenticatedMedia);
        assert_eq!(dead, Refusal::DeadToken, "an ended session is told");
    }

    #[test]
    fn what_no_pod_has_received_waits_for_one_and_what_one_may_have_does_not() {
        let of = |cause, may_be_received, endpoint| {
            Refusal::of(Failure { cause, may_be_received, on_reused_connection: false }, endpoint)
        };
        let media = Endpoint::AnonymousMedia;
        for (cause, received) in
            [(Cause::Broken, Refusal::Broken), (Cause::Lost, Refusal::Broken), (Cause::TimedOut, Refusal::TimedOut)]
        {
            assert_eq!(of(cause, false, Endpoint::Authenticated), Refusal::NoPod, "{cause:?}");
            assert_eq!(of(cause, true, Endpoint::Authenticated), received, "{cause:?}");
            assert_eq!(of(cause, false, media), Refusal::Media, "{cause:?}");
        }
        assert_eq!(of(Cause::TimedOut, true, media), Refusal::MediaTimedOut);
        assert_eq!(of(Cause::Overloaded, false, Endpoint::Authenticated), Refusal::Overloaded);
    }
}
