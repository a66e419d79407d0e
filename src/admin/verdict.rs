//! What is going on, in words: the first lines of the dashboard. Pure.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::pod::{Condition, Pod, Rest, State};

/// How an operator should take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// Nothing is wrong.
    Well,
    /// Clients are served; something is to be looked at.
    Look,
    /// Some clients are not served.
    Wrong,
}

/// The verdict: the gravest level, and what leads to it, the gravest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    pub(super) level: Level,
    pub(super) sentences: Vec<Sentence>,
}

/// One sentence. The page puts the time in words, since only the reader's browser knows its zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Sentence {
    pub(super) level: Level,
    /// Without the full stop.
    pub(super) text: String,
    /// Since when, in milliseconds of Unix time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since_ms: Option<u64>,
    /// What more is to be said, after a semicolon.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) more: String,
}

/// What is known of one pod.
#[derive(Clone, Debug)]
pub(super) struct PodFacts {
    pub(super) pool: String,
    pub(super) name: String,
    /// It is not Jellyfin's.
    pub(super) is_plain: bool,
    pub(super) state: State,
    pub(super) accepts: bool,
    pub(super) since: SystemTime,
    /// Sessions that live here.
    pub(super) sessions: usize,
    /// Sessions that have left it since then.
    pub(super) moved: usize,
    /// Its source no longer names it.
    pub(super) is_removed: bool,
    pub(super) rest: Rest,
    /// How it does while it serves.
    pub(super) condition: Condition,
    /// What it lacked for migration when it was last asked, in words.
    pub(super) lacks: Vec<&'static str>,
    /// Why it is not trusted over TLS, in words.
    pub(super) trouble: Option<String>,
}

/// What the verdict is made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) pods: Vec<PodFacts>,
    /// Pools without any pod.
    pub(super) empty_pools: Vec<String>,
    /// Whether Redis answers; `None` without one.
    pub(super) redis: Option<bool>,
    /// Other replicas, each with what it disagrees in.
    pub(super) disagreeing: Vec<(String, Vec<String>)>,
    /// Another replica writes what this one cannot read.
    pub(super) is_apart: bool,
    /// Requests that wait for a pod.
    pub(super) held: usize,
    pub(super) is_stopping: bool,
    /// The latest configuration was refused.
    pub(super) is_refused: bool,
    /// Certificates that end soon, each with the days until then.
    pub(super) ending: Vec<(String, i64)>,
}

pub(super) fn of(facts: &Facts) -> Verdict {
    let mut sentences = Vec::new();
    let mut pools: Vec<&str> = facts.pods.iter().map(|pod| &*pod.pool).collect();
    pools.dedup();
    let of_pool = |pool: &str| if pools.len() > 1 { format!(" of pool {pool}") } else { String::new() };
    for pool in &facts.empty_pools {
        sentences.push(said(Level::Wrong, format!("Pool {pool} has no pod"), None, ""));
    }
    for pool in &pools {
        let pods = || facts.pods.iter().filter(|pod| pod.pool == *pool);
        let serves = |pod: &PodFacts| matches!(pod.state, State::Ready | State::Draining) || pod.rest == Rest::Asleep;
        if !pods().any(serves) {
            let since = pods().map(|pod| pod.since).max();
            let more = match () {
                () if pods().any(|pod| pod.accepts) => "requests go to pods that are not well",
                () if pods().any(|pod| pod.is_plain) => "requests get an error",
                () => "requests wait",
            };
            sentences.push(said(Level::Wrong, format!("No pod{} is ready", of_pool(pool)), since, more));
        } else if pods().filter(|pod| serves(pod)).all(|pod| pod.condition == Condition::NoDatabase) {
            let text = format!("No pod{} reaches its database", of_pool(pool));
            sentences.push(said(Level::Wrong, text, None, "clients get errors"));
        }
    }
    for pod in &facts.pods {
        let who = format!("Pod {}{}", pod.name, of_pool(&pod.pool));
        for lacks in &pod.lacks {
            let more = "asked when the pod came; no session can migrate to it";
            sentences.push(said(Level::Look, format!("{who} {lacks}"), None, more));
        }
        let unwell = match pod.condition {
            Condition::Well => None,
            Condition::Late => Some("answers its health checks late"),
            Condition::Silent => Some("answers nothing for now"),
            Condition::NoDatabase => Some("does not reach its database"),
        };
        sentences.extend(unwell.map(|unwell| said(Level::Look, format!("{who} {unwell}"), None, "")));
        let sentence = match pod.state {
            State::Ready => continue,
            _ if pod.rest == Rest::Asleep => {
                let more = "the next request that needs it wakes it";
                said(Level::Well, format!("{who} sleeps"), Some(pod.since), more)
            }
            _ if pod.rest == Rest::Waking => said(Level::Look, format!("{who} wakes"), Some(pod.since), ""),
            State::Down => {
                let more = if pod.sessions > 0 {
                    format!("{} not moved yet", sessions(pod.sessions))
                } else {
                    moved(pod.moved)
                };
                let trouble = pod.trouble.iter().cloned();
                let more = trouble.chain(Some(more).filter(|more| !more.is_empty())).collect::<Vec<_>>().join("; ");
                said(Level::Look, format!("{who} is down"), Some(pod.since), &more)
            }
            State::Starting => said(Level::Look, format!("{who} is starting"), Some(pod.since), ""),
            State::Draining if pod.is_plain => {
                said(Level::Look, format!("{who} is no longer listed"), Some(pod.since), "")
            }
            State::Draining => {
                let why = if pod.is_removed { "is no longer listed and drains" } else { "drains" };
                let more = if pod.sessions == 0 {
                    "no session is left".to_owned()
                } else {
                    format!("{} left", sessions(pod.sessions))
                };
                said(Level::Look, format!("{who} {why}"), Some(pod.since), &more)
            }
        };
        sentences.push(sentence);
    }
    if facts.is_refused {
        let more = "the one before stays in use; the log says what is wrong";
        sentences.push(said(Level::Look, "The latest configuration was refused".into(), None, more));
    }
    for (name, days) in &facts.ending {
        let who = format!("The certificate for {name}");
        sentences.push(match days {
            i64::MIN..0 => said(Level::Wrong, format!("{who} has ended"), None, "clients are warned of it"),
            0 => said(Level::Look, format!("{who} ends within a day"), None, ""),
            1 => said(Level::Look, format!("{who} ends in 1 day"), None, ""),
            days => said(Level::Look, format!("{who} ends in {days} days"), None, ""),
        });
    }
    if facts.redis == Some(false) {
        sentences.push(said(
            Level::Look,
            "Redis does not answer".into(),
            None,
            "this replica goes on with what it knows",
        ));
    }
    if facts.is_apart {
        let text = "Another replica writes what this one cannot read".into();
        sentences.push(said(Level::Wrong, text, None, "no session can move; give all replicas the same keys"));
    }
    for (name, parts) in &facts.disagreeing {
        sentences.push(said(
            Level::Look,
            format!("Replica {name} is configured otherwise: {}", parts.join(", ")),
            None,
            "",
        ));
    }
    if facts.held > 0 {
        let text = if facts.held == 1 {
            "1 request waits for a pod".into()
        } else {
            format!("{} requests wait for a pod", facts.held)
        };
        sentences.push(said(Level::Look, text, None, ""));
    }
    if facts.is_stopping {
        sentences.push(said(Level::Look, "This jellypin is stopping".into(), None, ""));
    }
    sentences.sort_by_key(|sentence| std::cmp::Reverse(sentence.level));
    let level = sentences.first().map_or(Level::Well, |sentence| sentence.level);
    if sentences.is_empty() {
        sentences.push(said(Level::Well, "All well".into(), None, ""));
    }
    Verdict { level, sentences }
}

impl PodFacts {
    /// Those of a pod that knows no sessions.
    pub(super) fn plain(pod: &Pod) -> PodFacts {
        let status = pod.status();
        PodFacts {
            pool: pod.pool.to_string(),
            name: pod.name.to_string(),
            is_plain: true,
            state: status.state,
            accepts: status.accepts,
            since: pod.life.since(),
            sessions: 0,
            moved: 0,
            is_removed: pod.drain.is_removed(),
            rest: pod.sleep.rest(),
            condition: condition(pod),
            lacks: Vec::new(),
            trouble: pod.transport.trouble().map(|trouble| trouble.to_string()),
        }
    }
}

/// How the pod does while it serves. A pod that is not alive has no condition worth a word.
pub(super) fn condition(pod: &Pod) -> Condition {
    if pod.status().is_alive() { pod.vitals.condition() } else { Condition::Well }
}

fn said(level: Level, text: String, since: Option<SystemTime>, more: &str) -> Sentence {
    Sentence { level, text, since_ms: since.map(millis), more: more.to_owned() }
}

fn moved(count: usize) -> String {
    if count == 0 { String::new() } else { format!("{} moved", sessions(count)) }
}

fn sessions(count: usize) -> String {
    if count == 1 { "1 session".to_owned() } else { format!("{count} sessions") }
}

/// A moment in milliseconds of Unix time.
pub(super) fn millis(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, state: State, sessions: usize, moved: usize) -> PodFacts {
        let since = SystemTime::UNIX_EPOCH + Duration::from_millis(7);
        let accepts = state != State::Down;
        PodFacts {
            pool: "main".into(),
            name: name.into(),
            is_plain: false,
            state,
            accepts,
            since,
            sessions,
            moved,
            is_removed: false,
            rest: Rest::Awake,
            condition: Condition::Well,
            lacks: Vec::new(),
            trouble: None,
        }
    }

    /// The level, and each sentence as the page puts it together.
    fn put(facts: &Facts) -> (Level, Vec<String>) {
        let verdict = of(facts);
        let text = |said: &Sentence| {
            let since = said.since_ms.map(|at| format!(" since {at}")).unwrap_or_default();
            let more = if said.more.is_empty() { String::new() } else { format!("; {}", said.more) };
            format!("{}{since}{more}.", said.text)
        };
        (verdict.level, verdict.sentences.iter().map(text).collect())
    }

    #[test]
    fn a_verdict_says_what_is_wrong_the_gravest_first() {
        let ready = || pod("a", State::Ready, 3, 0);
        let of_condition = |name, condition| PodFacts { condition, ..pod(name, State::Ready, 0, 0) };
        let of_pods = |pods: Vec<PodFacts>| Facts { pods, ..Facts::default() };
        let redis = Facts { redis: Some(false), ..of_pods(vec![ready()]) };
        let other =
            Facts { disagreeing: vec![("r2".into(), vec!["cookie".into(), "pods".into()])], ..of_pods(vec![ready()]) };
        let held = |held| Facts { held, ..of_pods(vec![pod("a", State::Starting, 0, 0)]) };
        for (facts, level, sentences) in [
            (of_pods(vec![ready()]), Level::Well, vec!["All well."]),
            (Facts { redis: Some(true), ..of_pods(vec![ready()]) }, Level::Well, vec!["All well."]),
            (
                of_pods(vec![ready(), PodFacts { trouble: Some("x".into()), ..pod("b", State::Down, 0, 1) }]),
                Level::Look,
                vec!["Pod b is down since 7; x; 1 session moved."],
            ),
            (
                Facts { ending: vec![("h".into(), 20), ("i".into(), -1)], ..of_pods(vec![ready()]) },
                Level::Wrong,
                vec![
                    "The certificate for i has ended; clients are warned of it.",
                    "The certificate for h ends in 20 days.",
                ],
            ),
            (
                of_pods(vec![ready(), pod("b", State::Down, 0, 14)]),
                Level::Look,
                vec!["Pod b is down since 7; 14 sessions moved."],
            ),
            (
                of_pods(vec![ready(), pod("b", State::Down, 1, 2)]),
                Level::Look,
                vec!["Pod b is down since 7; 1 session not moved yet."],
            ),
            (
                of_pods(vec![ready(), pod("b", State::Draining, 2, 0), pod("c", State::Draining, 0, 9)]),
                Level::Look,
                vec!["Pod b drains since 7; 2 sessions left.", "Pod c drains since 7; no session is left."],
            ),
            (
                of_pods(vec![pod("a", State::Down, 0, 0)]),
                Level::Wrong,
                vec!["No pod is ready since 7; requests wait.", "Pod a is down since 7."],
            ),
            (
                held(1),
                Level::Wrong,
                vec![
                    "No pod is ready since 7; requests go to pods that are not well.",
                    "Pod a is starting since 7.",
                    "1 request waits for a pod.",
                ],
            ),
            (
                of_pods(vec![PodFacts { rest: Rest::Asleep, ..pod("a", State::Down, 3, 0) }]),
                Level::Well,
                vec!["Pod a sleeps since 7; the next request that needs it wakes it."],
            ),
            (
                of_pods(vec![ready(), of_condition("b", Condition::NoDatabase), of_condition("c", Condition::Late)]),
                Level::Look,
                vec!["Pod b does not reach its database.", "Pod c answers its health checks late."],
            ),
            (of_pods(vec![of_condition("a", Condition::Silent)]), Level::Look, vec!["Pod a answers nothing for now."]),
            (
                of_pods(vec![of_condition("a", Condition::NoDatabase), pod("b", State::Down, 0, 0)]),
                Level::Wrong,
                vec![
                    "No pod reaches its database; clients get errors.",
                    "Pod a does not reach its database.",
                    "Pod b is down since 7.",
                ],
            ),
            (
                of_pods(vec![PodFacts { lacks: vec!["refuses the API key"], ..ready() }]),
                Level::Look,
                vec!["Pod a refuses the API key; asked when the pod came; no session can migrate to it."],
            ),
            (redis, Level::Look, vec!["Redis does not answer; this replica goes on with what it knows."]),
            (other, Level::Look, vec!["Replica r2 is configured otherwise: cookie, pods."]),
            (Facts { empty_pools: vec!["x".into()], ..Facts::default() }, Level::Wrong, vec!["Pool x has no pod."]),
        ] {
            assert_eq!(put(&facts), (level, sentences.into_iter().map(str::to_owned).collect()), "{facts:?}");
        }
    }

    #[test]
    fn pools_are_named_where_there_are_several() {
        let other = PodFacts { pool: "other".into(), ..pod("b", State::Down, 0, 0) };
        let facts = |other| Facts { pods: vec![pod("a", State::Ready, 0, 0), other], ..Facts::default() };
        let plain = PodFacts { is_plain: true, ..other.clone() };
        assert_eq!(put(&facts(plain)).1[0], "No pod of pool other is ready since 7; requests get an error.");
        let (level, sentences) = put(&facts(other));
        assert_eq!(level, Level::Wrong);
        assert_eq!(
            sentences,
            ["No pod of pool other is ready since 7; requests wait.", "Pod b of pool other is down since 7."]
        );
    }
}
