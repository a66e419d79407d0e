//! The Redis that replicas share.

use std::path::Path;

use crate::{
    config::{Environment, error::Fault, file::Redis},
    store::shared::Config,
};

pub(super) fn lower(redis: Redis, folder: &Path, environment: &dyn Environment) -> Result<Config, Fault> {
    let url = redis.url.fetch_url(folder, environment)?;
    if let Some(ca) = &redis.ca
        && !url.is_tls()
    {
        return Err(Fault::new(ca.span(), "authorities are for TLS; the URL begins with `rediss://` then"));
    }
    Ok(Config {
        url,
        ca: redis.ca.map(|ca| folder.join(ca.into_inner().0.0)),
        deadline: redis.deadline.0.0,
        prefix: redis.prefix.0.0,
        ttl: redis.ttl.0.0,
    })
}
