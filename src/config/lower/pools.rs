//! Lowers the pools with their pods, and the routes to them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use crate::{
    config::{
        Environment,
        error::Fault,
        file::{Dns, Pod, Pool, Route},
        names::{Name, did_you_mean, listed},
        value::{Spanned, Table, Written},
    },
    discovery::{DnsConfig, PoolConfig},
    pod::PodConfig,
    route::RouteConfig,
    sessions::PodKey,
    wake,
};

/// Where secrets are read: the folder of the file, and the environment.
type Secrets<'a> = (&'a Path, &'a dyn Environment);

/// The pools in the order of their names, the routes in the order of the file, and what pods with
/// databases of their own need.
pub(super) struct Lowered {
    pub(super) pools: Vec<PoolConfig>,
    pub(super) routes: Vec<RouteConfig>,
    /// The names of the pools whose pods have databases of their own.
    pub(super) separate: Vec<String>,
    pub(super) keys: Vec<PodKey>,
}

pub(super) fn lower(
    pools: BTreeMap<Written<Name>, Table<Pool>>,
    routes: Vec<Table<Route>>,
    has_key: bool,
    secrets: Secrets<'_>,
) -> Result<Lowered, Fault> {
    let separate = pools.iter().filter(|(_, pool)| pool.inner.is_separate()).map(|(name, _)| name.0.0.clone());
    let separate: Vec<String> = separate.collect();
    let mut keys = Vec::new();
    let lowered = pools.into_iter().map(|(Written(Name(name)), mut table)| {
        check_database(&table.inner, has_key)?;
        for (Written(Name(pod)), spanned) in std::mem::take(&mut table.inner.pods) {
            let (at, mut written) = (spanned.span(), spanned.into_inner());
            if let Some(key) = written.api_key.take() {
                let key = key.fetch_api_key(secrets.0, secrets.1)?;
                keys.push(PodKey { pool: name.clone(), pod: pod.clone(), key });
            }
            table.inner.pods.insert(Written(Name(pod)), Spanned::new(at, written));
        }
        pool(name, table, secrets)
    });
    let pools = lowered.collect::<Result<Vec<_>, _>>()?;
    let routes = match pools.as_slice() {
        [] => {
            return Err(Fault::new(0..0, "no pool; name the pods under [pools.main.pods]"));
        }
        [only] if routes.is_empty() => vec![RouteConfig { host: None, path: "/".to_owned(), pool: only.name.clone() }],
        [_, _, ..] if routes.is_empty() => {
            let problem = "several pools and no route; say under [[routes]] which requests go to which pool";
            return Err(Fault::new(0..0, problem));
        }
        some => routes_to(some, routes)?,
    };
    Ok(Lowered { pools, routes, separate, keys })
}

/// What pods with databases of their own need, and what they cannot have.
fn check_database(pool: &Pool, has_key: bool) -> Result<(), Fault> {
    let Some(database) = pool.database.as_ref().filter(|_| pool.is_separate()) else { return Ok(()) };
    let fault = |problem: &str| Err(Fault::new(database.span(), problem));
    if pool.dns.is_some() {
        return fault("pods of `dns` share a database; name each pod that has its own under `pods`");
    }
    if !has_key {
        return fault("users are found on the other pods by [jellyfin] `api_key`, which is missing");
    }
    if pool.writer.is_some() {
        return fault("each pod writes a catalogue of its own; `writer` is for pods with one database");
    }
    Ok(())
}

fn pool(name: String, Table { at, inner: pool }: Table<Pool>, secrets: Secrets<'_>) -> Result<PoolConfig, Fault> {
    if pool.pods.is_empty() && pool.dns.is_none() {
        return Err(Fault::new(at, format!("no pods; name them under [pools.{name}.pods], or give `dns`")));
    }
    let names = pool.pods.iter().filter(|(_, pod)| pod.get_ref().standby).map(|(name, _)| name.0.0.clone());
    let standby: Vec<String> = names.collect();
    if standby.len() == pool.pods.len() && pool.dns.is_none() {
        return Err(Fault::new(at, "every pod has `standby = true`; one must serve"));
    }
    let (pods, wake) = pods(pool.pods, secrets)?;
    Ok(PoolConfig {
        name,
        standby,
        wake,
        base_path: pool.base_path.map(|path| path.0.0).unwrap_or_default(),
        pods,
        dns: pool.dns.map(|table| dns(table.inner)),
    })
}

/// The pods, and how those are woken that may sleep.
type Pods = (Vec<PodConfig>, Vec<(String, Arc<wake::Config>)>);

fn pods(written: BTreeMap<Written<Name>, Spanned<Pod>>, secrets: Secrets<'_>) -> Result<Pods, Fault> {
    let mut names = HashMap::new();
    let (mut pods, mut sleepers) = (Vec::with_capacity(written.len()), Vec::new());
    for (Written(Name(name)), pod) in written {
        let at = pod.span();
        let Pod { url, wake, idle_after, .. } = pod.into_inner();
        let authority = url.0;
        if let Some(other) = names.insert(authority.clone(), name.clone()) {
            return Err(Fault::new(at, format!("the same address as pod `{other}`: {authority}")));
        }
        if let Some(wake) = super::wake::lower(wake, idle_after, secrets)? {
            sleepers.push((name.clone(), Arc::new(wake)));
        }
        pods.push(PodConfig { name, authority });
    }
    Ok((pods, sleepers))
}

fn dns(dns: Dns) -> DnsConfig {
    DnsConfig { name: dns.name.0.0, port: dns.port.0 as u16, every: dns.every.0 }
}

fn routes_to(pools: &[PoolConfig], routes: Vec<Table<Route>>) -> Result<Vec<RouteConfig>, Fault> {
    let mut seen = HashSet::new();
    let mut lowered = Vec::with_capacity(routes.len());
    for Table { at, inner: route } in routes {
        let names = || pools.iter().map(|pool| pool.name.as_str());
        let pool = route.pool.get_ref();
        if !names().any(|name| name == pool) {
            let hint = did_you_mean(pool, names()).unwrap_or_else(|| format!("the pools are {}", listed(names())));
            return Err(Fault::new(route.pool.span(), format!("no pool is named {pool:?}; {hint}")));
        }
        let host = route.host.map(|host| host.0.0);
        let path = route.path.map_or("/".to_owned(), |path| path.0.0);
        if !seen.insert((host.clone(), path.clone())) {
            let host = host.as_deref().unwrap_or("every host");
            return Err(Fault::new(at, format!("an earlier route takes {host} with path {path:?} already")));
        }
        lowered.push(RouteConfig { host, path, pool: route.pool.into_inner() });
    }
    Ok(lowered)
}
