//! Asks a pod who it is.

use http::HeaderMap;
use tokio::time;

use super::{Prober, connection::probe_once};
use crate::{
    jellyfin::client::{
        ApiResponse,
        system::{self, PublicInfo, ServerInfo},
    },
    pod::{Epoch, Info},
};

impl Prober {
    /// Asks the pod for its identity, and returns whether it reported one.
    pub(super) async fn fetch_info(&mut self) -> bool {
        let call = system::public_info();
        let path = format!("{}{}", self.pool.base_path, call.target);
        let question = probe_once(self.pod.clone(), path, self.connection.take());
        // A pod that is cold takes longer than one that is warm.
        let Ok(answered) = time::timeout(self.config.timeout * 2, question).await else { return false };
        self.line_ended |= answered.line_ended;
        let Ok((connection, status, _, body)) = answered.result else { return false };
        self.connection = Some(connection);
        let response = ApiResponse { status, headers: HeaderMap::new(), body };
        let Some(PublicInfo::Known(ServerInfo { id, version, name, is_set_up })) = call.read(response) else {
            return false;
        };
        let info = Info { id, version, name, is_set_up };
        let known = self.pod.info.latest();
        if known.as_ref().is_some_and(|known| known.id != info.id) {
            self.streak.server_changed();
            self.pod.info.record_other_server(Epoch(self.pod.status().epoch.0 + 1));
        }
        if known.as_deref() != Some(&info) {
            tracing::info!(
                pod.name = &*self.pod.name,
                pod.server_id = info.id,
                pod.version = info.version,
                "pod says who it is"
            );
            self.pod.info.set(info);
        }
        true
    }
}
