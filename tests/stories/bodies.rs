//! Bodies pass as they are, both ways: byte for byte, as they come, no faster than they are taken, and no longer than both
//! sides are there.

mod again;
mod early;
mod expect;
mod framing;
mod http2;
mod large;
mod leaving;
mod ranges;
