//! WebSockets are relayed as they are.
