//! Lowers the pools with their pods, and the routes to them.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use crate::{
    config::{
        Environment,
        error::Fault,
        file::{Dns, Pod, Pool, Route, Scheme},
        names::Name,
        value::{Spanned, Table, Written},
    },
    discovery::{DnsConfig, PoolConfig},
    pod::{Check, PodConfig},
    route::{RouteConfig, Target, rules::Rules},
    sessions::PodKey,
    wake,
};

use super::{plain, routes, transport::OfPool};

/// Where secrets are read: the folder of the file, and the environment.
type Secrets<'a> = (&'a Path, &'a dyn Environment);

/// The pools in the order of their names, the routes in the order of the file, and what pods with
/// databases of their own need.
pub(super) struct Lowered {
    pub(super) pools: Vec<PoolConfig>,
    /// Those whose pods are not Jellyfin's.
    pub(super) plain: Vec<PoolConfig>,
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
        let check = plain::check(&table.inner)?;
        check_database(&table.inner, has_key)?;
        for (Written(Name(pod)), spanned) in std::mem::take(&mut table.inner.pods) {
            let (at, mut written) = (spanned.span(), spanned.into_inner());
            if let Some(key) = written.api_key.take() {
                let key = key.fetch_api_key(secrets.0, secrets.1)?;
                keys.push(PodKey { pool: name.clone(), pod: pod.clone(), key });
            }
            table.inner.pods.insert(Written(Name(pod)), Spanned::new(at, written));
        }
        pool(name, table, check, secrets)
    });
    let lowered = lowered.collect::<Result<Vec<_>, _>>()?;
    let (pools, plain): (Vec<_>, Vec<_>) = lowered.into_iter().partition(|pool| pool.check == Check::Jellyfin);
    let routes = match pools.as_slice() {
        [] => {
            return Err(Fault::new(0..0, "no pool; name the pods under [pools.main.pods]"));
        }
        [only] if routes.is_empty() && plain.is_empty() => vec![RouteConfig {
            host: None,
            path: "/".to_owned(),
            target: Target::Pool(only.name.clone()),
            rules: Rules::default(),
        }],
        _ if routes.is_empty() => {
            let problem = "several pools and no route; say under [[routes]] which requests go to which pool";
            return Err(Fault::new(0..0, problem));
        }
        some => routes::lower((some, &plain), routes, secrets.0)?,
    };
    Ok(Lowered { pools, plain, routes, separate, keys })
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

fn pool(
    name: String,
    Table { at, inner: pool }: Table<Pool>,
    check: Check,
    secrets: Secrets<'_>,
) -> Result<PoolConfig, Fault> {
    if pool.pods.is_empty() && pool.dns.is_none() {
        return Err(Fault::new(at, format!("no pods; name them under [pools.{name}.pods], or give `dns`")));
    }
    let names = pool.pods.iter().filter(|(_, pod)| pod.get_ref().standby).map(|(name, _)| name.0.0.clone());
    let standby: Vec<String> = names.collect();
    if standby.len() == pool.pods.len() && pool.dns.is_none() {
        return Err(Fault::new(at, "every pod has `standby = true`; one must serve"));
    }
    let is_https = |dns: &Table<Dns>| dns.inner.scheme.0 == Scheme::Https;
    let any_https = pool.pods.values().any(|pod| pod.get_ref().url.is_https) || pool.dns.as_ref().is_some_and(is_https);
    let of_pool = OfPool::new((pool.tls, pool.host), any_https, secrets.0)?;
    let (pods, wake) = pods(pool.pods, &of_pool, secrets)?;
    Ok(PoolConfig {
        name,
        standby,
        wake,
        base_path: pool.base_path.map(|path| path.into_inner().0.0).unwrap_or_default(),
        check,
        pods,
        dns: pool.dns.map(|table| dns(table, &of_pool)).transpose()?,
    })
}

/// The pods, and how those are woken that may sleep.
type Pods = (Vec<PodConfig>, Vec<(String, Arc<wake::Config>)>);

fn pods(
    written: BTreeMap<Written<Name>, Spanned<Pod>>,
    of_pool: &OfPool<'_>,
    secrets: Secrets<'_>,
) -> Result<Pods, Fault> {
    let mut names = HashMap::new();
    let (mut pods, mut sleepers) = (Vec::with_capacity(written.len()), Vec::new());
    for (Written(Name(name)), pod) in written {
        let at = pod.span();
        let Pod { url, wake, idle_after, tls, host, .. } = pod.into_inner();
        let own_name = url.is_https.then(|| url.host());
        let transport = of_pool.lower(own_name, (tls.as_ref(), host.as_ref()), &at)?;
        let authority = url.authority;
        if let Some(other) = names.insert(authority.clone(), name.clone()) {
            return Err(Fault::new(at, format!("the same address as pod `{other}`: {authority}")));
        }
        if let Some(wake) = super::wake::lower(wake, idle_after, secrets)? {
            sleepers.push((name.clone(), Arc::new(wake)));
        }
        pods.push(PodConfig { name, authority, transport });
    }
    Ok((pods, sleepers))
}

fn dns(Table { at, inner: dns }: Table<Dns>, of_pool: &OfPool<'_>) -> Result<DnsConfig, Fault> {
    let name = dns.name.0.0;
    let transport = of_pool.lower((dns.scheme.0 == Scheme::Https).then_some(&name), (None, None), &at)?;
    Ok(DnsConfig { name, port: dns.port.0 as u16, transport, every: dns.every.0 })
}
