//! Raises the limit of open files to the most that the system allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, and logs it.
pub(super) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return tracing::info!(open_files = limit(current), "as many open files are allowed as the system allows");
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => {
            tracing::info!(open_files = limit(maximum), before = limit(current), "more open files are allowed now")
        }
        Err(error) => {
            tracing::warn!(%error, open_files = limit(current), "the number of open files cannot be raised");
        }
    }
}

/// How many files this process may open once the limit is raised.
pub(super) fn at_most() -> usize {
    usize::try_from(limit(getrlimit(Resource::Nofile).maximum)).unwrap_or(usize::MAX)
}

/// `None` means "without a limit".
fn limit(number: Option<u64>) -> u64 {
    number.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert!(at_most() > 0);
    }
}
