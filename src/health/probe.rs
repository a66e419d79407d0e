//! One pod's prober: requests `/health` again and again over a connection that it keeps.
//!
//! The kept connection is also a sentinel. A process that dies ends it, so the prober probes it at
//! once and not only at the next interval.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle, time};

use super::{
    Config, is_for_want_of_a_name_server, is_out_of_handles,
    rules::{Outcome, Streak},
    tell,
};
use crate::{
    jellyfin::client::{
        ApiResponse,
        system::{self, PublicInfo, ServerInfo},
    },
    jitter,
    pod::{Info, Pod, Suspicion},
};

const USER_AGENT: &str = concat!("jellypin/", env!("CARGO_PKG_VERSION"));

/// The longest answer to a probe that the prober reads.
const LONGEST_ANSWER: usize = 64 * 1024;

/// False alarms after which the prober ignores the connection's end: this pod ends idle
/// connections.
const FALSE_ALARMS: u32 = 3;

pub(super) struct Prober {
    pod: Arc<Pod>,
    base_path: Arc<str>,
    config: Arc<Config>,
    streak: Streak,
    connection: Option<ProbeConnection>,
    /// Whether the pod has reported its identity and was healthy ever since.
    is_named: bool,
    false_alarms: u32,
    /// Whether the kept connection has ended.
    line_ended: bool,
}

/// A kept connection, and the task that drives it.
struct ProbeConnection {
    requests: SendRequest<Empty<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for ProbeConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Prober {
    pub(super) fn new(pod: Arc<Pod>, base_path: Arc<str>, config: Arc<Config>) -> Prober {
        Prober {
            pod,
            base_path,
            config,
            streak: Streak::default(),
            connection: None,
            is_named: false,
            false_alarms: 0,
            line_ended: false,
        }
    }

    /// Probes for ever. Notifies `first` after the first probe; if that found the pod
    /// [`Outcome::Nameless`], only once the pod has reported its identity or another outcome
    /// follows.
    pub(super) async fn run(mut self, first: oneshot::Sender<()>) {
        while self.round().await == Some(Outcome::Nameless) && !self.pod.status().is_alive() {
            self.wait().await;
        }
        let _ = first.send(());
        loop {
            let alarm = self.wait().await;
            match self.round().await {
                Some(Outcome::Healthy | Outcome::Nameless) if alarm => self.false_alarms += 1,
                Some(Outcome::Healthy | Outcome::Nameless) | None => {}
                Some(_) => self.false_alarms = 0,
            }
        }
    }

    /// Waits until the next probe is due. Returns whether the sentinel raised the alarm.
    async fn wait(&mut self) -> bool {
        let settled = self.streak.is_settled(self.pod.status(), &self.config);
        let interval = match settled {
            true => self.config.interval,
            // Requests that wait for the pod wait for this probe.
            false if self.streak.is_rising(self.pod.status()) => self.config.fast_interval / 5,
            false => self.config.fast_interval,
        };
        let listens = self.false_alarms < FALSE_ALARMS;
        tokio::select! {
            () = time::sleep(jittered(interval)) => false,
            () = self.pod.await_suspicion() => false,
            () = ended(&mut self.connection), if listens && self.connection.is_some() => true,
        }
    }

    /// Probes once and applies the result. `None`: no file handle was free to ask the pod.
    async fn round(&mut self) -> Option<Outcome> {
        let began = time::Instant::now();
        let mut outcome = self.probe().await?;
        let doubt = self.pod.take_suspicion();
        // A pod that answered live traffic meanwhile is slow, not dead: ffmpeg uses its processors.
        let is_busy = outcome == Outcome::TimedOut && self.pod.answered_within(began.elapsed());
        if is_busy && doubt != Some(Suspicion::Farewell) {
            self.pod.was_probed();
            return Some(outcome);
        }
        // By now it may be another process, of another version.
        self.is_named &= outcome == Outcome::Healthy && doubt.is_none();
        if outcome == Outcome::Healthy && !self.is_named {
            self.is_named = self.fetch_info().await;
            outcome = if self.is_named { Outcome::Healthy } else { Outcome::Nameless };
        }
        self.pod.set_answers_checks(outcome.is_answer());
        let was_leaving = self.streak.is_leaving() || doubt == Some(Suspicion::Farewell);
        if std::mem::take(&mut self.line_ended) {
            self.streak.line_ended();
        }
        let mut streak = self.streak.clone();
        let (before, after) = self.pod.change(|status| streak.judge(status, outcome, doubt, &self.config));
        self.streak = streak;
        if was_leaving && !self.streak.is_leaving() {
            self.pod.life_has_ended();
        }
        tell(&self.pod, before, after, outcome.as_str());
        self.pod.was_probed();
        Some(outcome)
    }

    async fn probe(&mut self) -> Option<Outcome> {
        let path = format!("{}{}", self.base_path, system::HEALTH);
        let outcome = match time::timeout(self.config.timeout, self.get(&path)).await {
            Err(_) => {
                self.connection = None;
                Outcome::TimedOut
            }
            Ok(Err(ProbeFailure::Unasked)) => return None,
            Ok(Err(ProbeFailure::Refused)) => Outcome::Refused,
            Ok(Err(ProbeFailure::Broken)) => Outcome::Broken,
            Ok(Ok((status, is_page, body))) => match (status, body.trim_ascii()) {
                (StatusCode::OK, b"Healthy") => Outcome::Healthy,
                (StatusCode::OK, b"Degraded") => Outcome::Starting,
                (StatusCode::SERVICE_UNAVAILABLE, _) if is_page => Outcome::Starting,
                _ => Outcome::Unhealthy,
            },
        };
        Some(outcome)
    }

    /// Asks the pod for its identity, and returns whether it reported one.
    async fn fetch_info(&mut self) -> bool {
        let call = system::public_info();
        let path = format!("{}{}", self.base_path, call.target);
        let Ok(Ok((status, _, body))) = time::timeout(self.config.timeout, self.get(&path)).await else {
            return false;
        };
        let response = ApiResponse { status, headers: HeaderMap::new(), body };
        let Some(PublicInfo::Known(ServerInfo { id, version, name, is_set_up })) = call.read(response) else {
            return false;
        };
        let info = Info { id, version, name, is_set_up };
        if self.pod.info().as_deref() != Some(&info) {
            tracing::info!(
                pod.name = &*self.pod.name,
                pod.server_id = info.id,
                pod.version = info.version,
                "pod says who it is"
            );
            self.pod.set_info(info);
        }
        true
    }

    async fn get(&mut self, path: &str) -> Result<(StatusCode, bool, Bytes), ProbeFailure> {
        if let Some(connection) = self.connection.take() {
            // The pod may have just ended the kept connection: only a fresh one tells more.
            if !connection.requests.is_closed()
                && let Ok(answer) = self.send_probe(connection, path).await
            {
                return Ok(answer);
            }
            self.line_ended = true;
        }
        let connection = connect(&self.pod.authority).await?;
        self.send_probe(connection, path).await
    }

    async fn send_probe(
        &mut self,
        mut connection: ProbeConnection,
        path: &str,
    ) -> Result<(StatusCode, bool, Bytes), ProbeFailure> {
        let request = Request::get(path)
            .header(header::HOST, &*self.pod.authority)
            .header(header::USER_AGENT, USER_AGENT)
            .body(Empty::new())
            .map_err(|_| ProbeFailure::Broken)?;
        let (head, body) =
            connection.requests.send_request(request).await.map_err(|_| ProbeFailure::Broken)?.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|_| ProbeFailure::Broken)?.to_bytes();
        let is_page =
            head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
        self.connection = Some(connection);
        Ok((head.status, is_page, body))
    }
}

enum ProbeFailure {
    /// No file handle was free for a connection.
    Unasked,
    Refused,
    Broken,
}

async fn connect(authority: &str) -> Result<ProbeConnection, ProbeFailure> {
    let stream = TcpStream::connect(authority).await.map_err(|error| match error {
        _ if is_out_of_handles(&error) => ProbeFailure::Unasked,
        _ if is_for_want_of_a_name_server(&error) => ProbeFailure::Broken,
        _ => ProbeFailure::Refused,
    })?;
    let (requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| ProbeFailure::Broken)?;
    let driver = tokio::spawn(async move {
        // The sender's side gets the error of the connection.
        let _ = connection.await;
    });
    Ok(ProbeConnection { requests, driver })
}

/// Ends when the kept connection ends; never if there is none.
async fn ended(connection: &mut Option<ProbeConnection>) {
    match connection {
        Some(connection) => {
            let _ = (&mut connection.driver).await;
        }
        None => std::future::pending().await,
    }
}

/// The interval ±10 %, so that many pods and proxies do not probe in step.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * jitter::fraction())
}
