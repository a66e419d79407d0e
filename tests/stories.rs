//! Stories: the whole proxy in process, simulated pods behind it, and one promise a test.

mod stories {
    mod affinity;
    mod bodies;
    mod carry_over;
    mod discovery;
    mod fail_over;
    mod farewell;
    mod handles;
    mod headers;
    mod health;
    mod hold;
    mod hostile;
    mod leader;
    mod learning;
    mod observe;
    mod one_server;
    mod process;
    mod quick_connect;
    mod re_pin;
    mod recorded_web;
    mod redis_server;
    mod replicas;
    mod rights;
    mod rolling;
    mod routes;
    mod single_sign_on;
    mod sockets;
    mod stop;
    mod sync_play;
    mod tls;
    mod wire;
    mod world;
}
