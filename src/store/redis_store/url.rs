//! The address of Redis, as an operator writes it.

use std::fmt;

use redis::{ConnectionAddr, IntoConnectionInfo};

/// The address of Redis and its credentials. `Debug` shows no password.
#[derive(Clone)]
pub struct Url(pub(super) redis::ConnectionInfo);

impl Url {
    /// Reads `redis://[user][:password@]host[:port][/database]`, or the same with `rediss://` for
    /// TLS, or `unix://path`.
    ///
    /// # Errors
    /// What is wrong with the text, without quoting it: it may hold a password.
    pub fn parse(text: &str) -> Result<Url, &'static str> {
        const SCHEMES: [&str; 3] = ["redis://", "rediss://", "unix://"];
        if !SCHEMES.iter().any(|scheme| text.starts_with(scheme)) {
            return Err("a URL of Redis begins with `redis://`, `rediss://` or `unix://`");
        }
        if text.contains('#') {
            return Err("a fragment has no place in a URL of Redis; write a `#` of a password as `%23`");
        }
        let info =
            text.into_connection_info().map_err(|_| "not a URL of Redis; write one such as \"redis://host:6379\"")?;
        Ok(Url(info))
    }

    /// Whether it contains a password.
    pub fn has_password(&self) -> bool {
        self.0.redis_settings().password().is_some()
    }

    /// Whether it has a host: a socket of this machine has none.
    pub fn has_host(&self) -> bool {
        self.host().is_some()
    }

    /// The number of the database.
    pub fn database(&self) -> i64 {
        self.0.redis_settings().db()
    }

    /// Whether Redis is reached over TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.0.addr(), ConnectionAddr::TcpTls { .. })
    }

    /// The host; for sentinels the name of the service that they watch.
    pub(super) fn host(&self) -> Option<&str> {
        match self.0.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => Some(host),
            _ => None,
        }
    }
}

/// The same server, as the same user.
impl PartialEq for Url {
    fn eq(&self, other: &Url) -> bool {
        let settings = |url: &Url| {
            let settings = url.0.redis_settings();
            (settings.db(), settings.username().map(str::to_owned), settings.password().map(str::to_owned))
        };
        self.0.addr() == other.0.addr() && settings(self) == settings(other)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({})", self.0.addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_shows_no_password_and_is_refused_without_being_repeated() {
        let url = Url::parse("redis://me:hunter2@cache.example:7000/3").expect("a URL");
        assert_eq!(
            (format!("{url:?}"), url.has_password(), url.is_tls()),
            ("Url(cache.example:7000)".into(), true, false)
        );
        assert!(Url::parse("rediss://cache.example").expect("a URL").is_tls());
        assert!(!Url::parse("unix:///run/redis.sock").expect("a URL").has_password());
        for text in ["hunter2", "http://hunter2", "redis://:hunter2", "redis://:hunter2@h:x", "redis://:hunter2#@h"] {
            let problem = Url::parse(text).expect_err(text);
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }
}
