//! Devices, with the tokens that were made on them.

use super::{ApiCall, ApiResponse, encoded, text};

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
    ApiCall::get("/Devices", read).with_token(key)
}

/// Removes a device with all its tokens.
pub fn remove(id: &str) -> ApiCall<ApiResponse> {
    ApiCall::delete(format!("/Devices?id={}", encoded(id)), Some)
}
