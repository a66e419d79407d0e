//! Host and path give the pool.
