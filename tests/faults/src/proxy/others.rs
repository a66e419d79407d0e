//! The other proxies, each set up for the same duties as its manual says: a sticky client, health checks each second, another try
//! elsewhere while nothing was answered, WebSockets.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;

use super::{Kind, Surroundings, words};

pub(super) fn arguments(kind: Kind, listen: SocketAddr, configuration: &OsStr) -> Vec<OsString> {
    let path = configuration.to_string_lossy();
    match kind {
        Kind::Jellypin => Vec::new(),
        Kind::Haproxy => words(&["-db", "-f", &path]),
        Kind::Nginx => words(&["-p", ".", "-e", "stderr", "-c", &path]),
        Kind::Traefik => words(&[
            &format!("--entryPoints.web.address={listen}"),
            &format!("--providers.file.filename={path}"),
            "--global.checkNewVersion=false",
            "--global.sendAnonymousUsage=false",
            "--log.level=ERROR",
        ]),
        Kind::Envoy => words(&["--concurrency", "1", "--use-dynamic-base-id", "-l", "error", "-c", &path]),
        Kind::Caddy => words(&["run", "--adapter", "caddyfile", "--config", &path]),
    }
}

pub(super) fn configuration(kind: Kind, listen: SocketAddr, surroundings: &Surroundings) -> String {
    let pods = |line: &dyn Fn(&str, SocketAddr) -> String| -> String {
        surroundings.pods.iter().map(|(name, address)| line(name, *address)).collect()
    };
    match kind {
        Kind::Jellypin => String::new(),
        Kind::Haproxy => HAPROXY
            .replace("LISTEN", &listen.to_string())
            .replace("PODS", &pods(&|name, address| format!("    server {name} {address} cookie {name}\n"))),
        Kind::Nginx => NGINX
            .replace("LISTEN", &listen.to_string())
            .replace("PODS", &pods(&|_, address| format!("server {address};\n"))),
        Kind::Traefik => {
            TRAEFIK.replace("PODS", &pods(&|_, address| format!("          - url: \"http://{address}\"\n")))
        }
        Kind::Envoy => ENVOY.replace("PORT", &listen.port().to_string()).replace(
            "PODS",
            &pods(&|_, address| {
                let port = address.port();
                format!(
                    "        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}\n"
                )
            }),
        ),
        Kind::Caddy => CADDY
            .replace("PORT", &listen.port().to_string())
            .replace("PODS", &pods(&|_, address| format!(" {address}"))),
    }
}

const HAPROXY: &str = "\
global
    nbthread 1
defaults
    mode http
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response response-timeout 503
    option http-keep-alive
    option forwardfor
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
frontend clients
    bind LISTEN
    default_backend pods
backend pods
    balance roundrobin
    cookie pod insert indirect nocache httponly
    option httpchk GET /health
    http-check expect string Healthy
    default-server check inter 1s fastinter 200ms fall 2 rise 1 observe layer4 error-limit 1 on-error mark-down on-marked-down shutdown-sessions
PODS";

// Without a cookie of its own in the free edition: by the client's address.
const NGINX: &str = "\
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path nginx-body;
    proxy_temp_path nginx-proxy;
    fastcgi_temp_path nginx-fastcgi;
    uwsgi_temp_path nginx-uwsgi;
    scgi_temp_path nginx-scgi;
    map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
    upstream pods {
        ip_hash;
        PODS
        keepalive 64;
    }
    server {
        listen LISTEN;
        location / {
            proxy_pass http://pods;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_buffering off;
            proxy_connect_timeout 2s;
            proxy_read_timeout 1h;
            proxy_next_upstream error timeout http_502 http_503;
        }
    }
}
";

const TRAEFIK: &str = "\
http:
  routers:
    all: {rule: \"PathPrefix(`/`)\", service: pods, entryPoints: [web], middlewares: [again]}
  middlewares:
    again: {retry: {attempts: 3, initialInterval: 100ms}}
  services:
    pods:
      loadBalancer:
        sticky: {cookie: {name: pod, httpOnly: true}}
        healthCheck: {path: /health, interval: 1s, timeout: 2s}
        servers:
PODS";

const ENVOY: &str = "\
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: PORT}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: clients
          upgrade_configs: [{upgrade_type: websocket}]
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
              - match: {prefix: \"/\"}
                route:
                  cluster: pods
                  timeout: 0s
                  retry_policy:
                    retry_on: connect-failure,refused-stream,reset
                    num_retries: 3
                    retry_host_predicate:
                    - name: envoy.retry_host_predicates.previous_hosts
                      typed_config: {\"@type\": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}
          http_filters:
          - name: envoy.filters.http.stateful_session
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSession
              session_state:
                name: envoy.http.stateful_session.cookie
                typed_config:
                  \"@type\": type.googleapis.com/envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState
                  cookie: {name: pod, path: /}
          - name: envoy.filters.http.router
            typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: pods
    type: STATIC
    connect_timeout: 2s
    health_checks:
    - {timeout: 2s, interval: 1s, unhealthy_threshold: 2, healthy_threshold: 1, http_health_check: {path: /health}}
    load_assignment:
      cluster_name: pods
      endpoints:
      - lb_endpoints:
PODS";

const CADDY: &str = "\
{
    admin off
    auto_https off
    persist_config off
}
http://:PORT {
    reverse_proxyPODS {
        lb_policy cookie pod
        lb_try_duration 5s
        lb_try_interval 100ms
        fail_duration 5s
        health_uri /health
        health_interval 1s
        health_timeout 2s
        health_body Healthy
    }
}
";
