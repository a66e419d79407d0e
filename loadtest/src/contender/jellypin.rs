//! jellypin's configuration for a run.

use std::ffi::OsString;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use super::{Backend, Duties, with_configuration};

pub(super) fn arguments(configuration: &Path) -> Vec<OsString> {
    with_configuration("--config", configuration)
}

pub(super) fn configuration(listen: SocketAddr, admin: SocketAddr, backends: &[Backend], duties: Duties) -> String {
    // Failing over is what it does anyway, so nothing is said of it.
    let mut text = format!(
        "[listen]\nhttp = \"{listen}\"\nworkers = 1\n\n\
         [admin]\nlisten = \"{admin}\"\n\n\
         [log]\naccess = {}\n\n\
         [pools.jellyfin.pods]\n",
        duties.access_log
    );
    for Backend { name, address } in backends {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name} = \"http://{address}\"");
    }
    text
}
