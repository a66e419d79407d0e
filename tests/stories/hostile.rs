//! Malformed and hostile requests harm nobody.
