//! What kind of Redis this is: whether it evicts entries, keeps them over its restart, or belongs
//! to a cluster.

use redis::{RedisResult, aio::MultiplexedConnection};

/// What `INFO` says of a Redis. `None` is what it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What Redis evicts when its memory is full: `noeviction` is nothing.
    pub policy: Option<String>,
    /// The most memory that it may use, in bytes; 0 means no bound.
    pub most_memory: u64,
    /// Entries survive its restart.
    pub is_kept: Option<bool>,
    pub is_cluster: bool,
}

impl Facts {
    pub(super) async fn of(connection: &mut MultiplexedConnection) -> RedisResult<Facts> {
        let mut info = String::new();
        for section in ["memory", "persistence", "cluster"] {
            info += &redis::cmd("INFO").arg(section).query_async::<String>(connection).await?;
        }
        // Users of a rented Redis may not read its configuration.
        let save: Option<Vec<String>> = redis::cmd("CONFIG").arg("GET").arg("save").query_async(connection).await.ok();
        Ok(Facts::read(&info, save.as_deref().and_then(|pair| pair.get(1)).map(String::as_str)))
    }

    fn read(info: &str, save: Option<&str>) -> Facts {
        let field = |name: &str| {
            let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned());
            info.lines().find_map(value)
        };
        let is_appended = field("aof_enabled").map(|is| is == "1");
        let is_kept = match (is_appended, save) {
            (Some(true), _) => Some(true),
            (_, Some(save)) => Some(!save.is_empty()),
            _ => None,
        };
        Facts {
            policy: field("maxmemory_policy"),
            most_memory: field("maxmemory").and_then(|bytes| bytes.parse().ok()).unwrap_or(0),
            is_kept,
            is_cluster: field("cluster_enabled").is_some_and(|is| is == "1"),
        }
    }

    /// Whether it evicts entries when its memory is full.
    pub fn evicts(&self) -> bool {
        self.policy.as_deref().is_some_and(|policy| policy != "noeviction")
    }

    /// What an operator should know, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut said = Vec::new();
        if let Some(policy) = self.policy.as_deref().filter(|_| self.evicts()) {
            said.push(format!(
                "Redis throws entries out when its memory is full (maxmemory-policy {policy}): replicas write again what they know of themselves; `noeviction` is better"
            ));
        }
        if self.is_kept == Some(false) {
            said.push(
                "Redis keeps nothing over its restart (no `appendonly`, no `save`): what no replica knows is lost then; `appendonly yes` is better".to_owned(),
            );
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kind_of_redis_it_is_stands_in_its_own_words() {
        let info = "# Memory\r\nmaxmemory:134217728\r\nmaxmemory_policy:allkeys-lru\r\n# Persistence\r\naof_enabled:0\r\ncluster_enabled:1\r\n";
        let facts = Facts::read(info, Some(""));
        assert!(facts.evicts() && facts.is_cluster && facts.is_kept == Some(false) && facts.most_memory == 128 << 20);
        assert_eq!(facts.warnings().len(), 2);
        let kept = Facts::read("maxmemory_policy:noeviction\r\naof_enabled:1\r\ncluster_enabled:0\r\n", None);
        assert!(!kept.evicts() && !kept.is_cluster && kept.is_kept == Some(true) && kept.warnings().is_empty());
        assert_eq!(Facts::read("aof_enabled:0\r\n", None).is_kept, None, "nobody says whether it takes snapshots");
    }
}
