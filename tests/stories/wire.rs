//! Both ends of the wire in a test's own hands: clients and pods that send bytes and read bytes, with the proxy between.

mod end;
mod pod;

use std::time::Duration;

pub(super) use end::{Answer, End, Ended, fields, within};
pub(super) use pod::{Call, Counter, HandPod};

use super::world::{Plan, World};

/// The time within which the proxy promises to tell one side that the other is gone.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// A world whose one pod is played by hand, and whose clients may be as well.
pub(super) fn before(pod: &HandPod) -> Plan {
    World::plan(0).pod("a", pod.address).uncounted()
}

/// A client's connection to the proxy.
pub(super) async fn client(world: &World) -> End {
    End::connect(world.proxy.address).await
}

/// Bytes that differ from place to place, so that what is lost, doubled or swapped shows.
pub(super) fn pattern(from: usize, count: usize) -> Vec<u8> {
    let (first, skipped) = (from / 8, from % 8);
    let words = (skipped + count).div_ceil(8);
    let mut bytes = Vec::with_capacity(words * 8);
    for word in first..first + words {
        // Word by word: byte by byte an unoptimized build takes seconds for what the large stories send.
        bytes.extend_from_slice(&(word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    bytes.drain(..skipped);
    bytes.truncate(count);
    bytes
}
