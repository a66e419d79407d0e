//! One request: what jellypin knows of it, its pod, how it ends, and its record.

pub(in crate::proxy) mod attempt;
pub(in crate::proxy) mod context;
pub(in crate::proxy) mod dispatch;
pub(in crate::proxy) mod normalize;
pub(in crate::proxy) mod reason;
pub(in crate::proxy) mod record;
pub(in crate::proxy) mod refusal;
pub(in crate::proxy) mod saved;
pub(in crate::proxy) mod select;
