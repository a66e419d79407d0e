//! A simulated Jellyfin pod for the tests of jellypin: strict where the real server is, with controls to break it.
//!
//! It answers on the wire as Jellyfin 12.0 or 10.11 was recorded to answer and shares no type with the proxy. A
//! [`Cluster`] is what the pods have in common (users, API keys, token rows); a [`Pod`] is one server, with its tokens,
//! sessions, transcodes, codes and groups in its own memory.

mod activity_log;
mod answer;
mod authorization;
mod caches;
mod call;
mod catalogue;
mod clock;
mod cluster;
mod devices;
mod discovery;
mod disk;
mod documents;
mod dto;
mod endpoints;
mod files;
mod generation;
mod identifiers;
mod item_dto;
mod library;
mod live_streams;
mod machine;
mod memory;
mod mint_times;
mod not_jellyfin;
mod path;
mod playback_state;
mod pod;
mod program;
mod query;
mod quick_connect;
mod ranges;
mod routes;
mod scheduled_tasks;
mod seen;
mod service;
mod session_rights;
mod sessions;
mod setup_server;
mod single_sign_on;
mod single_writer;
mod socket;
mod start_up;
mod sync_play;
mod transcoding;
mod user_data;
mod user_data_changes;

pub use cluster::Cluster;
pub use generation::Generation;
pub use identifiers::session_id;
pub use library::{BULK, CHANNEL, FILM, bulk_bytes, live_segment_bytes};
pub use machine::{Cold, Machine};
pub use mint_times::{CallTime, MintTimes};
pub use pod::{Pod, PodBuilder};
pub use program::run_program;
pub use seen::Seen;
pub use start_up::{PhaseLengths, StartUp};
pub use user_data::UserData;
