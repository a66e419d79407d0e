//! Nobody acts for anybody: whatever trick a request plays on two parsers, the API key does nothing for a caller without the right, and
//! nobody's session ends but his own.

mod attacks;
mod codes;
mod learning;
