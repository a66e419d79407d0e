//! Documents of settings, which each pod keeps for itself.

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::{ApiCall, ApiResponse, encoded, field, status, text};
use crate::jellyfin::endpoint::Document;

/// The documents that every pod has, besides those of its plug-ins.
pub const DOCUMENTS: [Document<'static>; 7] = [
    Document::Server,
    Document::Named("branding"),
    Document::Named("encoding"),
    Document::Named("livetv"),
    Document::Named("metadata"),
    Document::Named("network"),
    Document::Named("xbmcmetadata"),
];

/// A pod's document; `None` if it has none of that name.
pub fn read(document: Document<'_>, key: &str) -> ApiCall<Option<Value>> {
    let read = |response: ApiResponse| match response.success() {
        Ok(json) => json.is_object().then_some(Some(json)),
        Err(StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST) => Some(None),
        Err(_) => None,
    };
    ApiCall::get(target(document), read).with_token(key)
}

/// Replaces a pod's document.
pub fn write(document: Document<'_>, new: &Value, key: &str) -> ApiCall<StatusCode> {
    let body = Bytes::from(new.to_string());
    ApiCall::post(target(document), status).with_token(key).with_body(body)
}

/// The ids of a pod's plug-ins.
pub fn plugins(key: &str) -> ApiCall<Vec<String>> {
    let read = |response: ApiResponse| {
        let json = response.success().ok()?;
        // Of several versions of one plug-in, one has the settings.
        let is_active = |plugin: &&Value| field(plugin, "Status").is_none_or(|status| status == "Active");
        let mut ids: Vec<String> =
            json.as_array()?.iter().filter(is_active).filter_map(|plugin| text(plugin, "Id")).collect();
        ids.sort();
        ids.dedup();
        Some(ids)
    };
    ApiCall::get("/Plugins", read).with_token(key)
}

fn target(document: Document<'_>) -> String {
    match document {
        Document::Server => "/System/Configuration".to_owned(),
        Document::Named(name) => format!("/System/Configuration/{}", encoded(name)),
        Document::Plugin(id) => format!("/Plugins/{}/Configuration", encoded(id)),
    }
}
