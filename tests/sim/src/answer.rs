//! What an endpoint answers, and how it becomes a response: Kestrel's headers, JSON as .NET writes it, compression.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use serde_json::Value;

use crate::identifiers::{hex, random_bytes};

/// The body of every response.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// An answer before the server's common headers are put on it.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content,
}

/// How the body is sent.
pub(crate) enum Content {
    /// Nothing, not even a length (204, 304).
    None,
    /// Nothing, with `Content-Length: 0`.
    Empty,
    /// A known text sent chunked, as ASP.NET does with what it serializes.
    Chunked(Bytes),
    /// Bytes with their length.
    Sized(Bytes),
    /// Whatever comes.
    Stream(Body),
}

/// What the exception middleware says of every error.
const ERROR_TEXT: &str = "Error processing request.";

impl Answer {
    fn new(status: StatusCode, content_type: &'static str, content: Content) -> Answer {
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        Answer { status, headers, content }
    }

    /// 200 with JSON.
    pub(crate) fn json(value: &Value) -> Answer {
        Answer::json_with(StatusCode::OK, value)
    }

    pub(crate) fn json_with(status: StatusCode, value: &Value) -> Answer {
        let text = Bytes::from(dotnet_json(value));
        Answer::new(status, "application/json; charset=utf-8", Content::Chunked(text))
    }

    /// 204.
    pub(crate) fn no_content() -> Answer {
        Answer::new(StatusCode::NO_CONTENT, "", Content::None)
    }

    /// A status and nothing else: a challenge (401), a refusal by policy (403), an unknown path (404).
    pub(crate) fn empty(status: StatusCode) -> Answer {
        Answer::new(status, "", Content::Empty)
    }

    /// What the exception middleware makes of an exception; never compressed.
    pub(crate) fn error(status: StatusCode) -> Answer {
        Answer::new(status, "text/plain", Content::Chunked(Bytes::from_static(ERROR_TEXT.as_bytes())))
    }

    /// What MVC makes of a bare `NotFound()` or `BadRequest()`.
    pub(crate) fn problem(status: StatusCode) -> Answer {
        let section = match status {
            StatusCode::BAD_REQUEST => "section-15.5.1",
            StatusCode::UNAUTHORIZED => "section-15.5.2",
            StatusCode::SERVICE_UNAVAILABLE => "section-15.6.4",
            _ => "section-15.5.5",
        };
        let trace = format!("00-{}-{}-00", hex(&random_bytes::<16>()), hex(&random_bytes::<8>()));
        Answer::json_with(
            status,
            &serde_json::json!({
                "type": format!("https://tools.ietf.org/html/rfc9110#{section}"),
                "title": status.canonical_reason(),
                "status": status.as_u16(),
                "traceId": trace,
            }),
        )
    }

    /// 503, as a controller says it.
    pub(crate) fn unavailable() -> Answer {
        Answer::problem(StatusCode::SERVICE_UNAVAILABLE)
    }

    /// What MVC makes of a value that cannot be bound to its parameter.
    pub(crate) fn invalid(name: &str, value: &str) -> Answer {
        let trace = format!("00-{}-{}-00", hex(&random_bytes::<16>()), hex(&random_bytes::<8>()));
        Answer::json_with(
            StatusCode::BAD_REQUEST,
            &serde_json::json!({
                "type": "https://tools.ietf.org/html/rfc9110#section-15.5.1",
                "title": "One or more validation errors occurred.",
                "status": 400,
                "errors": {name: [format!("The value '{value}' is not valid.")]},
                "traceId": trace,
            }),
        )
    }

    /// A text of some type, sent chunked.
    pub(crate) fn text(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Answer {
        Answer::new(status, content_type, Content::Chunked(text.into()))
    }

    /// Bytes of some type with their length.
    pub(crate) fn sized(content_type: &'static str, bytes: impl Into<Bytes>) -> Answer {
        Answer::new(StatusCode::OK, content_type, Content::Sized(bytes.into()))
    }

    /// A body of unknown length.
    pub(crate) fn stream(content_type: &'static str, body: Body) -> Answer {
        Answer::new(StatusCode::OK, content_type, Content::Stream(body))
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Answer {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// Compresses what ASP.NET compresses: text and JSON that it sends chunked, but not the exception middleware's text.
    pub(crate) fn compressed(mut self) -> Answer {
        let Content::Chunked(bytes) = &self.content else {
            return self;
        };
        if bytes.as_ref() == ERROR_TEXT.as_bytes() {
            return self;
        }
        let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::fast());
        // Writing into memory does not fail.
        let packed = encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default();
        self.content = Content::Chunked(Bytes::from(packed));
        self.with("content-encoding", "gzip").with("vary", "Accept-Encoding")
    }

    /// Adds a property to each element of a list within the JSON, in order.
    pub(crate) fn with_property(mut self, list: &str, name: &str, values: impl Iterator<Item = String>) -> Answer {
        if let Content::Chunked(bytes) = &self.content
            && let Ok(mut value) = serde_json::from_slice::<Value>(bytes)
        {
            for (element, property) in value[list].as_array_mut().into_iter().flatten().zip(values) {
                element[name] = property.into();
            }
            self.content = Content::Chunked(Bytes::from(dotnet_json(&value)));
        }
        self
    }

    /// JSON keys in camelCase, for the clients that ask for it.
    pub(crate) fn in_camel_case(mut self) -> Answer {
        let is_json = self
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
        if let (true, Content::Chunked(bytes)) = (is_json, &self.content)
            && let Ok(value) = serde_json::from_slice(bytes)
        {
            self.content = Content::Chunked(Bytes::from(dotnet_json(&camel_case(value))));
            return self.with("content-type", "application/json; profile=\"CamelCase\"; charset=utf-8");
        }
        self
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let body = match self.content {
            Content::None | Content::Empty => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            Content::Sized(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed_unsync(),
            Content::Chunked(bytes) => {
                BodyExt::boxed_unsync(StreamBody::new(stream::iter([Ok::<_, io::Error>(Frame::data(bytes))])))
            }
            Content::Stream(body) => body,
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// JSON as `System.Text.Json` writes it: what HTML could misread, and what is not ASCII, is escaped.
pub(crate) fn dotnet_json(value: &Value) -> String {
    let plain = value.to_string();
    let mut text = String::with_capacity(plain.len() + plain.len() / 16);
    let mut chars = plain.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('"') => text.push_str("\\u0022"),
                Some(escaped) => text.extend(['\\', escaped]),
                None => text.push('\\'),
            },
            '&' | '<' | '>' | '\'' | '+' | '`' | '\u{7f}'.. => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    text.push_str(&format!("\\u{unit:04X}"));
                }
            }
            other => text.push(other),
        }
    }
    text
}

/// Every key with a small first letter.
pub(crate) fn camel_case(value: Value) -> Value {
    match value {
        Value::Object(object) => object
            .into_iter()
            .map(|(key, value)| {
                let mut chars = key.chars();
                let first = chars.next().map(|c| c.to_ascii_lowercase());
                (first.into_iter().chain(chars).collect::<String>(), camel_case(value))
            })
            .collect(),
        Value::Array(values) => values.into_iter().map(camel_case).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_escaped_as_dotnet_does() {
        let text = dotnet_json(&json!({"Url": "/a?b=1&c=2+\"ü\\"}));
        assert_eq!(text, r#"{"Url":"/a?b=1\u0026c=2\u002B\u0022\u00FC\\"}"#);
    }

    #[test]
    fn camel_case_reaches_every_depth() {
        assert_eq!(
            camel_case(json!({"Id": 1, "List": [{"ServerName": 2}]})),
            json!({"id": 1, "list": [{"serverName": 2}]})
        );
    }
}
