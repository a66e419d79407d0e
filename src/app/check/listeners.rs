//! Whether another program holds the ports that are to be listened on.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use tokio::time;

use super::Finding;
use crate::app::{Config, ask};

/// Longest time for the answer of a jellypin that runs.
const ASKING: Duration = Duration::from_secs(2);

/// Names the addresses that are taken, unless by a jellypin that runs with this configuration.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let clients = config.listen.http.iter().chain(&config.listen.https).map(|address| ("[listen]", *address));
    let all = clients.chain(config.admin.listen.map(|address| ("[admin] listen", address)));
    let taken: Vec<_> = all.filter(|(_, address)| is_taken(*address)).collect();
    if taken.is_empty() {
        return Vec::new();
    }
    let is_ours = time::timeout(ASKING, ask::health(&config.admin, "/live")).await;
    if is_ours.is_ok_and(|is_ours| is_ours.is_ok()) {
        return Vec::new();
    }
    let finding = |(place, address): (&str, SocketAddr)| Finding {
        place: place.to_owned(),
        sentence: format!(
            "{address} is in use, and no jellypin answers by [admin] listen: if another program has it, the start fails"
        ),
        is_wrong: false,
    };
    taken.into_iter().map(finding).collect()
}

fn is_taken(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}
