//! The prober of a pod that is not Jellyfin's: does it take a connection, or answer a path well?

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::StatusCode;
use tokio::{
    sync::oneshot,
    time::{self, Instant},
};

use super::{
    Config,
    connection::{ProbeFailure, connect, status_of},
    jittered,
};
use crate::{
    health::{
        log_change,
        rules::{Outcome, Streak},
    },
    pod::{Check, Moment, Pod, Pool},
};

/// Checks for ever. Notifies `first` after the first check.
pub(in crate::health) async fn run(
    pod: Arc<Pod>,
    pool: Arc<Pool>,
    config: Arc<ArcSwap<Config>>,
    first: oneshot::Sender<()>,
) {
    let (mut streak, mut first) = (Streak::default(), Some(first));
    loop {
        let settings = config.load_full();
        let (began, asked) = (Moment::now(), Instant::now());
        if let Some(outcome) = check(&pod, &pool, settings.silence).await {
            judge(&pod, &pool, &mut streak, outcome, began, &settings);
            if outcome.is_answer() {
                pod.vitals.set_check_time(asked.elapsed());
            }
        }
        if let Some(first) = first.take() {
            let _ = first.send(());
        }
        let interval = match streak.is_settled(pod.status(), &settings) {
            true => settings.interval,
            false => settings.fast_interval,
        };
        tokio::select! {
            () = time::sleep(jittered(interval)) => {}
            () = pod.suspicions.await_next() => {}
        }
    }
}

/// What one check finds. `None`: no file handle was free for it.
pub(in crate::health) async fn check(pod: &Pod, pool: &Pool, longest: Duration) -> Option<Outcome> {
    let found = match &*pool.check() {
        Check::Path(path) => time::timeout(longest, status_of(pod, path)).await,
        Check::Jellyfin | Check::Connection => {
            time::timeout(longest, async { connect(pod).await.map(|_| StatusCode::OK) }).await
        }
    };
    Some(match found {
        Err(_) => Outcome::Silent,
        Ok(Ok(StatusCode::LOOP_DETECTED)) => Outcome::Loop,
        Ok(Ok(status)) if status.is_success() || status.is_redirection() => Outcome::Healthy,
        Ok(Ok(_)) => Outcome::Unhealthy,
        Ok(Err(ProbeFailure::Unasked)) => return None,
        Ok(Err(ProbeFailure::Refused | ProbeFailure::Unreachable)) => Outcome::Refused,
        Ok(Err(ProbeFailure::Broken)) => Outcome::Broken,
        Ok(Err(ProbeFailure::Untrusted)) => Outcome::Untrusted,
    })
}

fn judge(pod: &Pod, pool: &Pool, streak: &mut Streak, outcome: Outcome, began: Moment, config: &Config) {
    let suspicion = pod.suspicions.take().gravest;
    pod.life.set_answers_probes(outcome.is_answer());
    let pods = pool.pods();
    let mut others = pods.iter().filter(|other| other.id != pod.id && other.status().is_alive());
    let lately = Moment::before_now(config.interval * 2);
    let others_are_well = others.any(|other| other.vitals.was_checked_since(lately));
    let mut judged = streak.clone();
    let (before, after) = pod.life.change(|status| judged.judge(status, outcome, suspicion, others_are_well, config));
    *streak = judged;
    if outcome.is_answer() {
        pod.vitals.record_life();
    }
    if outcome == Outcome::Healthy {
        pod.vitals.record_good_check(began);
    }
    log_change(pod, before, after, outcome.as_str());
    pod.suspicions.record_probe();
}
