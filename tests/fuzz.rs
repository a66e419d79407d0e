//! Whatever strangers, pods and files say: nothing makes jellypin panic, and what it reads keeps its laws.
//!
//! Each target runs for a fixed time, and for `FUZZ_SECONDS` if that is set. What has failed once is kept in
//! `tests/fuzz/regressions` and comes first from then on.

mod fuzz {
    mod bodies;
    mod budget;
    mod heads;
    mod messages;
    mod stores;
}
