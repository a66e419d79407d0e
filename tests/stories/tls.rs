//! Certificates, names and protocols of the TLS listener.
