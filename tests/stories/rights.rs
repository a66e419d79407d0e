//! No caller acts for another user: whatever trick a request plays on two parsers, the API key does nothing
//! without the caller's right, and no session ends but the caller's own.

mod attacks;
mod codes;
mod learn;
