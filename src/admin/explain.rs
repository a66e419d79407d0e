//! `GET` and `POST /explain`: why a client is where it is, as JSON or as text.
//!
//! A token stands in a URL only if the operator puts it there; a form or the header
//! `X-Explain-Token` is better. No answer and no log line has it.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::time;

use super::{
    AdminState,
    answer::{Answer, json, text},
};
use crate::{
    proxy::{self, Choice, Explained, Question},
    sessions::UnixMillis,
};

/// The longest form in bytes, and the longest time that it may take.
const LONGEST: usize = 4096;
const SLOWEST: Duration = Duration::from_secs(5);

/// A token's place that is in no list of addresses.
const TOKEN: &str = "x-explain-token";

const USAGE: &str = "Ask by one of token, device, user and session.\n";

#[derive(Serialize)]
struct Page {
    /// The kind of key; the key itself is not repeated.
    asked: &'static str,
    pools: Vec<PoolRow>,
}

#[derive(Serialize)]
struct PoolRow {
    pool: String,
    facts: Vec<FactRow>,
    #[serde(skip)]
    is_decided: bool,
    goes_to: Option<ChoiceRow>,
    if_it_died: Option<ChoiceRow>,
}

#[derive(Serialize)]
struct FactRow {
    source: &'static str,
    says: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

#[derive(Serialize)]
struct ChoiceRow {
    pod: String,
    reason: &'static str,
    means: &'static str,
}

/// Answers by the query, or by the header.
pub(super) async fn explain(state: &AdminState, headers: &HeaderMap, query: &str) -> Answer {
    let by_header = headers.get(TOKEN).and_then(|token| token.to_str().ok());
    let asked = by_header.map(|token| ("token", token.to_owned())).or_else(|| key(query));
    let Some((name, value)) = asked else { return text(StatusCode::BAD_REQUEST, USAGE) };
    let (asked, question) = match name {
        "token" => ("token", Question::Token(&value)),
        "device" => ("device", Question::Device(&value)),
        "user" => ("user", Question::User(&value)),
        _ => ("session", Question::Session(&value)),
    };
    let shared = state.shared();
    let explained = proxy::explain(&shared, question).await;
    let now = shared.sessions.backend.clock.now();
    let pools = explained.into_iter().map(|of_pool| PoolRow::of(of_pool, now)).collect();
    let page = Page { asked, pools };
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("text/plain") { text(StatusCode::OK, page.in_words()) } else { json(&page) }
}

/// The same by a form.
pub(super) async fn explain_form(state: &AdminState, headers: &HeaderMap, body: Incoming) -> Answer {
    let read = time::timeout(SLOWEST, Limited::new(body, LONGEST).collect()).await;
    let Ok(Ok(body)) = read else { return text(StatusCode::BAD_REQUEST, USAGE) };
    explain(state, headers, &String::from_utf8_lossy(&body.to_bytes())).await
}

/// The one key of a query or form.
fn key(query: &str) -> Option<(&'static str, String)> {
    let mut found = query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let name = ["token", "device", "user", "session"].into_iter().find(|known| *known == name)?;
        let value = percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned();
        (!value.is_empty()).then_some((name, value))
    });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

impl PoolRow {
    fn of(explained: Explained, now: UnixMillis) -> PoolRow {
        // Another replica's clock may be ahead.
        let moment = |at: UnixMillis| UNIX_EPOCH + Duration::from_millis(at.min(now));
        let fact = |fact: proxy::Fact| FactRow {
            source: fact.source,
            says: fact.says,
            since: fact.since.map(|at| humantime::format_rfc3339_seconds(moment(at)).to_string()),
        };
        PoolRow {
            pool: explained.pool.to_string(),
            facts: explained.facts.into_iter().map(fact).collect(),
            is_decided: explained.is_decided,
            goes_to: explained.goes_to.map(ChoiceRow::of),
            if_it_died: explained.then.map(ChoiceRow::of),
        }
    }
}

impl ChoiceRow {
    fn of(choice: Choice) -> ChoiceRow {
        let means = match choice.reason {
            "token" => "the token's session or pin is there",
            "cookie" => "the cookie names it",
            "device" => "the device is pinned there",
            "user" => "the user lives there",
            "migrated" => "the session moves there, since its home is gone",
            "hashed" => "it is placed there by its key",
            "least_loaded" => "it has the least to do",
            _ => "what it needs runs there",
        };
        ChoiceRow { pod: choice.pod.to_string(), reason: choice.reason, means }
    }
}

impl Page {
    fn in_words(&self) -> String {
        let mut words = String::new();
        for pool in &self.pools {
            words.push_str(&format!("pool {}\n", pool.pool));
            for fact in &pool.facts {
                let since = fact.since.as_ref().map(|at| format!(" (since {at})")).unwrap_or_default();
                words.push_str(&format!("  {:<7} {}{since}\n", fact.source, fact.says));
            }
            let choice = |choice: &Option<ChoiceRow>, or: &str| match choice {
                Some(ChoiceRow { pod, reason, means }) => format!("{pod}: {means} ({reason})"),
                None => or.to_owned(),
            };
            if !pool.is_decided {
                words.push_str("  no session is known; a log-in decides where the client goes\n");
                continue;
            }
            words.push_str(&format!("  goes to {}\n", choice(&pool.goes_to, "no pod")));
            words.push_str(&format!("  if that pod died: {}\n", choice(&pool.if_it_died, "no other pod")));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_exactly_one_key() {
        assert_eq!(key("token=a%2Fb"), Some(("token", "a/b".into())));
        assert_eq!(key("x=1&user=zo%C3%AB+k"), Some(("user", "zoë k".into())));
        for wrong in ["", "token=", "tokens=a", "token=a&device=b"] {
            assert_eq!(key(wrong), None, "{wrong}");
        }
    }
}
