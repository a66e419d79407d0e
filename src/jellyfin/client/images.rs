//! Pictures, as the files that pods keep.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use super::{ApiCall, ApiResponse, encoded, status};

/// Where a picture stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PictureSlot {
    Item { item: String, kind: String, index: usize },
    User(String),
    Splashscreen,
}

/// A file, with its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub content_type: Option<HeaderValue>,
    pub bytes: Bytes,
}

/// Kestrel takes bodies of 30,000,000 bytes, and pictures come in base64.
const LONGEST: usize = 22_500_000;

/// Pods may be in other cities, and a picture is large.
const PATIENCE: Duration = Duration::from_secs(60);

impl PictureSlot {
    fn target(&self) -> String {
        match self {
            PictureSlot::Item { item, kind, index } => {
                format!("/Items/{}/Images/{}/{index}", encoded(item), encoded(kind))
            }
            PictureSlot::User(user) => format!("/UserImage?userId={}", encoded(user)),
            PictureSlot::Splashscreen => "/Branding/Splashscreen".to_owned(),
        }
    }

    /// An upload has no place in the list of an item's pictures: it goes to the end.
    fn upload_target(&self) -> String {
        match self {
            PictureSlot::Item { item, kind, .. } => format!("/Items/{}/Images/{}", encoded(item), encoded(kind)),
            PictureSlot::User(_) | PictureSlot::Splashscreen => self.target(),
        }
    }
}

/// The file itself; `None` if the pod has none. A pod converts a picture into a format that the
/// caller takes, so the call takes all (`ImageController.GetOutputFormats`).
pub fn read(slot: &PictureSlot, key: &str) -> ApiCall<Option<Picture>> {
    let read = |response: ApiResponse| match response.status {
        StatusCode::OK => {
            let content_type = response.headers.get(header::CONTENT_TYPE).cloned();
            Some(Some(Picture { content_type, bytes: response.body }))
        }
        StatusCode::NOT_FOUND => Some(None),
        _ => None,
    };
    let accept = HeaderValue::from_static("image/webp, image/avif, image/gif, image/svg+xml, image/*, */*");
    let call = ApiCall::get(slot.target(), read).with_token(key).within(PATIENCE);
    ApiCall { accept: Some(accept), longest_answer: LONGEST, ..call }
}

/// Stores a picture, which a pod takes in base64.
pub fn upload(slot: &PictureSlot, picture: &Picture, key: &str) -> ApiCall<StatusCode> {
    let body = Bytes::from(STANDARD.encode(&picture.bytes));
    let call = ApiCall::post(slot.upload_target(), status).with_token(key).within(PATIENCE);
    call.with_content(body, picture.content_type.clone())
}

/// Deletes a picture of an item, with its file.
pub fn delete(slot: &PictureSlot, key: &str) -> ApiCall<StatusCode> {
    ApiCall::delete(slot.target(), status).with_token(key)
}
