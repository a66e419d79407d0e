//! A few files where jellyfin-web would be, served by the static-file middleware.

use http::{Method, StatusCode};

use crate::answer::Answer;
use crate::library::LOGO;

const INDEX: &str = "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>Jellyfin</title><script defer \
                     src=\"main.jellyfin.bundle.js\"></script></head><body><div id=\"reactRoot\"></div></body></html>\n";
const SCRIPT: &str = "self.jellyfin = \"simulated\";\n";
const CONFIG: &str = "{\"multiserver\":false,\"themes\":[],\"servers\":[],\"plugins\":[]}\n";
const MODIFIED: &str = "Sun, 01 Nov 2026 10:00:00 GMT";

/// The file of a path, `None` if the path is not the static files' concern.
pub(crate) fn asset(path: &str, method: &Method) -> Option<Answer> {
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
        "main.jellyfin.bundle.js" => Answer::text(StatusCode::OK, "text/javascript", SCRIPT),
        "config.json" => Answer::text(StatusCode::OK, "application/json", CONFIG),
        "favicon.png" => Answer::sized("image/png", LOGO),
        _ => return None,
    };
    Some(answer.with("etag", "\"1dd7b5fae7505bc\"").with("accept-ranges", "bytes").with("last-modified", MODIFIED))
}
