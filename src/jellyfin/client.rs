//! Jellyfin's API as jellypin itself calls it: typed calls, and what their answers mean. Pure.
//!
//! `proxy/pod_client` sends the calls. A new call is one function in the file of its subject: it
//! names method, path, credentials and body, and the function that reads the answer.

pub mod devices;
pub mod images;
pub mod items;
pub mod libraries;
pub mod media;
pub mod quick_connect;
pub mod sessions;
pub mod settings;
pub mod sync_play;
pub mod system;
pub mod tasks;
pub mod user_data;
pub mod users;

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::jellyfin::{
    authorization::{self, Device},
    syntax::field,
};

/// One call, whose answer is read as a `T`.
#[derive(Clone, Debug)]
pub struct ApiCall<T> {
    pub method: Method,
    /// Path and query below the BaseUrl.
    pub target: Cow<'static, str>,
    pub authorization: Option<HeaderValue>,
    pub body: Bytes,
    /// The kind of the body; JSON where nothing else is said.
    pub content_type: Option<HeaderValue>,
    /// The kinds of answer that the call takes; all where nothing is said.
    pub accept: Option<HeaderValue>,
    /// Longest answer that is read, in bytes.
    pub longest_answer: usize,
    /// Longest time for the whole call.
    pub longest_time: Duration,
    /// How often the call is sent again after a 500.
    pub repeats: usize,
    read: fn(ApiResponse) -> Option<T>,
}

/// Longest answer that is read, in bytes, and longest time for a call, unless the call says more. A
/// pod's first mint takes a second, and many at once take two.
const LONGEST_ANSWER: usize = 1 << 20;
const LONGEST_TIME: Duration = Duration::from_secs(10);

/// A pod's answer, read in full.
#[derive(Clone, Debug)]
pub struct ApiResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl<T> ApiCall<T> {
    pub(in crate::jellyfin) fn get(
        target: impl Into<Cow<'static, str>>,
        read: fn(ApiResponse) -> Option<T>,
    ) -> ApiCall<T> {
        ApiCall::new(Method::GET, target.into(), read)
    }

    pub(in crate::jellyfin) fn post(
        target: impl Into<Cow<'static, str>>,
        read: fn(ApiResponse) -> Option<T>,
    ) -> ApiCall<T> {
        ApiCall::new(Method::POST, target.into(), read)
    }

    pub(in crate::jellyfin) fn delete(
        target: impl Into<Cow<'static, str>>,
        read: fn(ApiResponse) -> Option<T>,
    ) -> ApiCall<T> {
        ApiCall::new(Method::DELETE, target.into(), read)
    }

    fn new(method: Method, target: Cow<'static, str>, read: fn(ApiResponse) -> Option<T>) -> ApiCall<T> {
        ApiCall {
            method,
            target,
            authorization: None,
            body: Bytes::new(),
            content_type: None,
            accept: None,
            longest_answer: LONGEST_ANSWER,
            longest_time: LONGEST_TIME,
            repeats: 0,
            read,
        }
    }

    /// Calls with a token or an API key.
    #[must_use]
    pub fn with_token(self, token: &str) -> ApiCall<T> {
        self.with_authorization(authorization::token_only(token))
    }

    /// Calls as a client's program on its device.
    #[must_use]
    pub fn as_device(self, device: &Device, token: Option<&str>) -> ApiCall<T> {
        self.with_authorization(device.header(token))
    }

    #[must_use]
    pub fn with_authorization(self, authorization: HeaderValue) -> ApiCall<T> {
        ApiCall { authorization: Some(authorization), ..self }
    }

    /// `body` is JSON.
    #[must_use]
    pub fn with_body(self, body: Bytes) -> ApiCall<T> {
        ApiCall { body, ..self }
    }

    /// `body` is of this kind.
    #[must_use]
    pub fn with_content(self, body: Bytes, content_type: Option<HeaderValue>) -> ApiCall<T> {
        ApiCall { body, content_type, ..self }
    }

    /// Lets the pod answer late.
    #[must_use]
    pub fn within(self, longest_time: Duration) -> ApiCall<T> {
        ApiCall { longest_time, ..self }
    }

    /// Sends the call once more if the pod fails at it.
    #[must_use]
    pub fn repeated_once(self) -> ApiCall<T> {
        ApiCall { repeats: 1, ..self }
    }

    /// Reads an answer of up to so many bytes.
    #[must_use]
    pub fn up_to(self, longest_answer: usize) -> ApiCall<T> {
        ApiCall { longest_answer, ..self }
    }

    /// What the answer means; `None` if it is no answer to this call.
    pub fn read(&self, response: ApiResponse) -> Option<T> {
        (self.read)(response)
    }
}

impl ApiCall<StatusCode> {
    /// A client's own request for another pod.
    pub fn repeated(method: Method, target: String) -> ApiCall<StatusCode> {
        ApiCall::new(method, target.into(), status)
    }
}

impl ApiCall<ApiResponse> {
    /// A client's own request once more, for the answer as it is.
    pub fn again(method: Method, target: String, body: Bytes) -> ApiCall<ApiResponse> {
        ApiCall::new(method, target.into(), Some).with_body(body)
    }
}

impl ApiResponse {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as JSON if the call succeeded, else the status.
    fn success(&self) -> Result<Value, StatusCode> {
        if self.status.is_success() { Ok(self.json()) } else { Err(self.status) }
    }
}

/// The answer does not matter.
fn ignored(_: ApiResponse) -> Option<()> {
    Some(())
}

fn status(response: ApiResponse) -> Option<StatusCode> {
    Some(response.status)
}

fn text(json: &Value, name: &str) -> Option<String> {
    field(json, name)?.as_str().map(str::to_owned)
}

/// Text for a query's value.
fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests;
