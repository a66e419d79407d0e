//! Several pods are one house: what is written through one is seen, heard and found through all.

mod remote_control;
mod sessions;
