//! Certificates while the proxy runs: ordered by ACME, counted, and warned of before they end.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time;

use super::{Config, state};
use crate::{
    acme::{Keeper, Parts, Storage},
    affinity,
    observe::metrics::{Metrics, OfCertificate},
    proxy::SharedState,
    shutdown::Shutdown,
    tls::{Certificates, Facts},
};

/// Time between two looks at all certificates.
const LOOK: Duration = Duration::from_secs(2);

const DAY: u64 = 86_400;

/// Days before its end at which a certificate is warned of.
const WARNED: [u64; 3] = [1, 7, 21];

/// Starts what orders a certificate and keeps it in use, if the configuration says so.
pub(super) fn keep(
    config: &Config,
    (shared, keys): (&SharedState, &[affinity::Secret]),
    certificates: &Arc<Certificates>,
    metrics: &Metrics,
    shutdown: &Shutdown,
) {
    let Some(acme) = &config.acme else { return certificates.forget_issued() };
    let redis = shared.pins.persistence.redis().cloned();
    let keeper = Keeper::new(
        acme.clone(),
        Parts {
            storage: Storage::new(acme.folder.clone(), state::sealed_documents(config, keys, redis)),
            challenges: shared.challenges.clone(),
            certificates: certificates.clone(),
            metrics: metrics.clone(),
        },
    );
    keeper.show_kept();
    tokio::spawn(keeper.run(shutdown.clone()));
}

/// Shows when each certificate ends, and warns once at each stage.
pub(super) async fn watch(certificates: Arc<Certificates>, metrics: Metrics, shutdown: Shutdown) {
    let mut warned: Vec<(Facts, u64)> = Vec::new();
    loop {
        let all = certificates.all();
        metrics.certificate_expiry.clear();
        for facts in &all {
            let end = i64::try_from(facts.validity.not_after).unwrap_or(i64::MAX);
            metrics.certificate_expiry.get_or_create(&OfCertificate { name: name(facts) }).set(end);
        }
        warned.retain(|(facts, _)| all.contains(facts));
        for facts in all {
            let stage = stage(facts.validity.not_after, now());
            let known = warned.iter().find(|(known, _)| *known == facts).map(|(_, stage)| *stage);
            let Some(stage) = stage.filter(|stage| known.is_none_or(|known| *stage < known)) else { continue };
            tracing::warn!(certificate = name(&facts), within_days = stage, "a certificate ends soon");
            warned.retain(|(known, _)| *known != facts);
            warned.push((facts, stage));
        }
        tokio::select! {
            () = time::sleep(LOOK) => {}
            () = shutdown.stopping() => return,
        }
    }
}

/// The name that operators know a certificate by.
pub(super) fn name(facts: &Facts) -> String {
    facts.names.first().cloned().unwrap_or_else(|| "without a name".to_owned())
}

/// The stage of warning that a certificate has come to, in days before its end. 0 is after it.
pub(super) fn stage(not_after: u64, now: u64) -> Option<u64> {
    match not_after.saturating_sub(now) {
        0 => Some(0),
        left => WARNED.into_iter().find(|days| left <= days * DAY),
    }
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_at_three_stages() {
        for (left, expected) in [
            (22 * DAY, None),
            (21 * DAY, Some(21)),
            (8 * DAY, Some(21)),
            (7 * DAY, Some(7)),
            (DAY + 1, Some(7)),
            (DAY, Some(1)),
            (1, Some(1)),
            (0, Some(0)),
        ] {
            assert_eq!(stage(1000 * DAY + left, 1000 * DAY), expected, "{left}");
        }
        assert_eq!(stage(DAY, 2 * DAY), Some(0));
    }
}
