//! The faults: what breaks, for how long, and what clients may notice of it.

mod disk;
mod leader;
mod mid_write;
mod network;
mod pods;
mod redis;

use std::time::Instant;

use http::Method;
use serde_json::Value;
use tokio::time::Duration;

use crate::client::{Client, elapse};
use crate::stage::Stage;
use crate::table::Figures;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    PodKilled,
    PodTerminated,
    LeaderKilled,
    PodHung,
    PodSlow,
    AllRestarted,
    Overload,
    PodDiskFull,
    DatabaseStopped,
    DatabaseHung,
    DatabaseSlow,
    SlowAccept,
    HalfOpen,
    ResetInHead,
    ResetInBody,
    CutOff,
    OtherServer,
    RedisKilled,
    RedisHung,
    RedisFlushed,
    RedisFull,
    RedisReadOnly,
    RedisSlow,
    RedisWrongTypes,
    RedisCutFromOne,
    ReplicaKilled,
    DiskFull,
    DiskTakesNothing,
    StoreCorrupt,
    KilledInMidWrite,
}

/// What may differ from nothing at all, and why.
#[derive(Clone, Copy, Default)]
pub struct Allowed {
    pub failed: bool,
    pub failed_posts: bool,
    pub closed_sockets: bool,
    pub broken_films: bool,
    pub stalls: bool,
    pub why: &'static str,
}

/// Before something else happens beside the fault.
const MEANWHILE: Duration = Duration::from_millis(400);

impl Fault {
    /// As the table names it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::PodKilled => "pod: kill -9, then started again",
            Fault::PodTerminated => "pod: SIGTERM, then started again",
            Fault::LeaderKilled => "pod: the leader killed -9, then started again",
            Fault::PodHung => "pod: SIGSTOP, then SIGCONT",
            Fault::PodSlow => "pod: each answer 3 s late",
            Fault::AllRestarted => "pods: all restarted in turn",
            Fault::Overload => "pod: starved to a fifth of a core",
            Fault::PodDiskFull => "pod: its disk is full",
            Fault::DatabaseStopped => "database: stopped, for all pods",
            Fault::DatabaseHung => "database: hangs, for all pods",
            Fault::DatabaseSlow => "database: 700 ms slow, for all pods",
            Fault::SlowAccept => "network: a pod accepts 2 s late",
            Fault::HalfOpen => "network: a pod's connections half-open",
            Fault::ResetInHead => "network: resets before answers",
            Fault::ResetInBody => "network: resets within bodies",
            Fault::CutOff => "network: a pod is cut off",
            Fault::OtherServer => "network: another Jellyfin at a pod's address",
            Fault::RedisKilled => "Redis: kill -9, then started again",
            Fault::RedisHung => "Redis: SIGSTOP, then SIGCONT",
            Fault::RedisFlushed => "Redis: flushed",
            Fault::RedisFull => "Redis: out of memory",
            Fault::RedisReadOnly => "Redis: read-only",
            Fault::RedisSlow => "Redis: 500 ms slow",
            Fault::RedisWrongTypes => "Redis: all values of a wrong type",
            Fault::RedisCutFromOne => "Redis: cut off from one of two replicas",
            Fault::ReplicaKilled => "jellypin: one of two replicas killed -9",
            Fault::DiskFull => "jellypin: its disk is full",
            Fault::DiskTakesNothing => "jellypin: starts on a disk that takes nothing",
            Fault::StoreCorrupt => "jellypin: starts with corrupt stores",
            Fault::KilledInMidWrite => "jellypin: killed -9 in mid-write, again and again",
        }
    }

    /// What clients may notice. Never a log-out, a revived session, or a token in a file.
    pub fn allowed(self) -> Allowed {
        let none = Allowed::default();
        match self {
            Fault::PodKilled | Fault::LeaderKilled | Fault::PodTerminated | Fault::PodHung | Fault::AllRestarted => {
                Allowed { failed_posts: true, why: "a report that may have arrived is not sent twice", ..none }
            }
            Fault::PodDiskFull => Allowed {
                failed: true,
                broken_films: true,
                stalls: true,
                why: "what the pod itself fails at is passed on: its transcodes",
                ..none
            },
            Fault::Overload => {
                Allowed { stalls: true, why: "so little transcodes more slowly than films play", ..none }
            }
            Fault::DatabaseStopped => Allowed {
                failed: true,
                failed_posts: true,
                broken_films: true,
                stalls: true,
                why: "no pod can look a token up: each answers 500, and that is passed on",
                ..none
            },
            Fault::DatabaseHung => Allowed { stalls: true, why: "no pod can answer meanwhile", ..none },
            Fault::HalfOpen => Allowed {
                failed_posts: true,
                broken_films: true,
                stalls: true,
                why: "what is sent is unacknowledged for 15 s until that shows, or twice 15 s",
                ..none
            },
            Fault::CutOff | Fault::OtherServer => {
                Allowed { failed_posts: true, why: "a report that may have arrived is not sent twice", ..none }
            }
            Fault::ResetInHead => Allowed {
                failed: true,
                failed_posts: true,
                why: "what breaks its connections in two rounds may be what breaks the pod, and is sent no third time",
                ..none
            },
            Fault::ResetInBody => Allowed {
                failed: true,
                failed_posts: true,
                broken_films: true,
                why: "an answer that has begun cannot be taken back; files alone go on",
                ..none
            },
            _ => none,
        }
    }

    /// Breaks something, lets it last, and mends it. What is worth a note is returned.
    async fn happen(self, stage: &mut Stage) -> String {
        match self {
            Fault::PodKilled => pods::kill(stage).await,
            Fault::PodTerminated => pods::terminate(stage).await,
            Fault::LeaderKilled => leader::kill(stage).await,
            Fault::PodHung => pods::hang(stage).await,
            Fault::PodSlow => pods::slow(stage).await,
            Fault::AllRestarted => pods::restart_all(stage).await,
            Fault::Overload => pods::starve(stage).await,
            Fault::PodDiskFull => pods::fill_disk(stage).await,
            Fault::DatabaseStopped => pods::stop_database(stage).await,
            Fault::DatabaseHung => pods::hang_database(stage).await,
            Fault::DatabaseSlow => pods::slow_database(stage).await,
            Fault::SlowAccept => network::accept_slowly(stage).await,
            Fault::HalfOpen => network::half_open(stage).await,
            Fault::ResetInHead => network::reset_in_head(stage).await,
            Fault::ResetInBody => network::reset_in_body(stage).await,
            Fault::CutOff => network::cut_off(stage).await,
            Fault::OtherServer => network::other_server(stage).await,
            Fault::RedisKilled => redis::kill(stage).await,
            Fault::RedisHung => redis::hang(stage).await,
            Fault::RedisFlushed => redis::flush(stage).await,
            Fault::RedisFull => redis::fill(stage).await,
            Fault::RedisReadOnly => redis::read_only(stage).await,
            Fault::RedisSlow => redis::slow(stage).await,
            Fault::RedisWrongTypes => redis::mix_types_up(stage).await,
            Fault::RedisCutFromOne => redis::cut_from_one(stage).await,
            Fault::ReplicaKilled => redis::kill_replica(stage).await,
            Fault::DiskFull => disk::fill(stage).await,
            Fault::DiskTakesNothing => disk::start_without(stage).await,
            Fault::StoreCorrupt => disk::corrupt(stage).await,
            Fault::KilledInMidWrite => mid_write::kill_again_and_again(stage).await,
        }
    }

    /// Runs the fault under the stage's clients, and tells what they noticed.
    pub async fn run(self, stage: &mut Stage) -> Figures {
        // One session is ended before the fault, one during it.
        let mut problems = Vec::new();
        let before = stage.newcomer(0).await;
        let during = stage.newcomer(1).await;
        if let Ok(mut client) = before {
            let ended = client.log_out().await;
            stage.record_ended(ended);
        }
        stage.fleet.forget_seen();
        let began = Instant::now();
        let note = self.happen_beside_others(stage, during.ok(), &mut problems).await;
        let went_on = stage.fleet.until_all_went_on().await;
        if let Err(stuck) = went_on {
            problems.push(format!("{stuck} of the clients' tasks are stuck"));
        }
        stage.until_all_ready().await;
        let saw = stage.fleet.saw();
        let normal_after = saw.last_bad.map_or(0.0, |at| at.duration_since(began).as_secs_f64());
        let (revived, tokens) = (stage.revived().await, stage.tokens_in_files().await);
        Figures { fault: self, saw, normal_after, revived, tokens, note, problems }
    }

    /// While the fault lasts, a client logs out, and another logs in and works.
    async fn happen_beside_others(
        self,
        stage: &mut Stage,
        leaver: Option<Client>,
        problems: &mut Vec<String>,
    ) -> String {
        let doors: Vec<_> = stage.proxies.iter().map(|proxy| proxy.address).collect();
        let visitor = stage.next_visitor(doors[0]);
        let beside = tokio::spawn(async move {
            elapse(MEANWHILE).await;
            let (mut leaver, mut visitor) = (leaver, visitor);
            let left = match &mut leaver {
                Some(leaver) => leaver.log_out().await,
                None => None,
            };
            let token = visitor.log_in().await;
            let works = visitor.send(Method::GET, "/Users/Me", Value::Null).await;
            (left, token, works.map(|answer| answer.status))
        });
        let note = self.happen(stage).await;
        let Ok((left, token, works)) = beside.await else { return note };
        stage.record_ended(left);
        match token {
            Ok(token) => {
                stage.fleet.record_token(&token);
                // What a proxy had no time to answer says nothing of the session.
                let is_cut_off = works.is_err() && self.is_of_proxy();
                if works != Ok(200) && !is_cut_off {
                    problems.push(format!("a client that logged in meanwhile got {works:?}"));
                }
            }
            Err(_) if self.allowed().failed_posts || self.is_of_proxy() => {}
            Err(why) => problems.push(format!("a log-in meanwhile failed: {why:?}")),
        }
        note
    }

    /// Whether the proxy itself is away meanwhile.
    fn is_of_proxy(self) -> bool {
        matches!(self, Fault::ReplicaKilled | Fault::DiskTakesNothing | Fault::StoreCorrupt | Fault::KilledInMidWrite)
    }
}
