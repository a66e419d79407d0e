//! Whether clients can use the certificates: their ends, their chains, and the names of the routes.

use super::Finding;
use crate::{
    app::{
        Config,
        certificates::{name, now, stage},
    },
    tls::{self, Certificates, Facts},
};

/// What is wrong with the certificates of a configuration.
///
/// # Errors
/// A file cannot be used.
pub(super) fn check(config: &Config) -> Result<Vec<Finding>, tls::Error> {
    if config.listen.https.is_empty() {
        return Ok(Vec::new());
    }
    let all = Certificates::read(&config.tls)?.all();
    let mut found: Vec<Finding> = all.iter().flat_map(|facts| of_one(facts, now())).collect();
    let by_acme = config.acme.iter().flat_map(|acme| acme.domains.iter().map(String::as_str));
    let by_acme: Vec<&str> = by_acme.collect();
    let url = config.shown_server.public_url.as_deref().and_then(|url| url.strip_prefix("https://"));
    let shown = url.map(|rest| rest.split(['/', ':']).next().unwrap_or_default());
    let routed = config.route.routes.iter().filter_map(|route| route.host.as_deref());
    for host in routed.chain(shown) {
        let is_covered = by_acme.contains(&host) || all.iter().any(|facts| covers(facts, host));
        if !is_covered {
            found.push(finding(false, format!("no certificate is good for {host}; clients that call it are warned")));
        }
    }
    Ok(found)
}

fn of_one(facts: &Facts, now: u64) -> Vec<Finding> {
    let name = name(facts);
    let mut found = Vec::new();
    match stage(facts.validity.not_after, now) {
        None => {}
        Some(0) => found.push(finding(true, format!("the certificate for {name} has ended"))),
        Some(1) => found.push(finding(false, format!("the certificate for {name} ends within a day"))),
        Some(days) => found.push(finding(false, format!("the certificate for {name} ends within {days} days"))),
    }
    if facts.validity.not_before > now {
        found.push(finding(true, format!("the certificate for {name} is not good yet; is the clock right?")));
    }
    if !facts.is_chained {
        let sentence = format!(
            "the chain of the certificate for {name} is out of order: each one is signed by the next, and the own one is the first"
        );
        found.push(finding(true, sentence));
    }
    if facts.names.is_empty() {
        let sentence = "a certificate has no DNS name (subjectAltName); clients accept it for no host".to_owned();
        found.push(finding(false, sentence));
    }
    found
}

/// Whether a certificate is good for the host of a route, which may be `*.example.org`.
fn covers(facts: &Facts, host: &str) -> bool {
    facts.names.iter().any(|name| name == host) || (!host.starts_with('*') && facts.cover(host))
}

fn finding(is_wrong: bool, sentence: String) -> Finding {
    Finding { place: "[listen] certificates".to_owned(), sentence, is_wrong }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Validity;

    #[test]
    fn what_is_wrong_with_a_certificate_is_said() {
        let made = rcgen::generate_simple_self_signed(["media.example.org".to_owned()]).expect("a certificate");
        let mut facts = tls::facts(made.cert.pem().as_bytes()).expect("facts");
        facts.validity = Validity { not_before: 0, not_after: 100 * 86_400 };
        let said = |facts: &Facts, day: u64| {
            let found = of_one(facts, day * 86_400);
            found.into_iter().map(|finding| (finding.is_wrong, finding.sentence)).collect::<Vec<_>>()
        };
        assert!(said(&facts, 10).is_empty());
        assert!(matches!(&said(&facts, 90)[..], [(false, text)] if text.contains("within 21 days")));
        assert!(matches!(&said(&facts, 101)[..], [(true, text)] if text.contains("has ended")));
        facts.is_chained = false;
        assert!(matches!(&said(&facts, 10)[..], [(true, text)] if text.contains("out of order")));
        assert!(covers(&facts, "media.example.org") && !covers(&facts, "*.example.org"));
    }
}
