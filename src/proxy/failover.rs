//! Answers that outlive their pod: live HLS, files, WebSockets, and transcodes on a pod that the
//! client has left.

pub(in crate::proxy) mod live;
pub(in crate::proxy) mod notify_transcoder;
pub(in crate::proxy) mod resume;
pub(in crate::proxy) mod socket;
