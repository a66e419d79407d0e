//! The program itself: its flags, its exit codes, its signals.
