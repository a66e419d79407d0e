//! Lowers the settings of the Redis that replicas share.

use std::path::Path;

use crate::{
    config::{Environment, error::Fault, file::Redis},
    store::redis_store::{Bounds, Config, Url},
};

pub(super) fn lower(redis: Redis, folder: &Path, environment: &dyn Environment) -> Result<Config, Fault> {
    let url = redis.url.fetch_url(folder, environment)?;
    let sentinels = redis.sentinels.iter().map(|sentinel| sentinel.fetch_url(folder, environment));
    let sentinels = sentinels.collect::<Result<Vec<_>, _>>()?;
    if !sentinels.is_empty() && !url.has_host() {
        return Err(redis.url.fault("with `sentinels`, the host of the URL is the name of their service"));
    }
    if let Some((_, odd)) = sentinels.iter().zip(&redis.sentinels).find(|(sentinel, _)| !sentinel.has_host()) {
        return Err(odd.fault("a sentinel has a host and a port; write one such as \"redis://host:26379\""));
    }
    if let Some(ca) = &redis.ca
        && !url.is_tls()
        && !sentinels.iter().any(Url::is_tls)
    {
        return Err(Fault::new(ca.span(), "authorities are for TLS; the URL begins with `rediss://` then"));
    }
    Ok(Config {
        url,
        sentinels,
        ca: redis.ca.map(|ca| folder.join(ca.into_inner().0.0)),
        deadline: redis.deadline.0.0,
        prefix: redis.prefix.0.0,
        ttl: redis.ttl.0.0,
        bounds: Bounds { keys: redis.max_keys.0 as usize, bytes: redis.max_memory.0.0 },
    })
}
