//! Bounds the bytes of replayed calls, for all clients and for each user.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use dashmap::DashMap;

/// Bytes of all replayed calls.
const MOST: usize = 32 << 20;

/// The bytes that replayed calls may take. Cheap to clone; the clones share one room.
#[derive(Clone, Debug)]
pub struct Room(Arc<Taken>);

/// What one session takes of the room. Dropping it gives the room back.
#[derive(Debug)]
pub(super) struct Share {
    room: Room,
    user: Box<str>,
    bytes: usize,
}

#[derive(Debug)]
struct Taken {
    most: usize,
    all: AtomicUsize,
    of_users: DashMap<Box<str>, usize, ahash::RandomState>,
}

impl Default for Room {
    fn default() -> Room {
        Room::of(MOST)
    }
}

impl Room {
    /// Room for `most` bytes in all, and a sixteenth of that for one user.
    pub fn of(most: usize) -> Room {
        Room(Arc::new(Taken { most, all: AtomicUsize::new(0), of_users: DashMap::default() }))
    }

    /// Bytes in use.
    pub fn taken(&self) -> usize {
        self.0.all.load(Ordering::Relaxed)
    }

    /// What one session of this user takes: nothing yet.
    pub(super) fn share(&self, user: &str) -> Share {
        Share { room: self.clone(), user: user.into(), bytes: 0 }
    }

    /// Changes what one session of this user takes, in bytes. Says whether there is room; shrinking
    /// always succeeds.
    fn change(&self, user: &str, before: usize, after: usize) -> bool {
        let taken = &*self.0;
        if after > before {
            let more = after - before;
            let mut of_user = taken.of_users.entry(user.into()).or_insert(0);
            if *of_user + more > taken.most / 16 || self.taken() + more > taken.most {
                let is_none = *of_user == 0;
                drop(of_user);
                if is_none {
                    taken.of_users.remove_if(user, |_, bytes| *bytes == 0);
                }
                return false;
            }
            *of_user += more;
            taken.all.fetch_add(more, Ordering::Relaxed);
        } else if before > after {
            let less = before - after;
            if let Some(mut of_user) = taken.of_users.get_mut(user) {
                *of_user = of_user.saturating_sub(less);
            }
            taken.of_users.remove_if(user, |_, bytes| *bytes == 0);
            taken.all.fetch_sub(less, Ordering::Relaxed);
        }
        true
    }
}

impl Share {
    /// Changes what the session takes. Says whether there is room; shrinking always succeeds.
    pub(super) fn set(&mut self, bytes: usize) -> bool {
        let has_room = self.room.change(&self.user, self.bytes, bytes);
        if has_room {
            self.bytes = bytes;
        }
        has_room
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.change(&self.user, self.bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_takes_a_sixteenth_and_what_is_given_back_is_free() {
        let room = Room::of(1600);
        assert!(room.change("a", 0, 100) && !room.change("a", 100, 101));
        assert!(room.change("b", 0, 100), "another has his own");
        assert!(room.change("a", 100, 40) && room.change("a", 40, 0));
        assert_eq!((room.taken(), room.0.of_users.len()), (100, 1));
        assert_eq!((0..100).filter(|user: &u32| room.change(&user.to_string(), 0, 100)).count(), 15);
        assert_eq!(room.taken(), 1600);
        assert!(!room.change("a", 0, 1));
    }
}
