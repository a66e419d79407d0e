//! Lowers the routes.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use http::HeaderName;

use super::{auth, networks};
use crate::{
    config::{
        error::Fault,
        file::{FieldName, FieldValue, Route},
        names::{did_you_mean, listed},
        value::{Spanned, Table, Written},
    },
    discovery::PoolConfig,
    route::{
        RouteConfig, Target,
        rules::{HeaderChanges, Rules},
    },
};

/// Returns routes in the order of the file. `plain` are the pools whose pods are not Jellyfin's.
pub(super) fn lower(
    (pools, plain): (&[PoolConfig], &[PoolConfig]),
    routes: Vec<Table<Route>>,
    folder: &Path,
) -> Result<Vec<RouteConfig>, Fault> {
    let mut seen = HashSet::new();
    let mut lowered = Vec::with_capacity(routes.len());
    for Table { at, inner: route } in routes {
        let pool = route.pool.map(|pool| known(pools.iter().chain(plain), pool)).transpose()?;
        let target = match (route.redirect, pool) {
            (Some(to), _) => Target::Redirect(to.0.0),
            (None, Some(pool)) if plain.iter().any(|plain| plain.name == pool) => Target::Plain(pool),
            (None, Some(pool)) => Target::Pool(pool),
            (None, None) => return Err(Fault::new(at, "leads nowhere; give it a `pool` or a `redirect`")),
        };
        let host = route.host.map(|host| host.0.0);
        let path = route.path.map_or("/".to_owned(), |path| path.0.0);
        if matches!(&target, Target::Redirect(to) if *to == path) {
            return Err(Fault::new(at, "leads to itself"));
        }
        if !seen.insert((host.clone(), path.clone())) {
            let host = host.as_deref().unwrap_or("every host");
            return Err(Fault::new(at, format!("an earlier route takes {host} with path {path:?} already")));
        }
        let rules = Rules {
            allow: networks(route.allow),
            request: changes(route.request_headers),
            response: changes(route.response_headers),
            auth: auth::lower(route.basic_auth, route.forward_auth, matches!(target, Target::Plain(_)), folder)?,
        };
        lowered.push(RouteConfig { host, path, target, rules });
    }
    Ok(lowered)
}

fn known<'a>(pools: impl Iterator<Item = &'a PoolConfig> + Clone, pool: Spanned<String>) -> Result<String, Fault> {
    let names = || pools.clone().map(|pool| pool.name.as_str());
    let name = pool.get_ref();
    if !names().any(|known| known == name) {
        let hint = did_you_mean(name, names()).unwrap_or_else(|| format!("the pools are {}", listed(names())));
        return Err(Fault::new(pool.span(), format!("no pool is named {name:?}; {hint}")));
    }
    Ok(pool.into_inner())
}

fn changes(fields: BTreeMap<Written<FieldName>, Written<FieldValue>>) -> HeaderChanges {
    let change = |(name, value): (Written<FieldName>, Written<FieldValue>)| {
        // The name was read as one already.
        Some((HeaderName::try_from(name.0.0).ok()?, value.0.0))
    };
    HeaderChanges(fields.into_iter().filter_map(change).collect())
}
