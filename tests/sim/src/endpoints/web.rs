//! A few files where jellyfin-web would be, served by the static-file middleware.

use http::{HeaderMap, Method, StatusCode};

use crate::answer::Answer;
use crate::library::LOGO;

const INDEX: &str = "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>Jellyfin</title><script defer \
                     src=\"main.jellyfin.bundle.js\"></script></head><body><div id=\"reactRoot\"></div></body></html>\n";
const SCRIPT: &str = "self.jellyfin = \"simulated\";\n";
/// As much as makes it worth compressing.
const FILLER: &str = "self.webpackChunk = (self.webpackChunk || []).concat([]);\n";
const TAG: &str = "\"1dd7b5fae7505bc\"";
const CONFIG: &str = "{\"multiserver\":false,\"themes\":[],\"servers\":[],\"plugins\":[]}\n";
const MODIFIED: &str = "Sun, 01 Nov 2026 10:00:00 GMT";

/// The file of a path, `None` if the path is not the static files' concern.
pub(crate) fn asset(path: &str, method: &Method, headers: &HeaderMap) -> Option<Answer> {
    let name = path.get(..5).filter(|start| start.eq_ignore_ascii_case("/web/")).map(|_| &path[5..]);
    let Some(name) = name else {
        let bare = path.eq_ignore_ascii_case("/web");
        return bare.then(|| Answer::empty(StatusCode::FOUND).with("location", "web/"));
    };
    if method != Method::GET && method != Method::HEAD {
        return None;
    }
    let answer = match name {
        "" | "index.html" => Answer::text(StatusCode::OK, "text/html", INDEX).with("cache-control", "no-cache"),
        "main.jellyfin.bundle.js" => {
            Answer::text(StatusCode::OK, "text/javascript", format!("{SCRIPT}{}", FILLER.repeat(100)))
        }
        "config.json" => Answer::text(StatusCode::OK, "application/json", CONFIG),
        "favicon.png" => Answer::sized("image/png", LOGO),
        _ => return None,
    };
    let answer = if has_fresh_copy(headers) { Answer::empty(StatusCode::NOT_MODIFIED) } else { answer };
    Some(answer.with("etag", TAG).with("accept-ranges", "bytes").with("last-modified", MODIFIED))
}

/// The static-file middleware compares tags strongly, against the RFC (`StaticFileContext.ComputeIfMatch`).
fn has_fresh_copy(headers: &HeaderMap) -> bool {
    let tags = headers.get("if-none-match").and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    tags.split(',').map(str::trim).any(|tag| tag == TAG || tag == "*")
}
