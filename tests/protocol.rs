//! What clients may put on the wire: requests that try to be read in two ways, frames of HTTP/2, and WebSockets.
//!
//! The program itself runs before pods that record every byte.

mod protocol {
    mod frames;
    mod http2;
    mod pod;
    mod program;
    mod reading;
    mod smuggling;
    mod websocket;
    mod wire;
}
