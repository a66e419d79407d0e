//! jellypin's configuration for a run.

use std::ffi::OsString;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use super::{Duties, with_configuration};
use crate::backend::Backend;

/// The limits where all load comes from one address.
const ALL_FROM_ONE_ADDRESS: &str = "[limits]\nconnections_per_address = 100000\nrequests = 100000\n\
    requests_per_address = 100000\nsockets = 100000\nsockets_per_address = 100000\nholds_per_address = 4096\n\n";

pub(super) fn arguments(configuration: &Path) -> Vec<OsString> {
    with_configuration("--config", configuration)
}

pub(super) fn configuration(listen: SocketAddr, admin: SocketAddr, backends: &[Backend], duties: Duties) -> String {
    // Failing over is what it does anyway, so nothing is said of it.
    let limits = if duties.own_limits { "" } else { ALL_FROM_ONE_ADDRESS };
    let mut text = format!(
        "[listen]\nhttp = \"{listen}\"\nworkers = 1\n\n\
         {limits}\
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
