//! Every broken configuration is refused with its place and its problem, and no secret is told.

use std::{collections::HashMap, path::Path};

use jellypin::{
    app,
    config::{Environment, Error, load, parse},
};
use proptest::prelude::*;

/// Broken texts, and all that is said of each in the first line after `jellypin.toml:`. What a text lacks for a whole
/// configuration, a listener or a pool, is put behind it.
#[rustfmt::skip]
const BROKEN: &[(&str, &str)] = &[
    // Keys and types.
    ("[health]\nintervall = \"1s\"", "2:1: [health] intervall: unknown key; did you mean `interval`?"),
    ("[health]\n  rise = 2\n  raise = 2", "3:3: [health] raise: unknown key; did you mean `rise`?"),
    ("[state]\nfoo = 1", "2:1: [state] foo: unknown key; the keys here are `path`"),
    ("[helath]\nrise = 2", "1:2: [helath]: unknown table; did you mean `health`?"),
    ("wrokers = 2", "1:1: wrokers: unknown key; the keys here are `listen`, `tls`, `compression`, `admin`, `state`, `redis`, `jellyfin`, `pools`, `routes`, `timeouts`, `limits`, `health`, `drain`, `leader`, `affinity`, `websocket`, `autodiscovery`, `log`, `reload`"),
    ("[jellyfin]\napikey = \"x\"", "2:1: [jellyfin] apikey: unknown key; did you mean `api_key`?"),
    ("[jellyfin]\napi_key = \"no key\"", "2:11: [jellyfin] api_key: not an API key; Jellyfin's are made of 32 letters and digits"),
    ("[jellyfin]\nin_step = true", "2:11: [jellyfin] in_step: expected `on` or `off`, found a boolean"),
    ("[jellyfin]\nlegacy_authorization = \"yes\"", "2:24: [jellyfin] legacy_authorization: \"yes\" is none of `auto`, `on`, `off`"),
    ("[[route]]\npool = \"main\"", "1:3: route: unknown key; did you mean `routes`?"),
    ("[affinity.cookie]\nhttponly = true", "2:1: [affinity.cookie] httponly: unknown key; did you mean `http_only`?"),
    ("affinity = { cookie = { samesite = \"lax\" } }", "1:25: [affinity.cookie] samesite: unknown key; did you mean `same_site`?"),
    ("[log]\n\"ü\" = 1", "2:1: [log] \"ü\": unknown key; the keys here are `level`, `format`, `access`, `server_timing`"),
    ("health = [\"1s\"]", "1:10: health: expected a table, found a list"),
    ("health = 3", "1:10: health: expected a table, found a number"),
    ("pools = 1", "1:9: pools: expected a table, found a number"),
    ("[affinity.cookie]\nhttp_only = \"yes\"", "2:13: [affinity.cookie] http_only: expected `true` or `false`, found a string"),
    ("[log]\nlevel = true", "2:9: [log] level: expected log directives such as \"info\", found a boolean"),
    ("[log]\naccess = 1", "2:10: [log] access: expected `true`, `false` or the path of a file, found a number"),
    ("[affinity]\nkeys = \"k\"", "2:8: [affinity] keys: expected a list, found a string"),
    // The TOML itself.
    ("[health]\nrise = 1\nrise = 2", "3:1: [health] rise: given twice"),
    ("[health]\nrise = 1\n[health]\nfall = 1", "3:2: [health]: given twice"),
    ("[listen]\nhttp = 0.0.0.0:80", "2:11: not a value; text stands in quotes"),
    ("[log]\nlevel = info", "2:9: not a value; text stands in quotes"),
    ("[health]\ninterval = 10s", "2:12: not a value; text stands in quotes"),
    ("[listen\nhttp = \"\"", "1:8: unclosed table, expected `]`"),
    // Durations, sizes and numbers.
    ("[health]\ninterval = 10", "2:12: [health] interval: a bare number has no unit; write a duration such as \"10s\""),
    ("[limits]\npins = 1e3", "2:8: [limits] pins: expected a whole number from 1 to 100000000, found a number"),
    ("[health]\ninterval = 0.5", "2:12: [health] interval: a bare number has no unit; write a duration such as \"10s\""),
    ("[health]\ntimeout = \"10\"", "2:11: [health] timeout: \"10\" is not a duration; write one such as \"250ms\", \"10s\" or \"1m 30s\""),
    ("[timeouts]\nfirst_byte_media = \"60s\"", "2:1: [timeouts] first_byte_media: unknown key; the keys here are `connect`, `first_byte`, `first_byte_by_path`, `client_header`, `client_idle`, `client_body`, `client_stall`, `pod_idle`, `drain`, `hand_over`, `hold`, `queue`"),
    ("[timeouts]\nfirst_byte_by_path = { \"Items\" = \"1m\" }", "2:24: [timeouts.first_byte_by_path] Items: \"Items\" does not begin with `/`"),
    ("[timeouts]\nfirst_byte_by_path = { \"/Items\" = \"0s\" }", "2:35: [timeouts.first_byte_by_path] \"/Items\": must be more than 0"),
    ("[timeouts]\nfirst_byte = \"0s\"", "2:14: [timeouts] first_byte: must be more than 0"),
    ("[timeouts]\ndrain = \"0\"", "2:9: [timeouts] drain: must be more than 0"),
    ("[timeouts]\nconnect = \"99years\"", "2:11: [timeouts] connect: longer than ten years"),
    ("[websocket]\nidle_timeout = \"60s\"", "2:16: [websocket] idle_timeout: less than 75s; Jellyfin lets a living socket be silent for its keep-alive of 60s"),
    ("[websocket]\nping_interval = \"90s\"", "2:17: [websocket] ping_interval: not less than `idle_timeout`; peers would be given up before they are pinged"),
    ("[limits]\nreplay_body = 65536", "2:15: [limits] replay_body: a bare number has no unit; write a size such as \"64KiB\""),
    ("[limits]\nreplay_body = \"64\"", "2:15: [limits] replay_body: \"64\" is not a size; write one such as \"512B\", \"64KiB\" or \"1MiB\""),
    ("[limits]\nreplay_body = \"1GiB\"", "2:15: [limits] replay_body: out of bounds; write a size from 0B to 64MiB"),
    ("[limits]\npod_buffer = \"1KiB\"", "2:14: [limits] pod_buffer: out of bounds; write a size from 64KiB to 64MiB"),
    ("[limits]\nheader_bytes = \"4KiB\"", "2:16: [limits] header_bytes: out of bounds; write a size from 8KiB to 16MiB"),
    ("[limits]\nrequests_per_address = 0", "2:24: [limits] requests_per_address: 0 is out of bounds; write a whole number from 1 to 10000000"),
    ("[limits]\nsockets = \"many\"", "2:11: [limits] sockets: expected a whole number from 1 to 10000000, found a string"),
    ("[limits]\nhttp2_streams = 20000", "2:17: [limits] http2_streams: 20000 is out of bounds; write a whole number from 1 to 10000"),
    ("[limits]\nholds_per_adress = 1", "2:1: [limits] holds_per_adress: unknown key; did you mean `holds_per_address`?"),
    ("[limits.log_in]\nwindow = \"2days\"", "2:10: [limits.log_in] window: more than a day; a stranger would keep users out for so long"),
    ("[limits.log_in]\nwindow = 300", "2:10: [limits.log_in] window: a bare number has no unit; write a duration such as \"5m\""),
    ("[limits.log_in]\nper_user = 0", "2:12: [limits.log_in] per_user: 0 is out of bounds; write a whole number from 1 to 1000000"),
    ("[limits.log_in]\nprivate = true", "2:1: [limits.log_in] private: unknown key; the keys here are `enabled`, `window`, `per_user_at_address`, `per_address`, `per_user`, `private_addresses`"),
    ("[timeouts]\nclient_body = \"0s\"", "2:15: [timeouts] client_body: must be more than 0"),
    ("[admin]\nhosts = [\"*.example.org\"]", "2:10: [admin] hosts: \"*.example.org\" is no single host; write each by itself"),
    ("[admin]\nhosts = [\"jellypin:9096\"]", "2:10: [admin] hosts: \"jellypin:9096\" has a port; it is called at any port, write \"jellypin\""),
    ("[admin]\ntoken = \"short\"", "2:9: [admin] token: the secret is shorter than 16 bytes"),
    ("[limits]\nheaders = 0", "2:11: [limits] headers: 0 is out of bounds; write a whole number from 1 to 10000"),
    ("[limits]\npins = -1", "2:8: [limits] pins: -1 is out of bounds; write a whole number from 1 to 100000000"),
    ("[health]\nrise = 0", "2:8: [health] rise: 0 is out of bounds; write a whole number from 1 to 1000"),
    ("[health]\nfall = 0", "2:8: [health] fall: 0 is out of bounds; write a whole number from 1 to 1000"),
    ("[listen]\nworkers = \"2\"", "2:11: [listen] workers: expected a whole number from 1 to 1024, found a string"),
    ("[listen]\nworkers = 1.5", "2:11: [listen] workers: expected a whole number from 1 to 1024, found a number"),
    // Pods that leave.
    ("[drain]\nremoved = \"never\"", "2:11: [drain] removed: \"never\" is none of `idle`, `now`"),
    ("[drain]\nremoved = true", "2:11: [drain] removed: expected `idle` or `now`, found a boolean"),
    ("[drain]\nwithin = \"0s\"", "2:10: [drain] within: must be more than 0"),
    ("[drain]\nwhen = \"now\"", "2:1: [drain] when: unknown key; the keys here are `removed`, `within`, `absent`"),
    // What clients see of the server.
    ("[jellyfin]\nserver_id = \"abc\"", "2:13: [jellyfin] server_id: \"abc\" is not the id of a server; write its 32 hex digits without dashes"),
    ("[jellyfin]\nserver_id = \"01234567-89ab-cdef-0123-456789abcdef\"", "2:13: [jellyfin] server_id: \"01234567-89ab-cdef-0123-456789abcdef\" is not the id of a server; write its 32 hex digits without dashes"),
    ("[jellyfin]\nserver_id = 12", "2:13: [jellyfin] server_id: expected 32 hex digits, found a number"),
    ("[jellyfin]\nserver_id = \"0123456789abcdef0123456789abcdef\"\n[pools]\na.pods.p = \"http://h\"\nb.pods.p = \"http://h\"\n[[routes]]\npool = \"a\"", "2:13: [jellyfin] server_id: several pools, and each is a server of its own; leave it out, and each shows the id of its first pod"),
    ("[listen]\npublic_url = \"media.example.org\"", "2:14: [listen] public_url: a public URL begins with `https://` or `http://`"),
    ("[listen]\npublic_url = \"ftp://media.example.org\"", "2:14: [listen] public_url: a public URL begins with `https://` or `http://`"),
    ("[listen]\npublic_url = \"https://h/?a=b\"", "2:14: [listen] public_url: a query or fragment has no place in a public URL"),
    ("[listen]\npublic_url = \"https://me:hunter2@h\"", "2:14: [listen] public_url: a user name and password have no place in a public URL"),
    ("[listen]\npublic_url = \"https://h:99999\"", "2:14: [listen] public_url: \"99999\" is not a port; write a number from 1 to 65535"),
    ("[listen]\npublic_url = \"https://\"", "2:14: [listen] public_url: \"\" is not a host name"),
    ("[listen]\npublic_url = true", "2:14: [listen] public_url: expected a URL such as \"https://media.example.org\", found a boolean"),
    // Listeners.
    ("[listen]", "1:1: [listen]: nothing to listen on; give `http` or `https` of [listen] an address"),
    ("[health]\n[pools.main.pods]\na = \"http://h\"\n[listen]\nworkers = 1", "4:1: [listen]: nothing to listen on; give `http` or `https` of [listen] an address"),
    ("[listen]\nhttp = \"localhost:80\"", "2:8: [listen] http: \"localhost:80\" is not an address with a port; write one such as \"0.0.0.0:8096\" or \"[::]:8096\""),
    ("[listen]\nhttp = [\"0.0.0.0:80\", \"0.0.0.0\"]", "2:23: [listen] http: \"0.0.0.0\" is not an address with a port; write one such as \"0.0.0.0:8096\" or \"[::]:8096\""),
    ("[listen]\nhttp = 8096", "2:8: [listen] http: expected an address such as \"0.0.0.0:8096\", or a list of such, found a number"),
    ("[listen]\nhttp = [\"1.1.1.1:80\", \"1.1.1.1:80\"]", "2:23: [listen] http: 1.1.1.1:80 is listened on twice"),
    ("[admin]\nlisten = \"1.1.1.1:80\"\n[listen]\nhttp = \"1.1.1.1:80\"", "2:10: [admin] listen: 1.1.1.1:80 is listened on twice"),
    ("[listen]\nhttp = \"127.0.0.1:9096\"\nhttps = \"127.0.0.1:9096\"\ncertificates = [{ chain = \"c\", key = \"k\" }]", "3:9: [listen] https: 127.0.0.1:9096 is listened on twice"),
    ("[listen]\nhttp = [\"0.0.0.0:80\", \"[::]:80\"]", "2:23: [listen] http: [::]:80 takes IPv4 too; leave 0.0.0.0:80 out"),
    ("[listen]\nhttp = [\"[::]:80\", \"0.0.0.0:80\"]", "2:20: [listen] http: [::]:80 takes IPv4 too; leave 0.0.0.0:80 out"),
    ("[admin]\nlisten = \"on\"", "2:10: [admin] listen: \"on\" is not an address with a port; write one such as \"0.0.0.0:8096\" or \"[::]:8096\""),
    ("[listen]\nhttps = \"0.0.0.0:8920\"", "2:9: [listen] https: needs a certificate; name its files in `certificates`, or have one ordered by [tls.acme]"),
    ("[tls]\nredirect = \"on\"", "2:12: [tls] redirect: nothing is served over https; give `https` of [listen] an address"),
    ("[tls]\nredirect = \"yes\"", "2:12: [tls] redirect: \"yes\" is none of `off`, `on`, `except-discovery`"),
    ("[tls]\nhsts = \"1\"", "2:8: [tls] hsts: \"1\" is not a duration; write one such as \"250ms\", \"10s\" or \"1m 30s\""),
    ("[tls.acme]\ndomains = \"media.example.org\"", "1:1: [tls.acme]: a certificate serves `https` of [listen], which has no address"),
    ("[listen]\nhttps = \"0.0.0.0:443\"\n[tls.acme]\ndomains = \"media.example.org\"", "3:1: [tls.acme]: a certificate that is not kept is ordered at each start, which authorities refuse soon; give [state] a `path`"),
    ("[listen]\nhttps = \"0.0.0.0:443\"\n[tls.acme]\ndomains = \"*.example.org\"", "4:11: [tls.acme] domains: \"*.example.org\" is not a host name"),
    ("[compression]\nmin_size = 1", "2:12: [compression] min_size: a bare number has no unit; write a size such as \"64KiB\""),
    ("[listen]\nhttp = \"0.0.0.0:80\"\ncertificates = [{ chain = \"c\", key = \"k\" }]", "3:17: [[listen.certificates]]: certificates serve `https`, which has no address"),
    ("[listen]\ncertificates = [{ chain = \"c\" }]", "2:17: [[listen.certificates]]: missing key `key`"),
    ("[listen]\ncertificates = [{ chian = \"c\", key = \"\" }]", "2:19: [[listen.certificates]] chian: unknown key; did you mean `chain`?"),
    ("[listen]\ncertificates = [{ chain = \"c\", key = \"\" }]", "2:38: [[listen.certificates]] key: an empty path"),
    ("[listen]\ntrusted_proxies = \"10.0.0.0/33\"", "2:19: [listen] trusted_proxies: \"10.0.0.0/33\" is not a network; write one such as \"10.0.0.0/8\" or \"192.0.2.1\""),
    ("[listen]\ntrusted_proxies = [\"10.0.0.0/8\", \"10.0.0.0/33\"]", "2:34: [listen] trusted_proxies: \"10.0.0.0/33\" is not a network; write one such as \"10.0.0.0/8\" or \"192.0.2.1\""),
    // Pools and pods.
    ("# no pool\n[pools]", "1:1: no pool; name the pods under [pools.main.pods]"),
    ("[pools.main]\nbase_path = \"/jf\"", "1:1: [pools.main]: no pods; name them under [pools.main.pods], or give `dns`"),
    ("[pools.main.pods]", "1:8: [pools.main]: no pods; name them under [pools.main.pods], or give `dns`"),
    (
        "[pools.main.pods]\na = { url = \"http://h:1\", standby = true }",
        "1:8: [pools.main]: every pod has `standby = true`; one must serve",
    ),
    ("[pools.main]\ndatabase = \"own\"\n[pools.main.pods]\na = \"http://h:1\"", "2:12: [pools.main] database: \"own\" is none of `shared`, `separate`"),
    ("[pools.main]\ndatabase = \"separate\"\n[pools.main.pods]\na = \"http://h:1\"", "2:12: [pools.main] database: users are found on the other pods by [jellyfin] `api_key`, which is missing"),
    ("[pools.main]\ndatabase = \"separate\"\n[pools.main.dns]\nname = \"h\"\nport = 1", "2:12: [pools.main] database: pods of `dns` share a database; name each pod that has its own under `pods`"),
    ("[pools.main]\ndatabase = \"separate\"\nwriter = \"a\"\n[pools.main.pods]\na = \"http://h:1\"\n[jellyfin]\napi_key = \"0123456789abcdef0123456789abcdef\"", "2:12: [pools.main] database: each pod writes a catalogue of its own; `writer` is for pods with one database"),
    ("[pools.main.pods]\na = { url = \"http://h:1\", api_key = \"a b\" }", "2:37: [pools.main.pods.a] api_key: not an API key; Jellyfin's are made of 32 letters and digits"),
    ("[pools.main.pods]\na = \"http://h:1\"\na = \"http://h:2\"", "3:1: [pools.main.pods] a: given twice"),
    ("[pools.main.pods]\na = \"http://h:80\"\nb = { url = \"http://H/\" }", "3:5: [pools.main.pods.b]: the same address as pod `a`: h:80"),
    ("[pools.main.pods]\na = \"10.0.0.11:8096\"", "2:5: [pools.main.pods] a: a pod's URL begins with `http://` or `https://`; write `http://10.0.0.11:8096`"),
    ("[pools.main.pods]\na = { url = \"http://h\", tls = {} }", "2:31: [pools.main.pods.a.tls]: `tls` is for a URL that begins with `https://`"),
    ("[pools.main.pods]\na = { url = \"https://h\", tls = { ca = \"no.pem\" } }", "2:39: [pools.main.pods.a.tls] ca: /etc/jellypin/no.pem: No such file or directory (os error 2)"),
    ("[pools.main.pods]\na = { url = \"https://h\", tls = { pin = \"ab\" } }", "2:40: [pools.main.pods.a.tls] pin: not a fingerprint of 64 hex digits; `openssl x509 -noout -fingerprint -sha256 -in cert.pem` shows one"),
    ("[pools.main.pods]\na = { url = \"https://h\", host = \"a/b\" }", "2:33: [pools.main.pods.a] host: \"a/b\" is not a host name"),
    ("[pools.main]\ntls = { server_name = \"h\" }\npods.a = \"http://h\"", "2:7: [pools.main.tls]: no pod of this pool has a URL that begins with `https://`"),
    ("[pools.main]\ndns = { name = \"pods\", port = 1, scheme = \"ftp\" }", "2:43: [pools.main.dns] scheme: \"ftp\" is none of `http`, `https`"),
    ("[pools.main.pods]\na = \"ws://h\"", "2:5: [pools.main.pods] a: `ws://` is not spoken to pods; a pod's URL begins with `http://` or `https://`"),
    ("[pools.main.pods]\na = \"http://h:8096/base/\"", "2:5: [pools.main.pods] a: a path has no place in a pod's URL; write `base_path = \"/base\"` in its pool"),
    ("[pools.main.pods]\na = \"http://h:8096/?x=1\"", "2:5: [pools.main.pods] a: a query or fragment has no place in a pod's URL"),
    ("[pools.main.pods]\na = \"http://me:pw@h\"", "2:5: [pools.main.pods] a: a user name and password have no place in a pod's URL"),
    ("[pools.main.pods]\na = \"http://h:0\"", "2:5: [pools.main.pods] a: \"0\" is not a port; write a number from 1 to 65535"),
    ("[pools.main.pods]\na = \"http://h:\"", "2:5: [pools.main.pods] a: \"\" is not a port; write a number from 1 to 65535"),
    ("[pools.main.pods]\na = \"http://10.0.0.256\"", "2:5: [pools.main.pods] a: \"10.0.0.256\" is not an IPv4 address"),
    ("[pools.main.pods]\na = \"http://::1:80\"", "2:5: [pools.main.pods] a: an IPv6 address stands in brackets, as in \"http://[::1]:8096\""),
    ("[pools.main.pods]\na = \"http://[::g]:80\"", "2:5: [pools.main.pods] a: \"::g\" is not an IPv6 address"),
    ("[pools.main.pods]\na = \"http://a b\"", "2:5: [pools.main.pods] a: \"a b\" is not a host name"),
    ("[pools.main.pods]\na = \"http://\"", "2:5: [pools.main.pods] a: \"\" is not a host name"),
    ("[pools.main.pods]\na = 1", "2:5: [pools.main.pods] a: expected a URL such as \"http://10.0.0.11:8096\", or `{ url = \"…\" }`, found a number"),
    ("[pools.main.pods]\na = { uri = \"http://h\" }", "2:7: [pools.main.pods.a] uri: unknown key; did you mean `url`?"),
    ("[pools.main.pods]\na = {}", "2:5: [pools.main.pods.a]: missing key `url`"),
    ("[pools.main.pods]\n\"a b\" = \"http://h\"", "2:1: [pools.main.pods] \"a b\": a name is made of letters of ASCII, digits, `-`, `_` and `.`"),
    ("[pools.main]\nbase_path = \"jellyfin\"\npods.a = \"http://h\"", "2:13: [pools.main] base_path: \"jellyfin\" does not begin with `/`"),
    ("[pools.main]\nbase_path = \"/a?b\"", "2:13: [pools.main] base_path: \"/a?b\" is not a plain path: one of its characters cannot stand in it"),
    ("[pools.main]\ndns = { name = \"pods\" }", "2:7: [pools.main.dns]: missing key `port`"),
    ("[pools.main]\ndns = { name = \"10.0.0.1\", port = 1 }", "2:16: [pools.main.dns] name: \"10.0.0.1\" is no name; an address belongs under `pods`"),
    ("[pools.main]\ndns = { name = \"pods:8096\", port = 1 }", "2:16: [pools.main.dns] name: \"pods:8096\" has a port; it belongs in `port`"),
    ("[pools.main]\ndns = { name = \"pods\", port = 65536 }", "2:31: [pools.main.dns] port: 65536 is out of bounds; write a whole number from 1 to 65535"),
    // Routes.
    ("[[routes]]\npool = \"mian\"", "2:8: [[routes]] pool: no pool is named \"mian\"; did you mean `main`?"),
    ("[[routes]]\npool = \"films\"", "2:8: [[routes]] pool: no pool is named \"films\"; the pools are `main`"),
    ("[[routes]]\npath = \"/\"", "1:1: [[routes]]: leads nowhere; give it a `pool` or a `redirect`"),
    ("[pools.a.pods]\np = \"http://h\"\n[pools.b.pods]\np = \"http://h\"", "1:1: several pools and no route; say under [[routes]] which requests go to which pool"),
    ("[[routes]]\nhost = \"A.org\"\npath = \"/x/\"\npool = \"main\"\n[[routes]]\nhost = \"a.org\"\npath = \"/x\"\npool = \"main\"", "5:1: [[routes]]: an earlier route takes a.org with path \"/x\" already"),
    ("routes = [{ pool = \"main\" }, { path = \"/\", pool = \"main\" }]", "1:30: [[routes]]: an earlier route takes every host with path \"/\" already"),
    ("[[routes]]\npath = \"/x\"\nredirect = \"/x/\"", "1:1: [[routes]]: leads to itself"),
    ("[[routes]]\nredirect = \"//evil.org\"", "2:12: [[routes]] redirect: write a URL with a host, or a path below `/`; query and path of the request follow by themselves"),
    ("[[routes]]\npool = \"main\"\nallow = \"10.0.0.0/33\"", "3:9: [[routes]] allow: \"10.0.0.0/33\" is not a network; write one such as \"10.0.0.0/8\" or \"192.0.2.1\""),
    ("[[routes]]\npool = \"main\"\nrequest_headers = { Host = \"h\" }", "3:21: [routes.request_headers] Host: `host` is not to be changed: messages or log-ins would break"),
    // Pools that are not Jellyfin's.
    ("[pools.main]\nkind = \"tcp\"\npods.a = \"http://h\"", "2:8: [pools.main] kind: \"tcp\" is none of `jellyfin`, `http`"),
    ("[pools.main]\nhealth_path = \"/x\"\npods.a = \"http://h\"", "2:15: [pools.main] health_path: Jellyfin's own health page is asked; this is for `kind = \"http\"`"),
    ("[pools.main]\nkind = \"http\"\npods.a = \"http://h\"", "1:1: no pool; name the pods under [pools.main.pods]"),
    ("[pools.x]\nkind = \"http\"\nbase_path = \"/x\"\npods.a = \"http://h\"", "3:13: [pools.x] base_path: `base_path` is for Jellyfin's pods, and this pool has other ones"),
    ("[pools.x]\nkind = \"http\"\nwriter = \"off\"\npods.a = \"http://h\"", "3:10: [pools.x] writer: `writer` is for Jellyfin's pods, and this pool has other ones"),
    ("[pools.x]\nkind = \"http\"\npods.a = { url = \"http://h\", standby = true }", "3:10: [pools.x.pods.a]: `standby` is for Jellyfin's pods, and this pool has other ones"),
    ("[pools.x]\nkind = \"http\"\npods.a = { url = \"http://h\", instance_id = \"i\" }", "3:44: [pools.x.pods.a] instance_id: `instance_id` is for Jellyfin's pods, and this pool has other ones"),
    ("[pools.a]\npods.p = \"http://h\"\n[pools.x]\nkind = \"http\"\npods.a = \"http://h\"", "1:1: several pools and no route; say under [[routes]] which requests go to which pool"),
    ("[[routes]]\npool = \"main\"\nbasic_auth = { file = \"users\" }", "3:14: [routes.basic_auth]: `basic_auth` is for a route to a pool of `kind = \"http\"`: Jellyfin's apps cannot answer it, and Jellyfin asks by itself"),
    ("[[routes]]\nredirect = \"/x\"\nforward_auth = { address = \"http://h/\" }", "3:16: [routes.forward_auth]: `forward_auth` is for a route to a pool of `kind = \"http\"`: Jellyfin's apps cannot answer it, and Jellyfin asks by itself"),
    ("[pools]\na.pods.p = \"http://h\"\nx = { kind = \"http\", pods.p = \"http://h\" }\n[[routes]]\npool = \"x\"\nbasic_auth = {}", "6:14: [routes.basic_auth]: nobody could come in; give `users` or a `file` of them"),
    ("[pools]\na.pods.p = \"http://h\"\nx = { kind = \"http\", pods.p = \"http://h\" }\n[[routes]]\npool = \"x\"\nbasic_auth = { file = \"none\" }", "6:23: [routes.basic_auth] file: /etc/jellypin/none: No such file or directory (os error 2)"),
    ("[pools]\na.pods.p = \"http://h\"\nx = { kind = \"http\", pods.p = \"http://h\" }\n[[routes]]\npool = \"x\"\nbasic_auth = { users = \"alice:hunter2\" }", "6:24: [routes.basic_auth] users: the hash after `:` is neither bcrypt's nor argon2's; `htpasswd -nB alice` makes one"),
    ("[[routes]]\npool = \"main\"\nforward_auth = { address = \"h/verify\" }", "3:28: [routes.forward_auth] address: not a URL"),
    ("[[routes]]\npool = \"main\"\nforward_auth = { address = \"http://h/\", copy_headers = [\"Cookie\"] }", "3:57: [routes.forward_auth] copy_headers: `cookie` is not to be changed: messages would break"),
    ("[[routes]]\nhost = \"a.org:443\"\npool = \"main\"", "2:8: [[routes]] host: \"a.org:443\" has a port; a route takes every port, write \"a.org\""),
    ("[[routes]]\nhost = \"https://a.org/\"\npool = \"main\"", "2:8: [[routes]] host: a URL; write the host alone: \"a.org\""),
    ("[[routes]]\nhost = \"a.org/x\"\npool = \"main\"", "2:8: [[routes]] host: \"a.org/x\" has a path; it belongs in the route's `path`"),
    ("[[routes]]\nhost = \"a.*.org\"\npool = \"main\"", "2:8: [[routes]] host: \"a.*.org\" is not a host name"),
    ("[[routes]]\npath = \"x\"\npool = \"main\"", "2:8: [[routes]] path: \"x\" does not begin with `/`"),
    // Affinity.
    ("[affinity]\nkeys = [{ file = \"/no/such/file\" }]", "2:9: [[affinity.keys]]: \"/no/such/file\" cannot be read: No such file or directory (os error 2)"),
    ("[affinity]\nkeys = [{ env = \"UNSET\" }]", "2:9: [[affinity.keys]]: the environment variable \"UNSET\" is not set"),
    ("[affinity]\nkeys = [{ env = \"EMPTY\" }]", "2:9: [[affinity.keys]]: the secret is empty"),
    ("[affinity]\nkeys = [{ env = \"SHORT\" }]", "2:9: [[affinity.keys]]: the secret is shorter than 16 bytes"),
    ("[affinity]\nkeys = [{ env = \"GOOD\" }, \"short\"]", "2:27: [affinity] keys: the secret is shorter than 16 bytes"),
    ("[affinity]\nkeys = [{ env = \"GOOD\", file = \"f\" }]", "2:9: [[affinity.keys]]: a secret is found by either `file` or `env`"),
    ("[affinity]\nkeys = [{ fiel = \"f\" }]", "2:11: [[affinity.keys]] fiel: unknown key; did you mean `file`?"),
    ("[affinity]\nkeys = [1]", "2:9: [affinity] keys: expected a secret, `{ file = \"…\" }` or `{ env = \"…\" }`, found a number"),
    ("[affinity.cookie]\nname = \"a b\"", "2:8: [affinity.cookie] name: \"a b\" is no name for a cookie; use letters of ASCII, digits, `-` and `_`"),
    ("[affinity.cookie]\npath = \"x\"", "2:8: [affinity.cookie] path: \"x\" does not begin with `/`"),
    ("[affinity.cookie]\npath = \"/;x\"", "2:8: [affinity.cookie] path: \"/;x\" has a character that a cookie's path cannot have"),
    ("[affinity.cookie]\ndomain = \".example.org\"", "2:10: [affinity.cookie] domain: \".example.org\" is not a host name"),
    ("[affinity.cookie]\nmax_age = \"500ms\"", "2:11: [affinity.cookie] max_age: a cookie's age counts in whole seconds"),
    ("[affinity.cookie]\nsame_site = \"no\"", "2:13: [affinity.cookie] same_site: \"no\" is none of `strict`, `lax`, `none`"),
    ("[affinity.cookie]\nsame_site = \"none\"", "2:13: [affinity.cookie] same_site: browsers drop a `SameSite=None` cookie that is not `Secure`; set `secure = \"always\"`"),
    ("[affinity.cookie]\npartitioned = true", "2:15: [affinity.cookie] partitioned: browsers drop a partitioned cookie that is not `Secure`; set `secure = \"always\"`"),
    ("[affinity.cookie]\nname = \"__Host-j\"", "2:8: [affinity.cookie] name: browsers drop a cookie of this name that is not `Secure`; set `secure = \"always\"`"),
    ("[affinity.cookie]\nname = \"__Host-j\"\nsecure = \"always\"\npath = \"/x\"", "2:8: [affinity.cookie] name: browsers take a `__Host-` cookie only with `path = \"/\"` and without `domain`"),
    // Redis.
    ("[redis]\nttl = \"3h\"", "1:1: [redis]: missing key `url`"),
    ("[redis]\nurl = \"http://h\"", "2:7: [redis] url: a URL of Redis begins with `redis://`, `rediss://` or `unix://`"),
    ("[redis]\nurl = \"redis://h:x\"", "2:7: [redis] url: not a URL of Redis; write one such as \"redis://host:6379\""),
    ("[redis]\nurl = \"redis://:a#b@h\"", "2:7: [redis] url: a fragment has no place in a URL of Redis; write a `#` of a password as `%23`"),
    ("[redis]\nurl = { env = \"UNSET\" }", "2:7: [redis.url]: the environment variable \"UNSET\" is not set"),
    ("[redis]\nurl = { file = \"/no/such/file\" }", "2:7: [redis.url]: \"/no/such/file\" cannot be read: No such file or directory (os error 2)"),
    ("[redis]\nurl = \"redis://h\"\nca = \"ca.pem\"", "3:6: [redis] ca: authorities are for TLS; the URL begins with `rediss://` then"),
    ("[redis]\nurl = \"redis://h\"\ndeadline = \"2s\"", "3:12: [redis] deadline: more than 1s; requests wait for it"),
    ("[redis]\nurl = \"redis://h\"\nttl = \"90m\"", "3:7: [redis] ttl: less than 2h; a pin in use is renewed once an hour"),
    ("[redis]\nurl = \"redis://h\"\nmax_keys = 10", "3:12: [redis] max_keys: 10 is out of bounds; write a whole number from 1000 to 100000000"),
    ("[redis]\nurl = \"redis://h\"\nmax_memory = \"64KiB\"", "3:14: [redis] max_memory: out of bounds; write a size from 1MiB to 1024MiB"),
    ("[redis]\nurl = \"redis://h\"\nmax_memory = 48", "3:14: [redis] max_memory: a bare number has no unit; write a size such as \"64KiB\""),
    ("[limits]\nsessions_per_user = 0", "2:21: [limits] sessions_per_user: 0 is out of bounds; write a whole number from 1 to 100000"),
    ("[limits]\nnotes = \"1KiB\"", "2:9: [limits] notes: out of bounds; write a size from 1MiB to 1024MiB"),
    ("[limits]\ntombstones = 10", "2:14: [limits] tombstones: 10 is out of bounds; write a whole number from 1000 to 10000000"),
    ("[limits]\ntombstone_keep = \"1day\"", "2:18: [limits] tombstone_keep: less than 7days; a pod may be away for as long and still know the token"),
    ("[redis]\nurl = \"redis://h\"\nprefix = \"a b\"", "3:10: [redis] prefix: a prefix is made of letters of ASCII, digits, `-`, `_`, `.` and `:`"),
    ("[redis]\nurl = \"redis://h\"\nprefix = \"\"", "3:10: [redis] prefix: an empty prefix"),
    ("[redis]\nurl = \"redis://h\"\nurls = 1", "3:1: [redis] urls: unknown key; did you mean `url`?"),
    ("[redis]\nurl = \"unix:///run/redis.sock\"\nsentinels = [\"redis://h:26379\"]", "2:7: [redis] url: with `sentinels`, the host of the URL is the name of their service"),
    ("[redis]\nurl = \"redis://mymaster\"\nsentinels = [\"unix:///s\"]", "3:14: [redis] sentinels: a sentinel has a host and a port; write one such as \"redis://host:26379\""),
    ("[redis]\nurl = \"redis://mymaster\"\nsentinels = [\"h:26379\"]", "3:14: [redis] sentinels: a URL of Redis begins with `redis://`, `rediss://` or `unix://`"),
    ("[redis]\nurl = \"redis://mymaster\"\nsentinels = \"redis://h\"", "3:13: [redis] sentinels: expected a list, found a string"),
    // Leaders.
    ("[leader]\nmode = \"follow\"", "2:8: [leader] mode: leaders are followed and elected through Redis; say in [redis] where it is"),
    ("[leader]\nkey = \"k\"\nmode = \"elect\"", "3:8: [leader] mode: leaders are followed and elected through Redis; say in [redis] where it is"),
    ("[leader]\nmode = \"raft\"", "2:8: [leader] mode: \"raft\" is none of `local`, `follow`, `elect`, `probe`"),
    ("[pools.main.pods]\np = { url = \"http://h\", wake = { } }", "2:32: [pools.main.pods.p.wake]: no way to wake the pod; give `mac`, `command` or `url`"),
    ("[pools.main.pods]\np = { url = \"http://h\", wake = { mac = \"02:00\" } }", "2:40: [pools.main.pods.p.wake] mac: \"02:00\" is not a MAC address; write one such as \"02:00:5e:10:00:07\""),
    ("[pools.main.pods]\np = { url = \"http://h\", wake = { url = \"ftp://h/\" } }", "2:40: [pools.main.pods.p.wake] url: a URL begins with `http://` or `https://` and a host"),
    ("[pools.main.pods]\np = { url = \"http://h\", wake = { mac = \"02:00:5e:10:00:07\" }, idle_after = \"1h\" }", "2:76: [pools.main.pods.p] idle_after: nothing lets the pod sleep; give its `wake` a `command` or a `url`"),
    ("[leader]\ntasks = true", "2:9: [leader] tasks: pods let nobody change their tasks without [jellyfin] `api_key`"),
    ("[leader]\ntasks = true\n[jellyfin]\napi_key = \"0123456789abcdef0123456789abcdef\"", "2:9: [leader] tasks: a crash would lose the triggers that were taken; say in [state] or [redis] where they are kept"),
    ("[leader]\ntasks = true\n[redis]\nurl = \"redis://h\"\n[jellyfin]\napi_key = \"0123456789abcdef0123456789abcdef\"", "2:9: [leader] tasks: a restart makes a new key, which does not open what [redis] keeps; set [affinity] `keys` or [state] `path`"),
    ("[leader]\ntasks = true\n[state]\npath = \"s\"\n[jellyfin]\napi_key = \"0123456789abcdef0123456789abcdef\"\n[pools.main]\ndatabase = \"separate\"", "2:9: [leader] tasks: pods with databases of their own each need their own tasks; see `database` of the pool"),
    ("[leader]\nmod = \"local\"", "2:1: [leader] mod: unknown key; did you mean `mode`?"),
    ("[leader]\nkey = \"\"", "2:7: [leader] key: is empty"),
    ("[leader]\nkey = \"a b\"", "2:7: [leader] key: a key is made of letters of ASCII, digits and signs, without spaces"),
    ("[leader]\nkey = 1", "2:7: [leader] key: expected a key such as \"jellyfin:task-leader\", found a number"),
    ("[leader]\npaths = \"/api\"", "2:9: [leader] paths: expected a list, found a string"),
    ("[leader]\npaths = [\"api\"]", "2:10: [leader] paths: \"api\" does not begin with `/`"),
    ("[leader]\npaths = [\"/\"]", "2:10: [leader] paths: every request; then no other pod would serve anybody"),
    ("[leader]\npaths = [\"/api?x\"]", "2:10: [leader] paths: \"/api?x\" is not a plain path: one of its characters cannot stand in it"),
    ("[leader]\npaths = [\"/api\", \"/API/\"]", "2:18: [leader] paths: \"/API\" stands here twice"),
    ("[drain]\nabsent = 10", "2:10: [drain] absent: a bare number has no unit; write a duration such as \"10s\""),
    ("[leader]\nlease = 30", "2:9: [leader] lease: a bare number has no unit; write a duration such as \"30s\""),
    ("[leader]\nlease = \"500ms\"", "2:9: [leader] lease: less than 1s; a busy machine would lose it all the time"),
    ("[leader]\npoll = \"0s\"", "2:8: [leader] poll: must be more than 0"),
    ("[leader]\npoll = \"16s\"", "2:8: [leader] poll: more than half of `lease`; a lease would end before it is renewed"),
    ("[leader]\nlease = \"3s\"\npoll = \"2s\"", "3:8: [leader] poll: more than half of `lease`; a lease would end before it is renewed"),
    ("[pools.main]\nleader_key = \"a b\"\npods.a = \"http://h\"", "2:14: [pools.main] leader_key: a key is made of letters of ASCII, digits and signs, without spaces"),
    ("[pools.main]\nwriter = \"c\"\npods.a = \"http://h\"", "2:10: [pools.main] writer: no pod of pool `main` is named \"c\"; its pods are `a`"),
    ("[pools.main]\nwriter = \"a b\"\npods.a = \"http://h\"", "2:10: [pools.main] writer: a name is made of letters of ASCII, digits, `-`, `_` and `.`"),
    ("[leader]\nmode = \"probe\"\n[pools.main]\nwriter = \"off\"\npods.a = \"http://h\"", "2:8: [leader] mode: the writer leads by `probe`, and `writer` of pool `main` is \"off\""),
    ("[leader]\nmode = \"follow\"\n[redis]\nurl = \"redis://h\"\n[pools.a.pods]\np = \"http://h\"\n[pools.b]\npods.p = \"http://h\"\n[[routes]]\npool = \"a\"", "7:1: [pools.b]: pool `a` follows the same key \"jellyfin:task-leader\"; give each a `leader_key` of its own"),
    ("[leader]\nmode = \"follow\"\n[redis]\nurl = \"redis://h\"\n[pools.a]\nleader_key = \"k\"\npods.p = \"http://h\"\n[pools.b]\nleader_key = \"k\"\npods.p = \"http://h\"\n[[routes]]\npool = \"a\"", "9:14: [pools.b] leader_key: pool `a` follows the same key \"k\"; give each a `leader_key` of its own"),
    ("[pools.main.pods]\na = { url = \"http://h:1\", instance_id = \"\" }", "2:41: [pools.main.pods.a] instance_id: is empty"),
    ("[pools.main.pods]\na = { url = \"http://h:1\", instance_id = \"ä\" }", "2:41: [pools.main.pods.a] instance_id: an instance id is made of letters of ASCII, digits and signs, without spaces"),
    ("[pools.main.pods]\na = { url = \"http://h:1\", instance_id = \"One\" }\nb = { url = \"http://h:2\", instance_id = \"one\" }", "3:41: [pools.main.pods.b] instance_id: the same instance id as pod `a`"),
    ("[pools.main.pods]\na = { url = \"http://h:1\", instance = \"one\" }", "2:27: [pools.main.pods.a] instance: unknown key; did you mean `instance_id`?"),
    // WebSockets and the log.
    ("[websocket]\nclose = \"rude\"", "2:9: [websocket] close: \"rude\" is none of `abrupt`, `clean`"),
    ("[log]\nformat = \"xml\"", "2:10: [log] format: \"xml\" is none of `json`, `text`"),
    ("[log]\nlevel = \"inof\"", "2:9: [log] level: \"inof\" does not set a log level; did you mean `info`?"),
    ("[log]\nlevel = \"jellypin=loud\"", "2:9: [log] level: \"jellypin=loud\" does not set a log level; write `info`, or `jellypin::health=debug,info`"),
    ("[log]\naccess = \"\"", "2:10: [log] access: an empty path"),
];

struct Variables(HashMap<&'static str, &'static str>);

impl Environment for Variables {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|value| (*value).to_owned())
    }
}

const SECRET: &str = "hunter2-hunter2-hunter2";

fn read(text: &str) -> Result<app::Config, Error> {
    let variables = [("GOOD", SECRET), ("EMPTY", "\n"), ("SHORT", "fifteen bytes..\r\n")];
    parse(text, Path::new("/etc/jellypin/jellypin.toml"), &Variables(HashMap::from(variables)))
}

fn whole(text: &str) -> String {
    let listen = if text.contains("[listen") { "" } else { "\n[listen]\nhttp = \"0.0.0.0:8096\"" };
    let pools = if text.contains("pools") { "" } else { "\n[pools.main.pods]\na = \"http://h:8096\"" };
    format!("{text}{listen}{pools}\n")
}

fn refusal(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

#[test]
fn each_broken_file_is_refused_with_its_place_and_problem() {
    let wrong: Vec<String> = BROKEN
        .iter()
        .filter_map(|(text, expected)| {
            let said = match read(&whole(text)) {
                Ok(_) => "accepted".to_owned(),
                Err(error) => error.to_string(),
            };
            let first = said.lines().next().unwrap_or_default();
            (first != format!("jellypin.toml:{expected}"))
                .then(|| format!("{text}\n  expected {expected}\n  said     {first}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(read(&whole("")).is_ok(), "what is put behind a text must not be what is refused");
}

#[test]
fn the_source_line_is_shown_up_to_the_place() {
    assert_eq!(
        refusal("[health]\n\tintervall = \"1s\" # slower"),
        "jellypin.toml:2:2: [health] intervall: unknown key; did you mean `interval`?\n \
         2 | \tintervall\n   | \t^^^^^^^^^"
    );
    assert_eq!(
        refusal("log = { level = \"info\", format = \"xml\" }"),
        "jellypin.toml:1:34: [log] format: \"xml\" is none of `json`, `text`\n \
         1 | log = { level = \"info\", format = \"xml\"\n   |                                  ^^^^^"
    );
}

#[test]
fn no_error_tells_a_secret() {
    let misplaced = [
        "[affinity]\nkeys = 'S'",
        "[affinity]\nkey = 'S'",
        "[affinity]\nkeys = ['S', 1]",
        "[affinity]\nkeys = ['S', 'short']",
        "[affinity]\nkeys = ['S', 'S]",
        "[affinity]\nkeys = [\n  'hunter2',\n]",
        "[affinity]\nkeys = [\n  '''S\n''', 'short']",
        "[affinity]\nkeys = [\n  S,\n]",
        "[affinity]\nkeys = { 'S' = 1 }",
        "[affinity]\nkeys = ['S']\nkeys = ['S']",
        "affinity = 'S'",
        "affinity = { keys = ['S'], cookie = { nam = 1 } }",
        "affinity = { keys = ['S'], cookies = 1 }",
        "affinity = { keys = ['S'], cookie = 'S' }",
        "afinity = { keys = ['S'] }",
        "keys = ['S']",
        "[listen]\nkeys = ['S']",
        "[redis]\nurl = 'S'",
        "[redis]\nurl = ['redis://:S@h']",
        "[redis]\nurl = 'redis://:S@h:x'",
        "[redis]\nurl = 'redis://:S#@h'",
        "[redis]\nurl = 'http://:S@h'",
        "[redis]\nurls = 'redis://:S@h'",
        "[redis]\nurl = 'redis://h'\nsentinels = ['redis://:S@h', 'S']",
        "redis = 'redis://:S@h'",
        "redis = { url = 'redis://:S@h', prefix = 1 }",
        "redis = { url = 'redis://:S@h', ttl = '1s' }",
        "[redis]\nurl = 'redis://:S@h'\nca = 'ca.pem'",
        "[pools.main.pods]\na = 'http://me:S@h'",
        "[pools.main.pods]\na = 'https://me:S@h'",
        "[pools.main.pods]\na = 'me:S@h'",
        "[pools.main.pods]\na = 'http://me:x/S@h'",
        "[pools.main]\npods = { a = 'http://me:S@h', b = 1 }",
    ];
    for text in misplaced {
        let said = refusal(&whole(&text.replace('S', SECRET)));
        assert!(!said.contains("hunter2"), "{said}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Neither does one edit after another of a sound file, and none makes the reader panic.
    #[test]
    fn no_edit_makes_an_error_tell_a_secret(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, "[ü\\[\\]{}=.,#'\"a1\r\n \t]{0,3}"), 1..4),
    ) {
        let text = "# é\naffinity = { keys = ['S', \"S\"], cookie = { path = '/' } }\n\
            [health]\nrise = 1\n[pools.main.pods]\na = 'http://h'\n[listen]\nhttp = '[::]:80'\n";
        let mut text: Vec<char> = text.replace('S', SECRET).chars().collect();
        for (index, removed, inserted) in edits {
            let start = index.index(text.len());
            text.splice(start..(start + removed).min(text.len()), inserted.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(error) = read(&text) {
            prop_assert!(!error.to_string().contains("hunter2"), "{text}\n{error}");
        }
    }
}

#[test]
fn a_secret_is_read_without_its_newline_and_an_inline_one_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("key"), format!("{SECRET}\r\n")).expect("the key's file");
    let file = folder.path().join("jellypin.toml");
    let read = |text: &str| {
        std::fs::write(&file, whole(text)).expect("the configuration's file");
        load(&file, &Variables(HashMap::from([("GOOD", SECRET)]))).unwrap_or_else(|error| panic!("{error}"))
    };
    let config = read(&format!("[affinity]\nkeys = [{{ file = 'key' }}, {{ env = 'GOOD' }}, '{SECRET}-inline']"));
    let keys: Vec<_> = config.affinity.keys.iter().map(|key| String::from_utf8_lossy(key.bytes())).collect();
    assert_eq!(keys, [SECRET, SECRET, &format!("{SECRET}-inline")]);
    assert_eq!(config.in_the_open, ["an affinity key"]);

    assert!(read("[affinity]\nkeys = [{ file = 'key' }]\n[redis]\nurl = 'redis://h'").in_the_open.is_empty());
    let config = read("[jellyfin]\napi_key = '0123456789abcdef0123456789abcdef'\n[redis]\nurl = 'redis://:pw@h'");
    assert_eq!(config.in_the_open, ["the API key", "a password of Redis"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("jellypin.toml");
    let said = || load(&file, &Variables(HashMap::new())).expect_err("no configuration").to_string();
    assert_eq!(said(), format!("{}: cannot be read: No such file or directory (os error 2)", file.display()));
    std::fs::write(&file, b"[log]\n# \xff").expect("the configuration's file");
    assert_eq!(said(), "jellypin.toml:2:3: not UTF-8");
}

#[test]
fn each_key_reaches_its_room() {
    let text = r#"
        listen = { http = ["[::]:80", "127.0.0.1:0", "127.0.0.1:0"], trusted_proxies = ["10.1.2.3/8", "192.0.2.1"] }
        admin.listen = "off"
        log = { access = "access.log", level = "jellypin::health=debug,warn" }
        [pools.b]
        base_path = "/jf/"
        dns = { name = "Pods.example.", port = 8096 }
        [pools.a.pods]
        two = "HTTP://[::1]"
        one = { url = "http://Pod_1:8096/" }
        [[routes]]
        host = "*.Example.org"
        pool = "b"
        [[routes]]
        path = "/x/"
        pool = "a"
    "#;
    let config = read(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.listen.http.len(), 3, "port 0 may be asked for more than once");
    assert_eq!(format!("{:?}", config.forward.trusted), "[10.0.0.0/8, 192.0.2.1/32]");
    let single = whole("[listen]\nhttp = \"[::]:80\"\ntrusted_proxies = \"10.0.0.0/8\"");
    let single = read(&single).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(format!("{:?}", single.forward.trusted), "[10.0.0.0/8]");
    assert_eq!(config.admin.listen, None);
    assert_eq!(format!("{:?}", config.observe.access), "File(\"/etc/jellypin/access.log\")");
    let pods: Vec<_> = config.pools[0].pods.iter().map(|pod| (pod.name.as_str(), pod.authority.as_str())).collect();
    assert_eq!(pods, [("one", "pod_1:8096"), ("two", "[::1]:80")]);
    assert_eq!((config.pools[1].name.as_str(), config.pools[1].base_path.as_str()), ("b", "/jf"));
    assert_eq!(config.pools[1].dns.as_ref().map(|dns| dns.name.as_str()), Some("pods.example"));
    let routes: Vec<_> = config.route.routes.iter().map(|r| (r.host.as_deref(), &*r.path, r.leads_to("a"))).collect();
    assert_eq!(routes, [(Some("*.example.org"), "/", false), (None, "/x", true)]);
}
