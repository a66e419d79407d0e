//! jellypin: a reverse proxy that makes several Jellyfin servers behave as one.
//!
//! Rooms follow the floors of ARCHITECTURE.md, lowest first. A room uses lower floors only.

pub mod hop;
pub mod jitter;
pub mod observe;
pub mod shutdown;

pub mod compression;
pub mod hand_over;
pub mod jellyfin;
pub mod limits;
pub mod passwords;
pub mod pod;
pub mod store;
pub mod tls;
pub mod wake;

pub mod affinity;
pub mod discovery;
pub mod health;
pub mod leader;
pub mod route;
pub mod server_id;
pub mod sessions;

pub mod acme;
pub mod forward;
pub mod websocket;

pub mod proxy;

pub mod admin;
pub mod autodiscovery;
pub mod connection;

pub mod listen;

pub mod app;

pub mod config;
