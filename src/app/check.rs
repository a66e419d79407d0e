//! What `jellypin check` tests beyond the configuration: the state directory, Redis and the pods.
//! It starts nothing and stores nothing.

mod certificates;
mod listeners;
mod plain;
mod pods;
mod redis;

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use super::{Config, Error, advice, loops, replicas, server_id_file, state};
use crate::observe;

/// Longest time for all probes of one pod.
const ASKING: Duration = Duration::from_secs(2);

/// One thing that the check found.
pub struct Finding {
    /// The place in an operator's words: a table of the configuration, and a pod.
    pub place: String,
    pub sentence: String,
    /// The setup cannot work. False if it may be intended, or the problem may pass by itself.
    pub is_wrong: bool,
}

/// All that the check found.
pub struct Report {
    pub findings: Vec<Finding>,
    /// Whether a pod of every pool answers, as far as the pools have pods.
    pub is_served: bool,
}

/// What a report comes down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// Nothing is wrong, but a pool has no pod that answers.
    Unserved,
    Wrong,
}

impl Report {
    pub fn verdict(&self) -> Verdict {
        match self.findings.iter().any(|finding| finding.is_wrong) {
            true => Verdict::Wrong,
            false if self.is_served => Verdict::Good,
            false => Verdict::Unserved,
        }
    }

    /// What is said of a configuration that cannot be used at all.
    pub fn of_refusal(sentence: String) -> Report {
        let finding = Finding { place: String::new(), sentence, is_wrong: true };
        Report { findings: vec![finding], is_served: false }
    }

    /// For programs: `verdict`, and `findings` with `place`, `sentence` and `is_wrong` each.
    pub fn json(&self) -> Value {
        let verdict = match self.verdict() {
            Verdict::Good => "good",
            Verdict::Unserved => "unserved",
            Verdict::Wrong => "wrong",
        };
        let finding = |Finding { place, sentence, is_wrong }: &Finding| json!({"place": place, "sentence": sentence, "is_wrong": is_wrong});
        json!({"verdict": verdict, "findings": self.findings.iter().map(finding).collect::<Vec<_>>()})
    }
}

/// Tests everything that the configuration names. `secrets` are the files that only its owner should
/// read.
///
/// # Errors
/// As [`super::start`], except for addresses: a running proxy may already use them.
pub async fn check(config: Config, secrets: &[PathBuf]) -> Result<Report, Error> {
    let advice = advice::of(&config).into_iter().chain(secrets.iter().filter_map(|file| exposed(file)));
    let mut found: Vec<_> =
        advice.map(|sentence| Finding { place: String::new(), sentence, is_wrong: false }).collect();
    loops::refuse(&config)?;
    found.extend(certificates::check(&config)?);
    check_state(&config)?;
    check_access_log(&config).map_err(Error::AccessLog)?;
    found.extend(listeners::check(&config).await);
    found.extend(redis::check_redis(&config).await?);
    found.extend(check_replicas(&config).await?);
    let (of_pods, is_served) = pods::check_pods(config).await?;
    found.extend(of_pods);
    Ok(Report { findings: found, is_served })
}

/// What is to be said of a secret that every user of the machine can read.
fn exposed(file: &Path) -> Option<String> {
    let mode = fs::metadata(file).ok()?.permissions().mode();
    let name = file.display();
    (mode & 0o004 != 0)
        .then(|| format!("{name} holds a secret, and every user of this machine can read it: chmod o-rwx {name}"))
}

/// Checks that the state directory can be read and written.
fn check_state(config: &Config) -> Result<(), Error> {
    let Some(folder) = &config.state else { return Ok(()) };
    let failed = |source| Error::State { path: folder.clone(), source };
    for pool in &config.pools {
        server_id_file::known(config, &pool.name)?;
    }
    state::check(folder).map_err(failed)?;
    // For a folder that does not exist yet, the nearest existing parent decides.
    is_writable(folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new(""))).map_err(failed)
}

/// Checks that access lines can be written. Does not create a missing file.
fn check_access_log(config: &Config) -> io::Result<()> {
    let observe::AccessLog::File(path) = &config.observe.access else { return Ok(()) };
    let tried = if path.exists() {
        OpenOptions::new().append(true).open(path).map(drop)
    } else {
        is_writable(path.parent().unwrap_or(Path::new("")))
    };
    tried.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn is_writable(folder: &Path) -> io::Result<()> {
    let probe = folder.join(format!(".jellypin-check-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&probe)?;
    fs::remove_file(&probe)
}

/// Checks that the running replicas have the same configuration.
async fn check_replicas(config: &Config) -> Result<Vec<Finding>, Error> {
    let Some(redis) = &config.redis else { return Ok(Vec::new()) };
    if config.affinity.keys.is_empty() {
        return Ok(Vec::new());
    }
    let said = replicas::disagreements(config, &config.affinity.keys, redis).await;
    let finding = |sentence| Finding { place: "[redis] replicas".to_owned(), sentence, is_wrong: true };
    Ok(said.into_iter().map(finding).collect())
}
