//! What `jellypin check` finds out about the pods.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use http::StatusCode;
use tokio::{net::TcpStream, time};

use super::{ASKING, Finding, plain};
use crate::{
    app::{Config, Error, shared, state},
    jellyfin::client::system::{PublicInfo, ServerInfo},
    observe::metrics::Metrics,
    pod::{Pod, Pool},
    proxy::{ALL_ARE_LOCAL, MissingRequirement, PodChecks, PodLifecycle},
    shutdown::Shutdown,
};

/// Longest time to compare a pod that stands by with another.
const COMPARING: Duration = Duration::from_secs(60);

/// Clocks that differ by more are named. A `Date` header is up to a second old.
const CLOCKS_APART: Duration = Duration::from_secs(5);

/// What the check found out about one pod.
struct PodReport {
    pod: Arc<Pod>,
    /// `None` if it does not answer.
    info: Option<PublicInfo>,
    /// Why it does not answer, if that is known.
    silence: Option<String>,
    /// It answers, but its own health check fails.
    is_ill: bool,
    missing_requirement: Option<MissingRequirement>,
    takes_all_for_local: bool,
    /// How far the pod's clock is from this machine's. `None` if that is not known.
    clock_is_off: Option<Duration>,
}

/// What is to be said of the pods, and whether every pool has one that answers.
pub(super) async fn check_pods(config: Config) -> Result<(Vec<Finding>, bool), Error> {
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
        (found, asked.is_empty() || asked.iter().any(|asked| asked.info.is_some() && !asked.is_ill))
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
    let silent = |silence| PodReport {
        pod: pod.clone(),
        info: None,
        silence,
        is_ill: false,
        missing_requirement: None,
        takes_all_for_local: false,
        clock_is_off: None,
    };
    let asked = async {
        let info = checks.public_info(&pod, pool).await?;
        let mut report = silent(None);
        report.clock_is_off = checks.clock(&pod, pool).await.map(|clock| difference(clock, SystemTime::now()));
        if matches!(info, PublicInfo::Known(_)) {
            report.is_ill = checks.is_healthy(&pod, pool).await == Some(false);
            report.missing_requirement = checks.missing_requirement(&pod, pool).await;
            report.takes_all_for_local = report.missing_requirement != Some(MissingRequirement::ApiKey)
                && checks.is_taken_for_local(&pod, pool).await;
        }
        report.info = Some(info);
        Some(report)
    };
    match time::timeout(ASKING, asked).await.ok().flatten() {
        Some(report) => report,
        None => silent(Some(silence(&pod.authority).await)),
    }
}

/// Why nothing comes from this address.
async fn silence(authority: &str) -> String {
    match time::timeout(ASKING, TcpStream::connect(authority)).await {
        Ok(Ok(_)) => format!("it takes connections, but did not answer within {} s", ASKING.as_secs()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no connection within {} s", ASKING.as_secs()),
    }
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
                None => {
                    let why = asked.silence.iter().map(|why| format!(": {why}")).collect::<String>();
                    say(false, format!("it does not answer at {}{why}", asked.pod.authority));
                }
            },
            Some(PublicInfo::Starting) => say(false, "it is starting, or has no database".to_owned()),
            Some(PublicInfo::Other { status, location }) => {
                say(true, of_stranger(*status, location.as_deref(), base_path));
            }
            Some(PublicInfo::Known(info)) => {
                if asked.is_ill {
                    say(
                        false,
                        "it answers, but its health check fails: most often it does not reach its database".to_owned(),
                    );
                }
                for sentence in of_server(info) {
                    say(false, sentence);
                }
            }
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

/// What answers where a Jellyfin should.
fn of_stranger(status: StatusCode, location: Option<&str>, base_path: &str) -> String {
    let answers = format!("it answers {base_path}/System/Info/Public with {status}");
    match (status, location) {
        (StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT, _) => {
            format!("{answers}: another proxy, which does not reach the Jellyfin behind it; best name that itself")
        }
        (_, Some(location)) if status.is_redirection() => format!(
            "{answers}, and sends to {location:?}: name the address, the scheme (http or https) and the `base_path` that it sends to"
        ),
        _ => format!(
            "{answers}: no Jellyfin, or one whose base URL is not {base_path:?}; `base_path` is to be the same as in Jellyfin's Dashboard under Networking"
        ),
    }
}

/// What a server says of itself that an operator hardly intends.
fn of_server(info: &ServerInfo) -> Vec<String> {
    let mut said = Vec::new();
    if !is_new_enough(&info.version) {
        said.push(format!("it is of version {:?}; jellypin is made for Jellyfin {OLDEST} and later", info.version));
    }
    if info.is_set_up == Some(false) {
        said.push("its set-up wizard was never completed".to_owned());
    }
    said
}

/// The oldest version that jellypin is tested with.
const OLDEST: &str = "10.11";

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (10, 11)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_jellyfin_is_told_by_its_answer() {
        for (status, location, part) in [
            (502, None, "another proxy"),
            (301, Some("https://jf/"), "sends to \"https://jf/\""),
            (301, None, "no Jellyfin, or one"),
            (404, None, "whose base URL is not \"/jf\""),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let said = of_stranger(status, location, "/jf");
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn old_servers_and_unfinished_ones_are_noted() {
        let server = |version: &str, is_set_up| ServerInfo {
            id: String::new(),
            version: version.to_owned(),
            name: String::new(),
            is_set_up,
        };
        for (version, is_set_up, count) in [
            ("12.0.0", Some(true), 0),
            ("10.11.0", None, 0),
            ("10.8.13", Some(true), 1),
            ("4.8.1.0", Some(false), 2),
            ("", None, 1),
        ] {
            assert_eq!(of_server(&server(version, is_set_up)).len(), count, "{version}");
        }
    }
}
