//! One order: from the account to the certificate (RFC 8555, 7.4).
//!
//! [`Begun::order`] says what has to be proved, and [`Begun::complete`] goes on once that can be seen.

use std::{fmt::Write, time::Duration};

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder, OrderStatus,
    RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};

use super::ChallengeKind;

/// A certificate that was issued, and its key, both PEM in one text: key first.
pub(super) struct Issued(pub(super) String);

/// Why there is none.
#[derive(Debug)]
pub(super) enum Failure {
    /// The authority does not answer, or not sensibly.
    Away(String),
    /// It refuses. Asking again at once is held against us.
    Refused(String),
}

/// An answer for the authority.
pub(super) enum Proof {
    Http { token: String, answer: String },
    Tls { name: String, digest: Vec<u8> },
}

/// How long the authority may take for its checks, and for the certificate.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(120));

/// An order that the authority waits for.
pub(super) struct Begun {
    order: instant_acme::Order,
    wanted: ChallengeType,
    names: Vec<String>,
    /// What is to be seen before it is completed.
    pub(super) proofs: Vec<Proof>,
}

impl Begun {
    /// Orders a certificate for these names.
    pub(super) async fn order(
        account: &Account,
        names: Vec<String>,
        kind: ChallengeKind,
        replaces: Option<CertificateIdentifier<'static>>,
    ) -> Result<Begun, Failure> {
        let identifiers: Vec<_> = names.iter().cloned().map(Identifier::Dns).collect();
        let mut new = NewOrder::new(&identifiers);
        if let Some(replaced) = replaces {
            new = new.replaces(replaced);
        }
        let mut order = account.new_order(&new).await?;
        let wanted = match kind {
            ChallengeKind::Http01 => ChallengeType::Http01,
            ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
        };
        let mut proofs = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let name = authorization.identifier().to_string();
            let Some(challenge) = authorization.challenge(wanted.clone()) else {
                return Err(Failure::Refused(format!("the authority offers no {kind:?} for {name}")));
            };
            let answer = challenge.key_authorization();
            proofs.push(match kind {
                ChallengeKind::Http01 => {
                    Proof::Http { token: challenge.token.clone(), answer: answer.as_str().to_owned() }
                }
                ChallengeKind::TlsAlpn01 => Proof::Tls { name, digest: answer.digest().as_ref().to_vec() },
            });
        }
        Ok(Begun { order, wanted, names, proofs })
    }

    /// Lets the authority look, and fetches the certificate.
    pub(super) async fn complete(mut self) -> Result<Issued, Failure> {
        let order = &mut self.order;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status != AuthorizationStatus::Valid
                && let Some(mut challenge) = authorization.challenge(self.wanted.clone())
            {
                challenge.set_ready().await?;
            }
        }
        let polled = order.poll_ready(&PATIENCE).await;
        if !matches!(polled, Ok(OrderStatus::Ready)) {
            let why = why_refused(order).await;
            return match polled {
                Ok(other) => Err(Failure::Refused(format!("the order became {other:?}{why}"))),
                Err(error) => Err(error.into()),
            };
        }
        let (request, key) = signing_request(&self.names)?;
        order.finalize_csr(&request).await?;
        let chain = order.poll_certificate(&PATIENCE).await?;
        Ok(Issued(format!("{key}{chain}")))
    }
}

/// What the authority says of each name that it could not check.
async fn why_refused(order: &mut instant_acme::Order) -> String {
    let mut why = String::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        for problem in state.challenges.iter().filter_map(|challenge| challenge.error.as_ref()) {
            // Writing into memory cannot fail.
            let _ = write!(why, "; {name}: {problem}");
        }
    }
    why
}

/// A request for a certificate of these names, and its new key.
fn signing_request(names: &[String]) -> Result<(Vec<u8>, String), Failure> {
    let ours = |error: rcgen::Error| Failure::Away(format!("cannot make a key: {error}"));
    let mut parameters = CertificateParams::new(names).map_err(ours)?;
    parameters.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate().map_err(ours)?;
    let request = parameters.serialize_request(&key).map_err(ours)?;
    Ok((request.der().to_vec(), key.serialize_pem()))
}

/// The certificate that answers for a name by TLS-ALPN-01 (RFC 8737, 3), and its key, as PEM.
pub(super) fn proof_certificate(name: &str, digest: &[u8]) -> Option<String> {
    let mut parameters = CertificateParams::new([name.to_owned()]).ok()?;
    parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().ok()?;
    let certificate = parameters.self_signed(&key).ok()?;
    Some(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Api(problem) if problem.status.is_none_or(|status| status < 500) => {
                Failure::Refused(problem.to_string())
            }
            other => Failure::Away(chain(&other)),
        }
    }
}

/// An error with its causes: the outermost alone often says no more than that a request failed.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
