//! The endpoints, one file for each of Jellyfin's concerns.

pub(crate) mod activity;
pub(crate) mod api_keys;
pub(crate) mod devices;
pub(crate) mod documents;
pub(crate) mod downloads;
pub(crate) mod groups;
pub(crate) mod hls;
pub(crate) mod images;
pub(crate) mod item_edits;
pub(crate) mod items;
pub(crate) mod libraries;
pub(crate) mod live_tv;
pub(crate) mod playback;
pub(crate) mod remote_control;
pub(crate) mod reports;
pub(crate) mod sessions;
pub(crate) mod system;
pub(crate) mod tasks;
pub(crate) mod user_data;
pub(crate) mod users;
pub(crate) mod web;
