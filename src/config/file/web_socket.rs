//! `[websocket]`: how sockets are kept and ended.

use std::time::Duration;

use serde::Deserialize;

use crate::{
    config::{
        units::{SocketIdle, Time, seconds},
        value::{Spanned, Written},
    },
    websocket::CloseStyle,
};

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct WebSocket {
    pub(in crate::config) ping_interval: Spanned<Time>,
    pub(in crate::config) idle_timeout: Written<SocketIdle>,
    pub(in crate::config) stop_stagger: Time,
    pub(in crate::config) close: Written<CloseStyle>,
}

impl Default for WebSocket {
    fn default() -> Self {
        WebSocket {
            ping_interval: Spanned::new(0..0, seconds(30)),
            idle_timeout: Written(SocketIdle(Duration::from_secs(90))),
            stop_stagger: seconds(5),
            close: Written(CloseStyle::Abrupt),
        }
    }
}
