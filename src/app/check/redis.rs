//! What `jellypin check` finds out about Redis.

use super::Finding;
use crate::{
    app::{Config, Error},
    store,
};

/// What is to be said of Redis, if there is one.
///
/// # Errors
/// Its certificates cannot be used.
pub(super) async fn check_redis(config: &Config) -> Result<Vec<Finding>, Error> {
    let Some(redis) = &config.redis else { return Ok(Vec::new()) };
    store::redis_store::check(redis)?;
    let finding = |is_wrong, sentence| Finding { place: "[redis]".to_owned(), sentence, is_wrong };
    let trial = match store::redis_store::self_test(redis).await {
        Ok(trial) => trial,
        Err(trouble) if trouble.is_refusal => {
            return Ok(vec![finding(true, format!("Redis refuses: {}", trouble.reason))]);
        }
        Err(trouble) => return Ok(vec![finding(false, format!("Redis does not answer: {}", trouble.reason))]),
    };
    if trial.facts.is_cluster {
        let sentence = "Redis is one of a cluster, which is not supported: give one Redis, or the sentinels of several";
        return Ok(vec![finding(true, sentence.to_owned())]);
    }
    let mut found: Vec<_> = trial.facts.warnings().into_iter().map(|warning| finding(false, warning)).collect();
    let mut refused: Vec<_> = trial.refused.iter().map(|(command, reason)| refusal(command, reason)).collect();
    // A full Redis refuses every write for one reason.
    refused.dedup();
    found.extend(refused.into_iter().map(|(is_wrong, sentence)| finding(is_wrong, sentence)));
    if trial.facts.most_memory > 0 && (trial.facts.most_memory as usize) < redis.bounds.bytes.saturating_mul(2) {
        let sentence = format!(
            "maxmemory of Redis is {} MiB, and max_memory lets the proxy use {} MiB of it; keep it below the half",
            trial.facts.most_memory >> 20,
            redis.bounds.bytes >> 20
        );
        found.push(finding(false, sentence));
    }
    Ok(found)
}

/// Why a command was refused, and whether that is wrong.
fn refusal(command: &str, reason: &str) -> (bool, String) {
    let begins = |code: &str| reason.split(|char: char| !char.is_ascii_alphanumeric()).any(|word| word == code);
    if begins("OOM") {
        let why = "Redis is full and takes no writes: raise its maxmemory, or lower [redis] max_memory";
        return (true, why.to_owned());
    }
    if begins("READONLY") {
        let why = "Redis is a copy that takes no writes: name the primary, or the sentinels";
        return (true, why.to_owned());
    }
    if begins("MISCONF") {
        return (true, "Redis cannot write to its disk, and takes no writes until it can".to_owned());
    }
    // INFO only shows what kind of Redis it is.
    (command != "INFO", format!("the user of Redis may not run {command}, which is needed: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::refusal;

    #[test]
    fn a_refusal_is_not_always_one_of_rights() {
        for (reason, part) in [
            ("OOM: command not allowed when used memory > 'maxmemory'.", "is full"),
            ("\"READONLY\": You can't write against a read only replica.", "is a copy"),
            ("MISCONF Redis is configured to save RDB snapshots", "its disk"),
            ("NOPERM: User default has no permissions to run the 'set' command", "may not run SET"),
        ] {
            let (is_wrong, said) = refusal("SET", reason);
            assert!(is_wrong && said.contains(part), "{said}");
        }
        assert!(!refusal("INFO", "NOPERM").0);
    }
}
