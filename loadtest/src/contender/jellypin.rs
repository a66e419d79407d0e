//! jellypin's configuration for a run.

use std::ffi::OsString;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use super::{Duties, with_configuration};
use crate::backend::Backend;

pub(super) fn arguments(configuration: &Path) -> Vec<OsString> {
    with_configuration("--config", configuration)
}

pub(super) fn configuration(listen: SocketAddr, admin: SocketAddr, backends: &[Backend], duties: Duties) -> String {
    // Failing over is what it does anyway, so nothing is said of it. All load comes from one address.
    let mut text = format!(
        "[listen]\nhttp = \"{listen}\"\nworkers = 1\n\n\
         [limits]\nconnections_per_address = 100000\nrequests = 100000\nrequests_per_address = 100000\n\
         sockets = 100000\nsockets_per_address = 100000\nholds_per_address = 4096\n\n\
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
