//! Numbers by which replicas tell their messages apart.

pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness replicas may mistake each other's messages for their own; comparing helps.
    let _ = getrandom::fill(&mut bytes);
    u64::from_be_bytes(bytes)
}
