//! Answers that outlive their pod: live HLS, files, and WebSockets.

pub(in crate::proxy) mod live;
pub(in crate::proxy) mod resume;
pub(in crate::proxy) mod socket;
