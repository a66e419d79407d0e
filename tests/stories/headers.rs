//! Heads pass as they are, but for what ends at a proxy and for what it says of the client.

mod answers;
mod balancer;
mod clients;
mod requests;
mod targets;
