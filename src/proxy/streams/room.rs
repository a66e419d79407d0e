//! Room for streams: unused ones are forgotten, and nobody displaces those of others.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};

use super::{MOST, Stream, Streams};
use crate::jellyfin::Identity;

/// Seconds after which jellypin forgets an unused stream; fewer when there is no room.
const UNUSED: u32 = 600;

/// Seconds between two sweeps for unused streams.
const SWEEP: u32 = 30;

/// The most streams of one token. One household plays fewer at once.
const MOST_OF_ONE: usize = 16;

impl Streams {
    /// Forgets unused streams every `SWEEP` seconds. When there is no room, it runs at once, and
    /// forgets recently used ones as well.
    pub(super) fn sweep(&self) {
        let (now, swept) = (self.now(), self.swept.load(Ordering::Relaxed));
        let is_full = self.by_request.len() >= MOST || self.by_name.len() >= 2 * MOST;
        let is_due = now.saturating_sub(swept) >= SWEEP;
        if !is_full && !is_due || self.swept.compare_exchange(swept, now, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        self.forget_clients();
        for unused in [UNUSED, UNUSED / 10, 1, 0] {
            let is_kept = |stream: &Arc<Stream>| now.saturating_sub(stream.used.load(Ordering::Relaxed)) < unused;
            self.by_request.retain(|_, stream| is_kept(stream));
            self.by_name.retain(|_, stream| is_kept(stream));
            if self.by_request.len() < MOST && self.by_name.len() < 2 * MOST {
                return;
            }
        }
    }

    /// Forgets the least recently used stream of a client that has too many.
    pub(super) fn make_room(&self, request: u128, (identity, origin): (&Identity<'_>, IpAddr)) {
        let client = match identity.token.as_deref() {
            Some(token) => self.key([token.as_bytes(), b"", b"", b""]),
            None => self.key([b"", origin.to_string().as_bytes(), b"", b""]),
        };
        let mut own = self.by_client.entry(client).or_default();
        own.retain(|known| *known != request && self.by_request.contains_key(known));
        if own.len() >= MOST_OF_ONE {
            let used = |known: &u128| self.by_request.get(known).map(|stream| stream.used.load(Ordering::Relaxed));
            let oldest = (0..own.len()).min_by_key(|at| used(&own[*at])).unwrap_or_default();
            self.forget_one(own.remove(oldest));
        }
        own.push(request);
    }

    /// Forgets the clients whose streams are forgotten.
    fn forget_clients(&self) {
        self.by_client.retain(|_, own| own.iter().any(|known| self.by_request.contains_key(known)));
    }

    fn forget_one(&self, request: u128) {
        let Some((_, stream)) = self.by_request.remove(&request) else { return };
        let names = stream.state.lock().names.clone();
        for name in names {
            self.by_name.remove_if(&name, |_, named| Arc::ptr_eq(named, &stream));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use http::{HeaderValue, Request};

    use super::*;
    use crate::{
        forward::head::Client,
        jellyfin::playlist::Name,
        pod::{Pod, PodConfig, PodInstance},
        proxy::request::saved::SavedRequest,
    };

    fn insert(streams: &Streams, place: PodInstance, token: Option<&'static str>, request: u128) {
        let identity = Identity { token: token.map(Cow::Borrowed), ..Identity::default() };
        let (head, ()) = Request::new(()).into_parts();
        let origin = IpAddr::from([127, 0, 0, 1]);
        let client = Client {
            address: origin,
            address_text: HeaderValue::from_static("127.0.0.1"),
            over_tls: false,
            trusted: Arc::new([]),
            is_trusted: false,
            in_use: None,
        };
        let saved = SavedRequest { pool: 0, head, client, origin, is_upgrade: false };
        let name = Name::of(&format!("{request:032x}")).expect("a name");
        streams.insert(request, saved, &identity, place, name);
    }

    #[test]
    fn a_flood_of_one_client_displaces_no_other_clients_stream() {
        let config = PodConfig { name: "a".into(), authority: "h:1".into(), ..Default::default() };
        let place = PodInstance::of(&Pod::new(&"main".into(), &config));
        let streams = Streams::new((1, 2));
        insert(&streams, place, Some("bob"), 0);
        insert(&streams, place, None, 1);
        for request in 2..20_000 {
            insert(&streams, place, Some("mallory"), request);
        }
        assert!(streams.of_request(0).is_some() && streams.of_request(1).is_some());
        assert_eq!((streams.by_request.len(), streams.by_name.len()), (2 + MOST_OF_ONE, 2 + MOST_OF_ONE));
        assert!(streams.of_request(19_999).is_some() && streams.of_request(2).is_none());
        insert(&streams, place, Some("mallory"), 19_999);
        assert_eq!(streams.by_request.len(), 2 + MOST_OF_ONE, "the same stream again");
    }
}
