//! The answer on its way to the client: its head, its body, and the server id and address in it.

pub(in crate::proxy) mod answer;
pub(in crate::proxy) mod binding;
pub(in crate::proxy) mod body;
pub(in crate::proxy) mod compressing;
pub(in crate::proxy) mod rewriting;
