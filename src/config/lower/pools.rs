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
    pod::PodConfig,
    route::{RouteConfig, Target, rules::Rules},
    wake,
};

use super::{routes, transport::OfPool};

/// Where secrets are read: the folder of the file, and the environment.
type Secrets<'a> = (&'a Path, &'a dyn Environment);

/// Returns pools in the order of their names, and routes in the order of the file.
pub(super) fn lower(
    pools: BTreeMap<Written<Name>, Table<Pool>>,
    routes: Vec<Table<Route>>,
    secrets: Secrets<'_>,
) -> Result<(Vec<PoolConfig>, Vec<RouteConfig>), Fault> {
    let pools = pools.into_iter().map(|(name, table)| pool(name.0.0, table, secrets)).collect::<Result<Vec<_>, _>>()?;
    let routes = match pools.as_slice() {
        [] => {
            return Err(Fault::new(0..0, "no pool; name the pods under [pools.main.pods]"));
        }
        [only] if routes.is_empty() => vec![RouteConfig {
            host: None,
            path: "/".to_owned(),
            target: Target::Pool(only.name.clone()),
            rules: Rules::default(),
        }],
        [_, _, ..] if routes.is_empty() => {
            let problem = "several pools and no route; say under [[routes]] which requests go to which pool";
            return Err(Fault::new(0..0, problem));
        }
        some => routes::lower(some, routes)?,
    };
    Ok((pools, routes))
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
    let is_https = |dns: &Table<Dns>| dns.inner.scheme.0 == Scheme::Https;
    let any_https = pool.pods.values().any(|pod| pod.get_ref().url.is_https) || pool.dns.as_ref().is_some_and(is_https);
    let of_pool = OfPool::new((pool.tls, pool.host), any_https, secrets.0)?;
    let (pods, wake) = pods(pool.pods, &of_pool, secrets)?;
    Ok(PoolConfig {
        name,
        standby,
        wake,
        base_path: pool.base_path.map(|path| path.0.0).unwrap_or_default(),
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
