//! The faults that jellypin is held to, in lanes that run side by side.

use crate::fault::Fault;
use crate::fleet::Pace;
use crate::pod::PodProgram;
use crate::proxy::{Kind, Programs};
use crate::stage::{Plan, Stage};
use crate::table::Figures;

/// Faults that follow one another before one set of pods, proxies and clients.
#[derive(Clone, Copy)]
pub struct Lane {
    pub name: &'static str,
    replicas: usize,
    has_links: bool,
    has_redis: bool,
    /// In the gate, and those that the full size has besides.
    gate: &'static [Fault],
    more: &'static [Fault],
}

pub const LANES: [Lane; 4] = [
    Lane {
        name: "pods and their database",
        replicas: 1,
        has_links: false,
        has_redis: false,
        gate: &[Fault::PodKilled, Fault::PodHung, Fault::DatabaseStopped, Fault::DatabaseHung, Fault::PodDiskFull],
        more: &[
            Fault::PodTerminated,
            Fault::LeaderKilled,
            Fault::DatabaseSlow,
            Fault::PodSlow,
            Fault::AllRestarted,
            Fault::Overload,
        ],
    },
    Lane {
        name: "the network before a pod",
        replicas: 1,
        has_links: true,
        has_redis: false,
        gate: &[Fault::ResetInHead, Fault::HalfOpen, Fault::OtherServer, Fault::SlowAccept],
        more: &[Fault::ResetInBody, Fault::CutOff],
    },
    Lane {
        name: "Redis and replicas",
        replicas: 2,
        has_links: false,
        has_redis: true,
        gate: &[
            Fault::RedisKilled,
            Fault::RedisHung,
            Fault::RedisWrongTypes,
            Fault::RedisReadOnly,
            Fault::RedisCutFromOne,
            Fault::ReplicaKilled,
        ],
        more: &[Fault::RedisFlushed, Fault::RedisFull, Fault::RedisSlow],
    },
    Lane {
        name: "jellypin's disk",
        replicas: 1,
        has_links: false,
        has_redis: false,
        gate: &[Fault::DiskFull, Fault::StoreCorrupt, Fault::KilledInMidWrite],
        more: &[Fault::DiskTakesNothing],
    },
];

impl Lane {
    /// Runs its faults under so many clients: those of the gate, or all of them at their full length. `is_wanted` picks some.
    pub async fn run(
        self,
        clients: usize,
        is_full: bool,
        programs: &Programs,
        pod_program: &PodProgram,
        is_wanted: impl Fn(Fault) -> bool,
    ) -> Vec<Figures> {
        let more = self.more.iter().filter(|_| is_full);
        let faults: Vec<Fault> = self.gate.iter().chain(more).copied().filter(|fault| is_wanted(*fault)).collect();
        if faults.is_empty() {
            return Vec::new();
        }
        let Lane { replicas, has_links, has_redis, .. } = self;
        let plan = Plan { kind: Kind::Jellypin, clients, replicas, has_links, has_redis, is_full, pace: Pace::CALM };
        let mut stage = Stage::set(plan, programs, pod_program).await;
        let mut rows = Vec::new();
        for fault in faults {
            let row = fault.run(&mut stage).await;
            println!("{}: {}", row.fault.name(), row.saw);
            rows.push(row);
        }
        stage.strike().await;
        rows
    }
}
