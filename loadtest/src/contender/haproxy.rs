//! haproxy's configuration for a run: one thread, kept connections on both sides, a sticky cookie, health checks.

use std::ffi::OsString;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use super::{Duties, with_configuration};
use crate::backend::Backend;

/// In the foreground and without a master, so that the process started is the one that works.
pub(super) fn arguments(configuration: &Path) -> Vec<OsString> {
    let mut arguments = vec![OsString::from("-db")];
    arguments.extend(with_configuration("-f", configuration));
    arguments
}

pub(super) fn configuration(listen: SocketAddr, backends: &[Backend], duties: Duties) -> String {
    let log_target = if duties.access_log { "    log stdout format raw local0\n" } else { "" };
    let log_use = if duties.access_log { "    log global\n    option httplog\n" } else { "" };
    // Trying again after a response was begun needs the request kept, which costs; so only where pods die.
    let retry = if duties.fail_over {
        "    option redispatch 1\n    retries 3\n    retry-on conn-failure empty-response response-timeout 503\n"
    } else {
        ""
    };
    let mut text = format!(
        "global\n    nbthread 1\n    maxconn 8192\n{log_target}\n\
         defaults\n    mode http\n{log_use}{retry}\
         \x20   option http-keep-alive\n    option forwardfor\n    http-reuse always\n\
         \x20   timeout connect 2s\n    timeout client 60s\n    timeout server 60s\n\n\
         frontend clients\n    bind {listen}\n    default_backend pods\n\n\
         backend pods\n    balance roundrobin\n    cookie jellyfin_server_id insert indirect nocache httponly\n\
         \x20   option httpchk GET /health\n    http-check expect string Healthy\n\
         \x20   default-server check inter 1s fastinter 200ms fall 2 rise 1 observe layer4 error-limit 1 on-error mark-down\n"
    );
    for Backend { name, address } in backends {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    server {name} {address} cookie {name}");
    }
    text
}
