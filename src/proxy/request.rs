//! One request: what jellypin knows of it, its pod, how it ends, and its record.

pub(in crate::proxy) mod context;
pub(in crate::proxy) mod normalize;
pub(in crate::proxy) mod record;
pub(in crate::proxy) mod refusal;
pub(in crate::proxy) mod select;
