//! The headers that Kestrel and the outer middleware put on every answer.

use std::time::Instant;

use http::{HeaderMap, Method, Request, Response, StatusCode};

use crate::answer::{Answer, Body};
use crate::generation::Generation;
use crate::pod::Connection;

/// What the outer middleware needs of a request.
pub(super) struct Head {
    camel_case: bool,
    compress: bool,
    origin: bool,
    preflight: Option<(String, String)>,
    generation: Generation,
}

impl Head {
    pub(super) fn of<B>(request: &Request<B>, connection: &Connection) -> Head {
        let headers = request.headers();
        let settings = &connection.life.shared.settings;
        let over_tls = settings.known_proxies && text(headers, "x-forwarded-proto").eq_ignore_ascii_case("https");
        let preflight = is_preflight(headers, request.method())
            .then(|| (text(headers, "access-control-request-method"), text(headers, "access-control-request-headers")));
        Head {
            camel_case: text(headers, "accept").to_ascii_lowercase().contains("profile=\"camelcase\""),
            compress: !over_tls && accepts_gzip(&text(headers, "accept-encoding")),
            origin: headers.contains_key("origin"),
            preflight,
            generation: settings.generation,
        }
    }

    pub(super) fn finish(&self, mut answer: Answer, began: Instant) -> Response<Body> {
        if self.camel_case {
            answer = answer.in_camel_case();
        }
        if self.compress {
            answer = answer.compressed();
        }
        if self.origin {
            answer = answer.with("access-control-allow-origin", "*");
        }
        if let Some((method, headers)) = &self.preflight {
            answer = answer.with("access-control-allow-methods", method);
            if !headers.is_empty() {
                answer = answer.with("access-control-allow-headers", headers);
            }
        } else if self.generation == Generation::V12 && answer.status != StatusCode::FOUND {
            answer = answer.with("content-language", "en-US");
        }
        let spent = format!("{:.4}", began.elapsed().as_secs_f64() * 1000.0);
        bare(answer.with("x-response-time-ms", &spent))
    }
}

/// Only what Kestrel itself adds.
pub(super) fn bare(answer: Answer) -> Response<Body> {
    answer.with("server", "Kestrel").into_response()
}

/// Whether the CORS middleware answers the request itself.
pub(super) fn is_preflight(headers: &HeaderMap, method: &Method) -> bool {
    method == Method::OPTIONS && headers.contains_key("origin") && headers.contains_key("access-control-request-method")
}

fn accepts_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused = parts
            .any(|parameter| matches!(parameter.replace(' ', "").as_str(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        (name.eq_ignore_ascii_case("gzip") || name == "*") && !refused
    })
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
