//! Devices, with the tokens that were made on them.

use bytes::Bytes;
use http::StatusCode;

use super::{ApiCall, ApiResponse, encoded, text};

/// The longest list of devices, in bytes. One takes some 300.
pub const LONGEST_LIST: usize = 8 << 20;

/// A user on a device, as the administrator's list has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRow {
    pub device: String,
    pub user: Option<String>,
}

/// All devices that a pod has in memory. A pod that knows a device of a deleted user fails.
pub fn list(key: &str) -> ApiCall<Vec<DeviceRow>> {
    let read = |response: ApiResponse| {
        let json = response.success().ok()?;
        let rows = super::field(&json, "Items")?.as_array()?.iter();
        let row = |of| Some(DeviceRow { device: text(of, "Id")?, user: text(of, "LastUserId") });
        Some(rows.filter_map(row).collect())
    };
    ApiCall::get("/Devices", read).with_token(key).up_to(LONGEST_LIST)
}

/// What a pod says of its devices, as JSON. `target` is the path with a query.
pub fn look(target: String, key: &str) -> ApiCall<Result<Bytes, StatusCode>> {
    let read = |response: ApiResponse| {
        Some(if response.status == StatusCode::OK { Ok(response.body) } else { Err(response.status) })
    };
    ApiCall::get(target, read).with_token(key).up_to(LONGEST_LIST)
}

/// Removes a device with all its tokens.
pub fn remove(id: &str) -> ApiCall<ApiResponse> {
    ApiCall::delete(format!("/Devices?id={}", encoded(id)), Some)
}
