//! The admin listener: no page of a browser gets in by a name of its own, and a token keeps strangers out.

use http::Method;

use super::ask_admin;
use crate::stories::{
    wire::{End, within},
    world::{DEADLINE, Program, World, story, until, until_so},
};

const TOKEN: &str = "a-token-of-some-length";

#[tokio::test]
async fn pages_need_a_known_host_and_probes_do_not() {
    story(World::plan(1).admin_hosts(&["jellypin.example.org"]), async |world| {
        for (host, status) in [
            ("localhost:9096", 200),
            ("127.0.0.1", 200),
            ("jellypin.example.org:9096", 200),
            ("evil.example", 421),
            ("10.9.9.9:9096", 421),
        ] {
            for page in ["/", "/pods", "/sessions", "/metrics"] {
                assert_eq!(ask_admin(world, Method::GET, page, host, &[]).await.0, status, "{page} under {host}");
            }
            for probe in ["/live", "/ready"] {
                assert_eq!(ask_admin(world, Method::GET, probe, host, &[]).await.0, 200, "{probe} under {host}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_page_of_another_origin_drains_no_pod() {
    story(World::plan(2), async |world| {
        let drain = "/pods/main/a/drain";
        let host = world.proxy.admin.to_string();
        let own = format!("http://{host}");
        for foreign in [[("origin", "http://evil.example")], [("origin", "null")], [("sec-fetch-site", "cross-site")]] {
            assert_eq!(ask_admin(world, Method::POST, drain, &host, &foreign).await.0, 403, "{foreign:?}");
        }
        assert_eq!(
            ask_admin(world, Method::POST, drain, "evil.example", &[("origin", "http://evil.example")]).await.0,
            421
        );
        let of_own_page = [("origin", &*own), ("sec-fetch-site", "same-origin")];
        assert_eq!(ask_admin(world, Method::POST, drain, &host, &of_own_page).await.0, 202);
        assert_eq!(
            ask_admin(world, Method::POST, "/pods/main/a/undrain", &host, &[]).await.0,
            202,
            "curl says nothing"
        );
    })
    .await;
}

#[tokio::test]
async fn every_page_but_the_probes_needs_the_token() {
    story(World::plan(1).admin_token(TOKEN), async |world| {
        let bearer = format!("Bearer {TOKEN}");
        for page in ["/", "/pods", "/sessions", "/metrics", "/nothing"] {
            for wrong in [&[][..], &[("authorization", "Bearer a-token-of-some-lengtH")], &[("authorization", TOKEN)]] {
                let (status, text) = ask_admin(world, Method::GET, page, "localhost", wrong).await;
                assert_eq!(status, 401, "{page}");
                assert!(!text.contains(TOKEN));
            }
            let (status, text) = ask_admin(world, Method::GET, page, "localhost", &[("authorization", &bearer)]).await;
            assert_eq!(status, if page == "/nothing" { 404 } else { 200 }, "{page}");
            assert!(!text.contains(TOKEN), "{page}");
        }
        for act in ["/pods/main/a/drain", "/roll", "/reload", "/upgrade"] {
            assert_eq!(ask_admin(world, Method::POST, act, "localhost", &[]).await.0, 401, "{act}");
        }
        assert_eq!(ask_admin(world, Method::GET, "/live", "localhost", &[]).await.0, 200);
    })
    .await;
}

#[tokio::test]
async fn the_start_warns_of_a_public_admin_listener() {
    story(World::plan(1), async |world| {
        let mut settings = world.settings().clone();
        settings.admin_listen(([0, 0, 0, 0], 0).into());
        let program = Program::start(&settings, world.folder()).await;
        let told = "[admin] listen is no loopback address, and there is no [admin] token";
        until("it is told", || program.log().contains(told)).await;
        drop(program);
        settings.admin_token(TOKEN);
        let program = Program::start(&settings, world.folder()).await;
        assert!(!program.log().contains(told) && !program.log().contains(TOKEN), "{}", program.log());
        drop(program);
    })
    .await;
}

#[tokio::test]
async fn the_listener_takes_only_so_many_connections() {
    story(World::plan(1), async |world| {
        let mut flood = Vec::new();
        for _ in 0..256 {
            flood.push(End::connect(world.proxy.admin).await);
        }
        let mut one_more = End::connect(world.proxy.admin).await;
        assert_eq!(within(DEADLINE, "the end", one_more.try_bytes(1)).await, None);
        drop(flood);
        until_so("there is room again", async || {
            let mut end = End::connect(world.proxy.admin).await;
            let asked = end.try_send("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            asked.is_ok() && end.try_answer().await.is_some_and(|answer| answer.status == 200)
        })
        .await;
    })
    .await;
}
