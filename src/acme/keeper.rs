//! Keeps a certificate in use: shows the kept one, orders the first, renews it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use instant_acme::{Account, AccountCredentials, CertificateIdentifier, NewAccount};
use tokio::time;

use super::{
    Config,
    challenges::Challenges,
    order::{self, Begun, Failure, Issued, Proof},
    renewal::{self, ORDER},
    storage::{Document, Storage, Turn},
};
use crate::{
    jitter,
    observe::metrics::{AcmeOrder, Metrics},
    shutdown::Shutdown,
    tls::{self, Facts},
};

/// Time between two looks at what other replicas do.
const POLL: Duration = Duration::from_secs(2);

/// The longest time between two looks without replicas.
const IDLE: Duration = Duration::from_secs(60);

/// The shortest time between two certificates, whatever the configuration says of renewal.
const BETWEEN: u64 = 60 * 60;

/// What a keeper works with.
pub struct Parts {
    pub storage: Storage,
    pub challenges: Arc<Challenges>,
    pub certificates: Arc<tls::Certificates>,
    pub metrics: Metrics,
}

/// Keeps the certificate of one configuration.
pub struct Keeper {
    config: Config,
    parts: Parts,
    account: Option<Account>,
    /// Failed orders in a row.
    failures: u32,
    /// No order before this moment, in seconds since 1970.
    not_before: u64,
    /// When the authority would have the certificate renewed, and when to ask it again.
    window: Option<(u64, u64)>,
    ask_window_at: u64,
    /// This replica's place in the time of renewal.
    chance: f64,
}

impl Keeper {
    pub fn new(config: Config, parts: Parts) -> Keeper {
        let chance = jitter::fraction();
        Keeper { config, parts, account: None, failures: 0, not_before: 0, window: None, ask_window_at: 0, chance }
    }

    /// Shows the certificate of the file, so that the first client is served.
    pub fn show_kept(&self) {
        if let Some(pem) = self.parts.storage.read_file(Document::Certificate) {
            self.show(&pem);
        }
    }

    /// Runs until the shutdown.
    pub async fn run(mut self, shutdown: Shutdown) {
        loop {
            let wait = tokio::select! {
                wait = self.look() => wait,
                () = shutdown.stopping() => return,
            };
            tokio::select! {
                () = time::sleep(wait) => {}
                () = shutdown.stopping() => return,
            }
        }
    }

    /// One look: takes what another replica has ordered, and orders if it is time. Returns how long
    /// to wait for the next.
    async fn look(&mut self) -> Duration {
        self.follow().await;
        self.ask_window().await;
        let (now, due) = (now(), self.due());
        if now < due.max(self.not_before) {
            let next = Duration::from_secs(due.max(self.not_before) - now).min(IDLE);
            return if self.parts.storage.is_shared() { POLL } else { next };
        }
        match self.parts.storage.take_turn(ORDER).await {
            Turn::Ours => self.attempt().await,
            Turn::AnotherReplicas | Turn::Unknown => {}
        }
        POLL
    }

    /// Takes what other replicas have: a newer certificate, or answers for the authority.
    async fn follow(&self) {
        if !self.parts.storage.is_shared() {
            return;
        }
        let proofs = self.parts.storage.shared_proofs().await;
        self.show_proofs(&proofs);
        let Some(pem) = self.parts.storage.read(Document::Certificate).await else { return };
        let ours = self.parts.certificates.issued();
        let is_newer = tls::facts(&pem).is_ok_and(|theirs| ours.is_none_or(|ours| theirs.is_newer_than(&ours)));
        if is_newer && self.show(&pem) {
            self.parts.storage.write_file(Document::Certificate, &pem);
            tracing::info!("a certificate that another replica has ordered is in use");
        }
    }

    /// When the certificate in use should be renewed; at once if there is none for these names.
    fn due(&self) -> u64 {
        let Some(facts) = self.fitting() else { return 0 };
        renewal::moment(facts.validity, self.config.renew_before, self.window, self.chance)
    }

    fn fitting(&self) -> Option<Facts> {
        let has_all = |facts: &Facts| self.config.domains.iter().all(|name| facts.names.contains(name));
        self.parts.certificates.issued().filter(has_all)
    }

    async fn attempt(&mut self) {
        let ordered = time::timeout(ORDER, self.order()).await;
        self.parts.challenges.clear();
        self.parts.certificates.show_proofs(Vec::new());
        let failure = match ordered {
            Ok(Ok(Issued(pem))) if self.show(pem.as_bytes()) => {
                self.parts.storage.write(Document::Certificate, pem.as_bytes()).await;
                self.parts.storage.keep_turn(POLL).await;
                count(&self.parts.metrics, "issued");
                (self.failures, self.window, self.ask_window_at) = (0, None, 0);
                (self.not_before, self.chance) = (now() + BETWEEN, jitter::fraction());
                tracing::info!(names = self.config.domains.join(", "), "a certificate was issued");
                return;
            }
            Ok(Ok(_)) => Failure::Refused("the certificate that was issued cannot be used".to_owned()),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::Away(format!("no certificate within {} s", ORDER.as_secs())),
        };
        self.failures += 1;
        let (is_refusal, why) = match failure {
            Failure::Away(why) => (false, why),
            Failure::Refused(why) => (true, why),
        };
        let pause = renewal::pause(self.failures, is_refusal, jitter::fraction());
        self.not_before = now() + pause.as_secs();
        // Nobody else is to try sooner.
        self.parts.storage.keep_turn(pause).await;
        count(&self.parts.metrics, if is_refusal { "refused" } else { "away" });
        tracing::warn!(error = why, retry_seconds = pause.as_secs(), "no certificate was issued; the one in use stays");
    }

    async fn order(&mut self) -> Result<Issued, Failure> {
        let account = self.account().await?;
        // An authority that suggests times wants to know which certificate this one replaces.
        let replaces = if self.window.is_some() && self.failures == 0 { self.identifier() } else { None };
        let kinds = &self.config.challenges;
        let Some(kind) = kinds.get(self.failures as usize % kinds.len().max(1)).copied() else {
            return Err(Failure::Refused("no challenge can be answered".to_owned()));
        };
        let mut begun = Begun::order(&account, self.config.domains.clone(), kind, replaces).await?;
        self.prove(std::mem::take(&mut begun.proofs)).await;
        begun.complete().await
    }

    /// Makes answers known, here and to all replicas.
    async fn prove(&self, proofs: Vec<Proof>) {
        let mut by_tls = Vec::new();
        for proof in proofs {
            match proof {
                Proof::Http { token, answer } => self.parts.challenges.put(&token, &answer).await,
                Proof::Tls { name, digest } => by_tls.push((name, digest)),
            }
        }
        if by_tls.is_empty() {
            return;
        }
        self.show_proofs(&by_tls);
        if self.parts.storage.is_shared() {
            self.parts.storage.share_proofs(&by_tls, ORDER).await;
            // The others look that often.
            time::sleep(POLL * 2).await;
        }
    }

    fn show_proofs(&self, proofs: &[(String, Vec<u8>)]) {
        let certificates = proofs.iter().filter_map(|(name, digest)| order::proof_certificate(name, digest));
        self.parts.certificates.show_proofs(certificates.collect());
    }

    async fn account(&mut self) -> Result<Account, Failure> {
        if let Some(account) = &self.account {
            return Ok(account.clone());
        }
        let builder = || match &self.config.ca {
            Some(file) => Account::builder_with_root(file),
            None => Account::builder(),
        };
        let kept = self.parts.storage.read(Document::Account).await;
        // Credentials of another directory are of no use at this one.
        let is_of_directory = |json: &serde_json::Value| json["directory"] == *self.config.directory;
        let kept = kept.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
        let kept =
            kept.filter(is_of_directory).and_then(|json| serde_json::from_value::<AccountCredentials>(json).ok());
        let account = match kept {
            Some(credentials) => builder()?.from_credentials(credentials).await?,
            None => {
                let contact = self.config.email.as_ref().map(|email| format!("mailto:{email}"));
                let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
                let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
                let (account, credentials) = builder()?.create(&new, self.config.directory.clone(), None).await?;
                if let Ok(json) = serde_json::to_vec(&credentials) {
                    self.parts.storage.write(Document::Account, &json).await;
                }
                account
            }
        };
        self.account = Some(account.clone());
        Ok(account)
    }

    /// Asks the authority when it would have the certificate renewed, where it says so (ARI).
    async fn ask_window(&mut self) {
        let now = now();
        if now < self.ask_window_at || self.failures > 0 || self.fitting().is_none() {
            return;
        }
        self.ask_window_at = now + renewal::LOOK.as_secs();
        let (Some(identifier), Ok(account)) = (self.identifier(), self.account().await) else { return };
        let asked = time::timeout(Duration::from_secs(30), account.renewal_info(&identifier)).await;
        if let Ok(Ok((info, again))) = asked {
            let seconds = |time: i64| u64::try_from(time).unwrap_or_default();
            let window = &info.suggested_window;
            self.window = Some((seconds(window.start.unix_timestamp()), seconds(window.end.unix_timestamp())));
            self.ask_window_at = now + again.as_secs().clamp(60, renewal::LOOK.as_secs());
        }
    }

    fn identifier(&self) -> Option<CertificateIdentifier<'static>> {
        let facts = self.parts.certificates.issued()?;
        CertificateIdentifier::try_from(&facts.leaf).ok().map(CertificateIdentifier::into_owned)
    }

    /// Uses a certificate from now on. Returns whether it can be used.
    fn show(&self, pem: &[u8]) -> bool {
        match self.parts.certificates.show_issued(pem) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "a certificate by ACME cannot be used");
                false
            }
        }
    }
}

fn count(metrics: &Metrics, outcome: &'static str) {
    metrics.acme_orders.get_or_create(&AcmeOrder { outcome }).inc();
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
