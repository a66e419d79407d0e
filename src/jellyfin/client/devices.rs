//! Devices, with the tokens that were made on them.

use super::{ApiCall, ApiResponse, encoded};

/// Removes a device with all its tokens.
pub fn remove(id: &str) -> ApiCall<ApiResponse> {
    ApiCall::delete(format!("/Devices?id={}", encoded(id)), Some)
}
