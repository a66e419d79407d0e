//! Lowers the settings by which the proxy finds each pool's leader.

use std::collections::{BTreeMap, HashMap};

use crate::{
    config::{
        error::Fault,
        file::{File, Leader, Pool, PoolKind, Redis},
        names::{LeaderPath, Name, WriterName, listed},
        value::{Table, Written},
    },
    leader::{Config, Mode, PoolConfig, naming::canonical, writer::WriterConfig},
};

pub(super) fn lower(
    leader: &Leader,
    redis: Option<&Table<Redis>>,
    pools: &BTreeMap<Written<Name>, Table<Pool>>,
) -> Result<Config, Fault> {
    let (mode, lease) = (leader.mode.get_ref().0, leader.lease.0.0);
    if matches!(mode, Mode::Follow | Mode::Elect) && redis.is_none() {
        let problem = "leaders are followed and elected through Redis; say in [redis] where it is";
        return Err(Fault::new(leader.mode.span(), problem));
    }
    let poll = leader.poll.get_ref().0;
    if poll > lease / 2 {
        return Err(Fault::new(
            leader.poll.span(),
            "more than half of `lease`; a lease would end before it is renewed",
        ));
    }
    let prefix = redis.map(|redis| redis.inner.prefix.0.0.as_str()).unwrap_or_default();
    let mut lowered: Vec<PoolConfig> = Vec::with_capacity(pools.len());
    let of_jellyfin = pools.iter().filter(|(_, pool)| pool.inner.kind.0 == PoolKind::Jellyfin);
    for (Written(Name(name)), Table { at, inner: pool }) in of_jellyfin {
        let key = match (mode, &pool.leader_key) {
            (Mode::Elect, _) => format!("{prefix}:leader:{name}"),
            (_, Some(key)) => key.get_ref().0.0.clone(),
            (_, None) => leader.key.0.0.clone(),
        };
        if let (Mode::Follow, Some(other)) = (mode, lowered.iter().find(|other| other.key == key)) {
            let at = pool.leader_key.as_ref().map_or(at.clone(), |key| key.span());
            let problem =
                format!("pool `{}` follows the same key {key:?}; give each a `leader_key` of its own", other.pool);
            return Err(Fault::new(at, problem));
        }
        let (instance_ids, writer) = (instance_ids(pool)?, writer(name, pool)?);
        if mode == Mode::Probe && writer == WriterConfig::Off {
            let problem = format!("the writer leads by `probe`, and `writer` of pool `{name}` is \"off\"");
            return Err(Fault::new(leader.mode.span(), problem));
        }
        lowered.push(PoolConfig { pool: name.clone(), key, instance_ids, writer });
    }
    let mut paths: Vec<String> = Vec::new();
    for path in &leader.paths {
        let Written(LeaderPath(text)) = path.get_ref();
        if paths.iter().any(|other| other.eq_ignore_ascii_case(text)) {
            return Err(Fault::new(path.span(), format!("{text:?} stands here twice")));
        }
        paths.push(text.clone());
    }
    Ok(Config { mode, lease, poll, paths, pools: lowered })
}

/// Whether the leader alone runs tasks. What is taken from the others must be kept.
pub(super) fn runs_tasks(file: &File) -> Result<bool, Fault> {
    let tasks = &file.leader.inner.tasks;
    let fault = |problem: &str| Err(Fault::new(tasks.span(), problem));
    match *tasks.get_ref() {
        true if file.jellyfin.inner.api_key.is_none() => {
            fault("pods let nobody change their tasks without [jellyfin] `api_key`")
        }
        true if file.state.inner.path.is_none() && file.redis.is_none() => {
            fault("a crash would lose the triggers that were taken; say in [state] or [redis] where they are kept")
        }
        true if file.state.inner.path.is_none() && file.affinity.inner.keys.is_empty() => fault(
            "a restart makes a new key, which does not open what [redis] keeps; set [affinity] `keys` or [state] `path`",
        ),
        true if file.pools.values().any(|pool| pool.inner.is_separate()) => {
            fault("pods with databases of their own each need their own tasks; see `database` of the pool")
        }
        is_on => Ok(is_on),
    }
}

/// A pod that is named must be one of the pool's, unless they come from DNS.
fn writer(pool_name: &str, pool: &Pool) -> Result<WriterConfig, Fault> {
    let Some(written) = &pool.writer else { return Ok(WriterConfig::default()) };
    let WriterName(writer) = &written.get_ref().0;
    let mut names = pool.pods.keys().map(|name| name.0.0.as_str());
    match writer {
        WriterConfig::Pod(name) if pool.dns.is_none() && !names.any(|known| known == name) => {
            let known = listed(pool.pods.keys().map(|name| name.0.0.as_str()));
            let problem = format!("no pod of pool `{pool_name}` is named {name:?}; its pods are {known}");
            Err(Fault::new(written.span(), problem))
        }
        writer => Ok(writer.clone()),
    }
}

fn instance_ids(pool: &Pool) -> Result<HashMap<String, String>, Fault> {
    let mut ids: HashMap<String, String> = HashMap::new();
    for (Written(Name(name)), pod) in &pool.pods {
        let Some(id) = &pod.get_ref().instance_id else { continue };
        let text = &id.get_ref().0.0;
        let same = |other: &&String| canonical(other) == canonical(text);
        if let Some((other, _)) = ids.iter().find(|(_, other)| same(other)) {
            return Err(Fault::new(id.span(), format!("the same instance id as pod `{other}`")));
        }
        ids.insert(name.clone(), text.clone());
    }
    Ok(ids)
}
