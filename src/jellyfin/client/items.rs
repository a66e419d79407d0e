//! Items of the catalogue.

use http::StatusCode;
use serde_json::Value;

use super::{ApiCall, ApiResponse, encoded, field, status, text};

/// Deletes one item.
pub fn delete(item: &str, key: &str) -> ApiCall<StatusCode> {
    ApiCall::delete(format!("/Items/{}", encoded(item)), status).with_token(key)
}

/// Whether the pod has an item at all, also one that lists leave out. Of the item's endpoints only
/// this one asks neither for a user nor for a right, and writes nothing.
pub fn is_there(item: &str, key: &str) -> ApiCall<bool> {
    let read = |response: ApiResponse| match response.status {
        StatusCode::NOT_FOUND => Some(false),
        status => status.is_success().then_some(true),
    };
    ApiCall::get(format!("/Items/{}/Ancestors", encoded(item)), read).with_token(key)
}

/// An item as the pod has it in memory, and as the user sees it; `None` if there is none.
pub fn get(item: &str, user: &str, key: &str) -> ApiCall<Option<Value>> {
    let read = |response: ApiResponse| match response.success() {
        Ok(json) => Some(Some(json)),
        Err(StatusCode::NOT_FOUND) => Some(None),
        Err(_) => None,
    };
    ApiCall::get(format!("/Items/{}?userId={}", encoded(item), encoded(user)), read).with_token(key)
}

/// The ids of some items, chosen by the pod.
pub fn sample(key: &str) -> ApiCall<Vec<String>> {
    const SOME: &str = "/Items?Recursive=true&IncludeItemTypes=Movie,Episode,Audio&SortBy=Random&Limit=50";
    ApiCall::get(SOME, ids).with_token(key)
}

/// Which of these ids the pod knows.
pub fn known(of: &[String], key: &str) -> ApiCall<Vec<String>> {
    let of: Vec<String> = of.iter().map(|id| encoded(id)).collect();
    ApiCall::get(format!("/Items?Recursive=true&Ids={}", of.join(",")), ids).with_token(key)
}

fn ids(response: ApiResponse) -> Option<Vec<String>> {
    let page = response.success().ok()?;
    let items = field(&page, "Items")?.as_array()?;
    Some(items.iter().filter_map(|item| text(item, "Id")).collect())
}

/// How many pictures of a kind an item lists. `/Items/{id}/Images` is no way to ask a pod: to
/// answer, it may save its old list (`LibraryManager.UpdateImagesAsync`).
pub fn image_count(item: &Value, kind: &str) -> usize {
    if kind.eq_ignore_ascii_case("Backdrop") {
        return field(item, "BackdropImageTags").and_then(Value::as_array).map_or(0, Vec::len);
    }
    let tags = field(item, "ImageTags").and_then(Value::as_object);
    usize::from(tags.is_some_and(|tags| tags.keys().any(|key| key.eq_ignore_ascii_case(kind))))
}
