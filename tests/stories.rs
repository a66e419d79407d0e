//! Stories: the whole proxy in process, simulated pods behind it, and one promise a test.

mod stories {
    mod acme;
    mod affinity;
    mod autodiscovery;
    mod bodies;
    mod dashboard;
    mod discovery;
    mod fail_over;
    mod file_handles;
    mod headers;
    mod health;
    mod hold;
    mod hostile;
    mod leader;
    mod learn;
    mod limits;
    mod migration;
    mod observe;
    mod on_unauthorized;
    mod one_house;
    mod operators;
    mod overload;
    mod plain;
    mod pod_shutdown;
    mod pod_tls;
    mod process;
    mod quick_connect;
    mod recorded_web;
    mod redis_server;
    mod replicas;
    mod rights;
    mod rolling;
    mod routes;
    mod server_id;
    mod single_sign_on;
    mod single_writer;
    mod sockets;
    mod stop;
    mod sync_play;
    mod tls;
    mod wire;
    mod world;
}
