//! Advice on configurations that work but are hardly intended.
//! The proxy logs it at the start, and `jellypin check` prints it.

use super::{Config, open_files};

/// Returns one sentence for each such setting.
pub(super) fn of(config: &Config) -> Vec<String> {
    let mut advice: Vec<String> = config
        .in_the_open
        .iter()
        .map(|what| format!("{what} stands in the configuration file itself; a `file` or an `env` hides it"))
        .collect();
    let mut say = |is_so: bool, sentence: &str| {
        if is_so {
            advice.push(sentence.to_owned());
        }
    };
    let (is_shared, is_kept, has_keys) =
        (config.redis.is_some(), config.state.is_some(), !config.affinity.keys.is_empty());
    // A single pod still knows its users after its restart.
    let has_several = config.pools.iter().any(|pool| pool.dns.is_some() || pool.pods.len() > 1);
    say(
        is_shared && !has_keys,
        "no [affinity] keys beside [redis]: replicas need the same keys to find each other's sessions",
    );
    say(
        !has_keys && !is_kept && !is_shared,
        "no [affinity] keys and no [state] path: a restart of the proxy makes a new key, and nothing that was kept under the old one is found",
    );
    say(
        has_several && config.migration.api_key.is_none(),
        "no [jellyfin] api_key: the other pods cannot be told of a dead pod's users, who wait for it and are logged out where it stays away",
    );
    say(
        has_several && config.keeps_in_step && config.migration.api_key.is_none(),
        "no [jellyfin] api_key: what is changed on one pod stays out of step on the others (edited and deleted items, pictures, libraries, settings, branding); `in_step = \"off\"` of [jellyfin] says that this is intended",
    );
    say(
        config.migration.api_key.is_some() && !is_shared && !is_kept,
        "no [redis] and no [state] path: a restart of the proxy forgets the sessions that migrated, and logs their users out",
    );
    say(
        config.forward.trusted.iter().any(|network| network.prefix_len() == 0),
        "[listen] trusted_proxies names everybody: any client can pretend to come from anywhere, also from the local network",
    );
    let (limit, connections) = (open_files::at_most(), config.limits.connections.in_all as usize);
    let wanted = connections.saturating_mul(2);
    say(
        limit < wanted,
        &format!(
            "{limit} open files are allowed at most, and [listen] max_connections = {connections} may take {wanted}: raise the hard limit (`ulimit -Hn`, `LimitNOFILE=`), or lower max_connections"
        ),
    );
    say(
        config.admin.listen.is_some_and(|address| !address.ip().to_canonical().is_loopback())
            && config.admin.token.is_none(),
        "[admin] listen is no loopback address, and there is no [admin] token: anyone who reaches it sees who is signed in, and can drain pods",
    );
    advice
}
