//! What a pod answers before it is ready: the setup server, and the main server whose core has not completed.

use http::StatusCode;

use crate::answer::{Answer, camel_case};
use crate::dto;
use crate::endpoints::system;
use crate::generation::Generation;
use crate::pod::Connection;
use crate::start_up::{Phase, StartUp};

const PAGE: &str =
    "<!DOCTYPE html><html><head><title>Jellyfin Startup</title></head><body>Jellyfin is starting.</body></html>";

/// The setup server; it knows no base URL.
pub(crate) async fn answer(connection: &Connection, path: &str) -> Answer {
    if path.eq_ignore_ascii_case("/health") {
        return system::health_of("Degraded", StatusCode::OK);
    }
    if path.eq_ignore_ascii_case("/system/info/public") && host_exists(connection).await {
        let mut info = dto::public_info(&connection.life.shared);
        info["StartupWizardCompleted"] = false.into();
        return Answer::json(&camel_case(info));
    }
    Answer::text(StatusCode::SERVICE_UNAVAILABLE, "text/html", PAGE).with("retry-after", "005")
}

/// The main server before its core has completed.
pub(crate) fn still_starting(generation: Generation) -> Answer {
    let text = match generation {
        Generation::V12 => PAGE,
        Generation::V10_11 => "Jellyfin Server is loading. Please try again shortly.",
    };
    Answer::text(StatusCode::SERVICE_UNAVAILABLE, "text/html", text)
}

/// Waits a while for the host, as the setup server does before it gives up.
async fn host_exists(connection: &Connection) -> bool {
    let StartUp::Phased(lengths) = connection.life.shared.settings.start_up else {
        return false;
    };
    let mut phases = connection.life.phases();
    let come = phases.wait_for(|phase| *phase != Phase::Setup { host: false });
    tokio::time::timeout(lengths.info_wait, come).await.is_ok_and(|phase| phase.is_ok())
}
