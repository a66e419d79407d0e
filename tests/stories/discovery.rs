//! Pods are found by a name.
