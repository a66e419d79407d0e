//! What is written down of a request, and what is never written.
