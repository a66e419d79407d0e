//! What `jellypin check` tests beyond the configuration: the state directory, Redis and the pods.
//! It starts nothing and stores nothing.

mod certificates;
mod plain;

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time;

use super::{Config, Error, advice, loops, replicas, server_id_file, shared, state};
use crate::{
    jellyfin::client::system::{PublicInfo, ServerInfo},
    observe::{self, metrics::Metrics},
    pod::{Pod, Pool},
    proxy::{ALL_ARE_LOCAL, MissingRequirement, PodChecks, PodLifecycle},
    shutdown::Shutdown,
    store,
};

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

/// Longest time for all probes of one pod.
const ASKING: Duration = Duration::from_secs(2);

/// Clocks that differ by more are named. A `Date` header is up to a second old.
const CLOCKS_APART: Duration = Duration::from_secs(5);

/// Longest time to compare a pod that stands by with another.
const COMPARING: Duration = Duration::from_secs(60);

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
    found.extend(check_redis(&config).await?);
    found.extend(check_replicas(&config).await?);
    let (of_pods, is_served) = check_pods(config).await?;
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

async fn check_redis(config: &Config) -> Result<Vec<Finding>, Error> {
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
    found.extend(trial.refused.iter().map(|(command, reason)| {
        // INFO only shows what kind of Redis it is.
        let is_needed = *command != "INFO";
        finding(is_needed, format!("the user of Redis may not run {command}, which is needed: {reason}"))
    }));
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

/// What the check found out about one pod.
struct PodReport {
    pod: Arc<Pod>,
    /// `None` if it does not answer.
    info: Option<PublicInfo>,
    missing_requirement: Option<MissingRequirement>,
    takes_all_for_local: bool,
    /// How far the pod's clock is from this machine's. `None` if that is not known.
    clock_is_off: Option<Duration>,
}

/// What is to be said of the pods, and whether every pool has one that answers.
async fn check_pods(config: Config) -> Result<(Vec<Finding>, bool), Error> {
    let config = Config { redis: None, state: None, ..config };
    let keys = state::cookie_keys(&config)?;
    let (metrics, shutdown) = (Metrics::new(), Shutdown::new());
    let (shared, ..) = shared(&config, &keys, &metrics, &shutdown).await?;
    let shared = Arc::new(shared);
    let lifecycle = PodLifecycle::new(shared.clone(), metrics, shutdown);
    let asked = shared.pools.iter().map(|shared| async {
        let base_path = &*shared.pool.base_path;
        let pods = shared.pool.pods().to_vec();
        let asked = join_all(pods.into_iter().map(|pod| check_pod(lifecycle.checks(), pod, &shared.pool))).await;
        let shares = shared.shown_server.users.is_none();
        let mut found = of_pool(&shared.pool.name, (base_path, shares), &asked);
        found.extend(check_same(lifecycle.checks(), &asked, &shared.pool).await);
        found.extend(match shared.shown_server.users.is_some() {
            true => check_twins(lifecycle.checks(), &shared.pool).await,
            false => check_standby(lifecycle.checks(), &shared.pool).await,
        });
        (found, asked.is_empty() || asked.iter().any(|asked| asked.info.is_some()))
    });
    let plain = join_all(shared.plain.iter().map(|pool| plain::check(pool))).await;
    let (found, answers): (Vec<_>, Vec<bool>) = join_all(asked).await.into_iter().chain(plain).unzip();
    Ok((found.into_iter().flatten().collect(), answers.into_iter().all(|answers| answers)))
}

/// Finds pods that are one and the same process under two addresses.
async fn check_same(checks: &PodChecks, asked: &[PodReport], pool: &Pool) -> Vec<Finding> {
    let known: Vec<_> = asked.iter().filter(|asked| matches!(asked.info, Some(PublicInfo::Known(_)))).collect();
    let mut found = Vec::new();
    for (index, one) in known.iter().enumerate() {
        for other in &known[index + 1..] {
            let same = time::timeout(ASKING, checks.are_one(&one.pod, &other.pod, pool)).await;
            if same.unwrap_or_default() {
                let sentence = format!(
                    "it is the same server as pod {}, under another address; a server is to be named once",
                    one.pod.name
                );
                let place = format!("[pools.{}] pod {}", pool.name, other.pod.name);
                found.push(Finding { place, sentence, is_wrong: true });
            }
        }
    }
    found
}

/// Compares each pod that stands by with the first that does not.
async fn check_standby(checks: &PodChecks, pool: &Pool) -> Vec<Finding> {
    let pods = pool.pods().to_vec();
    let (standby, others): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| pool.is_standby(&pod.name));
    let Some(other) = others.first() else { return Vec::new() };
    let mut found = Vec::new();
    for pod in &standby {
        let differences = time::timeout(COMPARING, checks.differences(pod, other, pool)).await.unwrap_or_default();
        let place = format!("[pools.{}] pod {}", pool.name, pod.name);
        found.extend(differences.into_iter().map(|sentence| Finding {
            place: place.clone(),
            sentence,
            is_wrong: false,
        }));
    }
    found
}

/// Compares each pod with the first, where each has a database of its own.
async fn check_twins(checks: &PodChecks, pool: &Pool) -> Vec<Finding> {
    let pods = pool.pods().to_vec();
    let Some((first, others)) = pods.split_first() else { return Vec::new() };
    let mut found = Vec::new();
    for pod in others {
        let differences = time::timeout(COMPARING, checks.differences_of_twins(pod, first, pool)).await;
        let place = format!("[pools.{}] pod {}", pool.name, pod.name);
        let finding = |sentence| Finding { place: place.clone(), sentence, is_wrong: false };
        found.extend(differences.unwrap_or_default().into_iter().map(finding));
    }
    found
}

async fn check_pod(checks: &PodChecks, pod: Arc<Pod>, pool: &Pool) -> PodReport {
    let asked = async {
        let info = checks.public_info(&pod, pool).await;
        let (mut missing_requirement, mut takes_all_for_local) = (None, false);
        let clock_is_off = checks.clock(&pod, pool).await.map(|clock| difference(clock, SystemTime::now()));
        if matches!(info, Some(PublicInfo::Known(_))) {
            missing_requirement = checks.missing_requirement(&pod, pool).await;
            takes_all_for_local =
                missing_requirement != Some(MissingRequirement::ApiKey) && checks.is_taken_for_local(&pod, pool).await;
        }
        PodReport { pod: pod.clone(), info, missing_requirement, takes_all_for_local, clock_is_off }
    };
    let silent = |_| PodReport {
        pod: pod.clone(),
        info: None,
        missing_requirement: None,
        takes_all_for_local: false,
        clock_is_off: None,
    };
    time::timeout(ASKING, asked).await.unwrap_or_else(silent)
}

fn difference(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|error| error.duration())
}

fn of_pool(name: &str, (base_path, shares_database): (&str, bool), asked: &[PodReport]) -> Vec<Finding> {
    let place = format!("[pools.{name}]");
    if asked.is_empty() {
        let sentence = "its DNS name has no address at this moment".to_owned();
        return vec![Finding { place, sentence, is_wrong: false }];
    }
    let knows_the_key = |asked: &&PodReport| {
        matches!(asked.info, Some(PublicInfo::Known(_)))
            && asked.missing_requirement != Some(MissingRequirement::ApiKey)
    };
    let knower = asked.iter().find(knows_the_key).map(|asked| &*asked.pod.name);
    let mut found = Vec::new();
    for asked in asked {
        let place = format!("{place} pod {}", asked.pod.name);
        let mut say = |is_wrong, sentence| found.push(Finding { place: place.clone(), sentence, is_wrong });
        match &asked.info {
            None => match asked.pod.transport.trouble() {
                Some(trouble) => say(true, format!("it is not trusted at {}: {trouble}", asked.pod.authority)),
                None => say(false, format!("it does not answer at {}", asked.pod.authority)),
            },
            Some(PublicInfo::Starting) => say(false, "it is starting, or has no database".to_owned()),
            Some(PublicInfo::Other(status)) => say(
                true,
                format!(
                    "it answers {base_path}/System/Info/Public with {status}: no Jellyfin, or one whose base URL is not {base_path:?}; `base_path` is to be the same as in Jellyfin's Dashboard under Networking",
                ),
            ),
            Some(PublicInfo::Known(_)) => {}
        }
        match (asked.missing_requirement, knower) {
            (Some(MissingRequirement::ApiKey), _) if !shares_database => say(
                true,
                "it refuses its API key; make one in its Dashboard under API Keys, and give it to the pod as `api_key`"
                    .to_owned(),
            ),
            (Some(MissingRequirement::ApiKey), Some(knower)) => say(
                true,
                format!(
                    "it refuses the API key that pod {knower} takes, so that it has another database; the pods of a pool share one, unless it says `database = \"separate\"`"
                ),
            ),
            (Some(missing_requirement), _) => {
                say(missing_requirement != MissingRequirement::NoAnswer, missing_requirement.remedy().to_owned())
            }
            (None, _) => {}
        }
        if asked.takes_all_for_local {
            say(false, ALL_ARE_LOCAL.to_owned());
        }
        if let Some(off) = asked.clock_is_off.filter(|off| *off > CLOCKS_APART) {
            say(
                false,
                format!(
                    "its clock and this machine's are {} s apart, which SyncPlay and the dates of tokens suffer from; set both by NTP",
                    off.as_secs()
                ),
            );
        }
    }
    let infos = asked.iter().filter_map(|asked| match &asked.info {
        Some(PublicInfo::Known(info)) => Some((&*asked.pod.name, info)),
        _ => None,
    });
    let infos: Vec<(&str, &ServerInfo)> = infos.collect();
    let mut differ = |of: fn(&ServerInfo) -> &str, sentence: &str| {
        if infos.iter().any(|(_, info)| of(info) != of(infos[0].1)) {
            let each: Vec<_> = infos.iter().map(|(pod, info)| format!("{pod}: {}", of(info))).collect();
            let sentence = format!("{sentence} ({})", each.join(", "));
            found.push(Finding { place: place.clone(), sentence, is_wrong: false });
        }
    };
    differ(|info| &info.version, "its pods are of different versions");
    differ(|info| &info.id, "its pods have different server ids; best give all of them one device.txt");
    found
}
