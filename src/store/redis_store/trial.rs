//! Tries what the proxy needs of Redis, for `jellypin check`.

use super::{Config, Error, facts::Facts, is_refusal, link, server::Server};

/// What is wrong with a Redis that answers.
#[derive(Debug, Default)]
pub struct Trial {
    pub facts: Facts,
    /// The commands that its user may not run, with the server's error.
    pub refused: Vec<(&'static str, String)>,
}

/// Why Redis cannot be used now.
#[derive(Debug)]
pub struct CheckError {
    pub reason: String,
    /// Redis answers, but refuses.
    pub is_refusal: bool,
}

/// Whether Redis answers now, what kind it is, and what its user may not do. Leaves no data there.
pub async fn self_test(config: &Config) -> Result<Trial, CheckError> {
    try_all(config).await.map_err(|error| {
        let is_refusal = matches!(&error, Error::Client(error) if is_refusal(error));
        let reason = match error {
            Error::Client(error) => error.to_string(),
            other => other.to_string(),
        };
        CheckError { reason, is_refusal }
    })
}

/// The needed commands with harmless arguments. `{}` stands for a key that expires in a second.
const NEEDED: [(&str, &[&str]); 19] = [
    ("SET", &["{}", "1", "PX", "1000"]),
    ("GET", &["{}"]),
    ("MGET", &["{}"]),
    ("EXISTS", &["{}"]),
    ("STRLEN", &["{}"]),
    ("PTTL", &["{}"]),
    ("PEXPIRE", &["{}", "1000"]),
    ("DEL", &["{}"]),
    ("SCAN", &["0", "MATCH", "{}", "COUNT", "1"]),
    ("TIME", &[]),
    ("EVAL", &["return 1", "0"]),
    ("HSET", &["{}", "a", "1"]),
    ("HGET", &["{}", "a"]),
    ("HMGET", &["{}", "a"]),
    ("HGETALL", &["{}"]),
    ("HEXISTS", &["{}", "a"]),
    ("HDEL", &["{}", "a"]),
    ("PUBLISH", &["{}", ""]),
    ("INFO", &["memory"]),
];

/// Tries every needed command, and finds out what kind of Redis it is.
async fn try_all(config: &Config) -> Result<Trial, Error> {
    let mut connection = link::connect(&Server::new(config)?).await?;
    let mut trial = Trial::default();
    let facts = Facts::of(&mut connection).await;
    // In a cluster, the wrong node refuses every command.
    if let Ok(facts) = facts {
        trial.facts = facts;
        if trial.facts.is_cluster {
            return Ok(trial);
        }
    }
    let key = format!("{}:check:{}", config.prefix, std::process::id());
    for (name, arguments) in NEEDED {
        let mut command = redis::cmd(name);
        for argument in arguments {
            command.arg(if *argument == "{}" { key.as_str() } else { argument });
        }
        match command.query_async::<redis::Value>(&mut connection).await {
            Err(error) if is_refusal(&error) => trial.refused.push((name, reason(&error))),
            other => drop(other?),
        }
    }
    // Subscribing needs a connection and a permission of its own.
    let subscribed = async {
        let mut subscription = Server::new(config)?.client().await?.get_async_pubsub().await?;
        Ok::<_, Error>(subscription.subscribe(&format!("{}:changes", config.prefix)).await?)
    };
    match subscribed.await {
        Err(Error::Client(error)) if is_refusal(&error) => trial.refused.push(("SUBSCRIBE", reason(&error))),
        other => other?,
    }
    Ok(trial)
}

/// The server's error, with its code in front.
fn reason(error: &redis::RedisError) -> String {
    match (error.code(), error.to_string()) {
        (Some(code), text) if !text.contains(code) => format!("{code}: {text}"),
        (_, text) => text,
    }
}
