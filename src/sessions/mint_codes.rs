//! QuickConnect codes of mints, and how jellypin keeps them apart from those of clients.
//!
//! A code has six digits, and a pod does not check whether it is in use. A newer request takes over
//! the code of an older one, and is authorized in its place. So a client that is given a mint's
//! code could be signed in as the mint's user. A mint therefore authorizes no code that a client
//! was given. Nor is a client given a code that a mint has just used. Two replicas that do both at
//! the same moment leave it to chance: 1 in 900,000.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::pod::PodId;

/// How long a mint's code is kept from clients. A pod answers a client's request from before the
/// mint's end much sooner.
const KEPT: Duration = Duration::from_secs(60);

/// Codes kept at once. A pod mints 43 to 68 sessions a second.
const MOST: usize = 8192;

/// The codes of the last minute's mints, the oldest first. Shared by all workers.
#[derive(Debug, Default)]
pub struct MintCodes(Mutex<std::collections::VecDeque<(Instant, PodId, Box<str>)>>);

impl MintCodes {
    /// Records that a mint is about to authorize this code.
    pub fn take(&self, pod: PodId, code: &str) {
        let mut codes = self.0.lock();
        let now = Instant::now();
        while codes.front().is_some_and(|(since, ..)| now.duration_since(*since) > KEPT) || codes.len() >= MOST {
            codes.pop_front();
        }
        codes.push_back((now, pod, code.into()));
    }

    /// Whether a mint has taken this code on this pod.
    pub fn is_taken(&self, pod: PodId, code: &str) -> bool {
        let codes = self.0.lock();
        codes
            .iter()
            .rev()
            .take_while(|(since, ..)| since.elapsed() <= KEPT)
            .any(|(_, at, taken)| *at == pod && **taken == *code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{Pod, PodConfig};

    #[tokio::test(start_paused = true)]
    async fn a_code_is_taken_on_its_pod_for_a_minute() {
        let pod = |name: &str| {
            Pod::new(&"pool".into(), &PodConfig { name: name.into(), authority: "h:1".into(), ..Default::default() }).id
        };
        let (codes, a, b) = (MintCodes::default(), pod("a"), pod("b"));
        codes.take(a, "123456");
        assert!(codes.is_taken(a, "123456") && !codes.is_taken(b, "123456") && !codes.is_taken(a, "654321"));
        tokio::time::advance(KEPT + Duration::from_secs(1)).await;
        assert!(!codes.is_taken(a, "123456"));
        for number in 0..2 * MOST {
            codes.take(a, &number.to_string());
        }
        assert_eq!(codes.0.lock().len(), MOST);
    }
}
