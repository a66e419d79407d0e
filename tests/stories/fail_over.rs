//! A pod dies, hangs or breaks off, and clients are served all the same.
