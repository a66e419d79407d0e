//! One request: what is known of it, which pod it goes to, how it ends, and what is written down of it.

pub(in crate::proxy) mod context;
pub(in crate::proxy) mod normalize;
pub(in crate::proxy) mod record;
pub(in crate::proxy) mod refusal;
pub(in crate::proxy) mod select;
