//! Pods, proxies and clients of one run, each program in a process of its own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::Method;
use jellyfin_sim::Cluster;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, Person, elapse, until};
use crate::fleet::{Fleet, Pace};
use crate::link::Link;
use crate::pod::{PodProcess, PodProgram};
use crate::proxy::{Kind, Programs, Proxy, Surroundings};
use crate::redis_server::RedisServer;
use crate::tokens;

/// What is to stand there.
#[derive(Clone, Copy)]
pub struct Plan {
    pub kind: Kind,
    pub clients: usize,
    pub replicas: usize,
    /// Between proxies and pods, and between proxies and Redis.
    pub has_links: bool,
    pub has_redis: bool,
    /// Faults last as long as they do in earnest.
    pub is_full: bool,
    pub pace: Pace,
}

pub struct Stage {
    pub plan: Plan,
    pub pods: Vec<PodProcess>,
    /// To the pods, in their order.
    pub links: Vec<Link>,
    pub redis: Option<RedisServer>,
    /// To Redis, one for each proxy.
    pub redis_links: Vec<Link>,
    pub proxies: Vec<Proxy>,
    pub fleet: Fleet,
    /// Tokens that clients have logged out.
    ended: Vec<String>,
    extra: usize,
    folder: TempDir,
}

impl Stage {
    pub async fn set(plan: Plan, programs: &Programs, pod_program: &PodProgram) -> Stage {
        let folder = TempDir::with_prefix("fault-tables-").expect("a folder");
        let data = cluster_folder(folder.path());
        let cluster = Cluster::open(&data).expect("a cluster");
        let mut pods = Vec::new();
        for name in ["a", "b"] {
            pods.push(PodProcess::start(pod_program, name, &data, folder.path()).await);
        }
        let mut links = Vec::new();
        if plan.has_links {
            for pod in &pods {
                links.push(Link::to(pod.address).await);
            }
        }
        let redis = if plan.has_redis { Some(RedisServer::start(folder.path()).await) } else { None };
        let (mut redis_links, mut proxies) = (Vec::new(), Vec::new());
        for number in 0..plan.replicas {
            if let Some(redis) = &redis {
                redis_links.push(Link::to(redis.address).await);
            }
            let address = |(number, pod): (usize, &PodProcess)| {
                (pod.name, links.get(number).map_or(pod.address, |link| link.address))
            };
            let surroundings = Surroundings {
                pods: pods.iter().enumerate().map(address).collect(),
                folder: folder.path().to_owned(),
                api_key: cluster.api_key(),
                redis: redis_links.last().map(|link| link.address),
            };
            proxies.push(Proxy::start(plan.kind, programs, number, surroundings).await);
        }
        let doors: Vec<SocketAddr> = proxies.iter().map(|proxy| proxy.address).collect();
        let fleet = Fleet::start(plan.clients, plan.pace, &doors).await;
        Stage { plan, pods, links, redis, redis_links, proxies, fleet, ended: Vec::new(), extra: 0, folder }
    }

    /// How long a fault lasts: in the gate, and in the full size.
    pub fn lasts(&self, gate: f64, full: f64) -> Duration {
        Duration::from_secs_f64(if self.plan.is_full { full } else { gate })
    }

    /// How many times as long a pod's start takes as a recorded one.
    pub fn start_factor(&self) -> f64 {
        if self.plan.is_full { 1.0 } else { 0.1 }
    }

    /// The pod with the most sockets.
    pub async fn victim(&self) -> usize {
        let mut most = (0, 0);
        for (number, pod) in self.pods.iter().enumerate() {
            let sockets = pod.sockets().await;
            if sockets > most.0 {
                most = (sockets, number);
            }
        }
        most.1
    }

    /// Asks all pods' controls for something.
    pub async fn control_all(&self, path: &str) {
        for pod in &self.pods {
            pod.control(path).await;
        }
    }

    /// Waits until the first proxy thinks of a pod as this; jellypin alone says so.
    pub async fn until_state(&self, pod: usize, is: impl Fn(&str) -> bool) -> Duration {
        let began = Instant::now();
        if self.plan.kind == Kind::Jellypin {
            let proxy = &self.proxies[0];
            let what = format!("a change of pod {}", self.pods[pod].name);
            until(&what, 60.0, async || proxy.states().await.get(pod).is_some_and(|state| is(state))).await;
        }
        began.elapsed()
    }

    /// Waits until all proxies think that all pods are ready.
    pub async fn until_all_ready(&self) {
        for proxy in self.proxies.iter().filter(|proxy| proxy.kind == Kind::Jellypin) {
            until("all pods are ready", 60.0, async || {
                let states = proxy.states().await;
                states.len() == self.pods.len() && states.iter().all(|state| state == "ready")
            })
            .await;
        }
    }

    /// A further client, which has not logged in.
    pub fn next_visitor(&mut self, proxy: SocketAddr) -> Client {
        self.extra += 1;
        Client::new(proxy, Person::numbered(200 + self.extra, &format!("visitor-{}", self.extra)))
    }

    /// A further client, which has logged in.
    pub async fn newcomer(&mut self, door: usize) -> Result<Client, Option<u16>> {
        let proxy = self.proxies[door % self.proxies.len()].address;
        let mut client = self.next_visitor(proxy);
        let token = client.log_in().await?;
        self.fleet.record_token(&token);
        Ok(client)
    }

    /// These tokens were logged out, and that was confirmed: from then on they must be refused.
    pub fn record_ended(&mut self, token: Option<String>) {
        self.ended.extend(token);
    }

    /// How many of the ended tokens are taken by some proxy.
    pub async fn revived(&self) -> usize {
        let mut revived = BTreeSet::new();
        for proxy in &self.proxies {
            for token in &self.ended {
                let path = format!("/Users/Me?ApiKey={token}");
                let answer = Client::of_nobody(proxy.address).send(Method::GET, &path, Value::Null).await;
                if answer.is_ok_and(|answer| answer.status == 200) {
                    revived.insert(token);
                }
            }
        }
        revived.len()
    }

    /// How many tokens of clients stand in clear in files that proxies or Redis have written.
    pub async fn tokens_in_files(&self) -> usize {
        // What waits to be written is written within a second.
        elapse(Duration::from_millis(300)).await;
        let mut tokens = self.fleet.tokens();
        tokens.extend(Cluster::open(&cluster_folder(self.folder.path())).expect("the cluster").tokens());
        tokens::found_below(self.folder.path(), &tokens).len()
    }

    pub async fn strike(self) {
        self.fleet.stop().await;
    }
}

fn cluster_folder(folder: &Path) -> PathBuf {
    folder.join("cluster")
}
