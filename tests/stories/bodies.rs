//! Bodies pass as they are, both ways: byte for byte, as they come, no faster than they are taken, and no longer than both
//! sides are there.

mod compression;
mod disconnects;
mod early_answers;
mod expect;
mod framing;
mod http2;
mod large;
mod ranges;
mod replay;
