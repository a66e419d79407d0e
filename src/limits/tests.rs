//! Tables of what clients may have under way.

use super::*;

fn limits(in_all: u32, per_address: u32) -> Arc<Limits> {
    let most = Most { in_all, per_address };
    let config = Config {
        connections: most,
        handshakes: most,
        requests: most,
        holds: most,
        sockets: most,
        log_in: log_in::Config::default(),
    };
    Limits::new(config, Metrics::new())
}

#[tokio::test]
async fn each_address_has_its_limit_and_all_have_one_together() {
    let limits = limits(3, 2);
    let (one, two) = (limits.address([192, 0, 2, 1].into()), limits.address([192, 0, 2, 2].into()));
    let take = |of| limits.take(Kind::Requests, Some(of));
    let scope = |taken: Result<Permit, Exceeded>| taken.err().map(|exceeded| exceeded.scope);
    let held = [take(&one), take(&one)];
    assert!(held.iter().all(Result::is_ok));
    assert_eq!(scope(take(&one)), Some(Scope::Address));
    let third = take(&two);
    assert_eq!(scope(take(&two)), Some(Scope::All));
    assert_eq!(limits.take(Kind::Sockets, Some(&one)).err(), None, "another kind has limits of its own");
    drop(held);
    assert_eq!(scope(take(&two)), None, "what was refused counts nowhere");
    drop(third);
    assert!(limits.take(Kind::Requests, None).is_ok());
}

#[tokio::test]
async fn an_address_is_forgotten_with_its_last_permit() {
    let limits = limits(10, 10);
    for last in 0..200 {
        let address = limits.address([192, 0, 2, last].into());
        drop(limits.take(Kind::Requests, Some(&address)));
    }
    assert_eq!(limits.known_addresses(), 0);
    let address = limits.address([192, 0, 2, 1].into());
    let permit = limits.take(Kind::Requests, Some(&address));
    drop(address);
    assert_eq!(limits.known_addresses(), 1);
    drop(permit);
    assert_eq!(limits.known_addresses(), 0);
}

#[tokio::test]
async fn an_ipv6_client_cannot_choose_a_fresh_address() {
    let limits = limits(10, 1);
    let address = |last: u16| limits.address(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]));
    let held = limits.take(Kind::Connections, Some(&address(1)));
    assert!(held.is_ok() && limits.take(Kind::Connections, Some(&address(2))).is_err());
    let neighbour = limits.address(IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1]));
    assert!(limits.take(Kind::Connections, Some(&neighbour)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_logged_at_a_bounded_rate() {
    let limits = limits(1, 1);
    let times = || limits.times_to_log(Kind::Requests, Scope::All);
    assert_eq!(times(), Some(1));
    assert_eq!([times(), times()], [None, None]);
    assert_eq!(limits.times_to_log(Kind::Requests, Scope::Address), Some(1));
    tokio::time::advance(LOG_AGAIN).await;
    assert_eq!(times(), Some(3), "those between are logged together");
}
