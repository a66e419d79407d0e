//! File handles run out: what serves goes on serving, and nothing is believed that is not so.

use http::Method;
use tokio::net::{TcpListener, TcpStream};

use super::{
    wire::End,
    world::{ANY_PORT, Client, Program, World, millis, story, until},
};

/// File handles that the program may have.
const FILES: u32 = 64;

#[tokio::test]
async fn the_limit_of_file_handles_is_raised() {
    story(World::plan(1), async |world| {
        let program = Program::start_with_few_files(world.settings(), world.folder(), 100).await;
        let [soft, hard] = program.open_files();
        assert_eq!(soft, hard);
        assert_ne!(soft, "100");
        until("it is told", || program.log().contains("more open files are allowed now")).await;
        drop(program);
        let mut settings = world.settings().clone();
        settings.max_connections(10000);
        let program = Program::start_with_files(&settings, world.folder(), 128).await;
        let told = "128 open files are allowed at most, and [listen] max_connections = 10000 may take 20000";
        assert!(program.log().contains(told), "{}", program.log());
        drop(program);
    })
    .await;
}

/// A pod that ends each connection with its answer, so that every question to it takes a file handle. It serves until the test ends.
async fn curt_pod() -> std::net::SocketAddr {
    let listener = TcpListener::bind(ANY_PORT).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut wire = End::over(stream);
                let Some(head) = wire.try_head().await else { return };
                let body = match head.split(' ').nth(1) {
                    Some("/health") => "Healthy",
                    _ => r#"{"Id":"5a1e0f3d9c7b48268f4d2a6b1c3e5f70","Version":"12.0.0"}"#,
                };
                let length = body.len();
                let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
                // The proxy may have given the question up.
                let _ = wire.try_send(answer).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_handle_pods_and_admin_api_stay() {
    story(World::plan(1), async |world| {
        let mut settings = world.settings().clone();
        settings.pod("a", curt_pod().await);
        settings.workers(1);
        settings.probe_interval(millis(50));
        let program = Program::start_with_files(&settings, world.folder(), FILES).await;
        let [clients, operators] = program.addresses()[..] else { panic!("two addresses") };
        let mut open = Vec::new();
        for _ in 0..FILES {
            open.push(TcpStream::connect(clients).await.expect("a connection"));
        }
        open.push(TcpStream::connect(operators).await.expect("a connection"));
        // Said twenty times a second: meanwhile the pod is asked more than once.
        let refused = || program.log().matches("cannot accept").count();
        until("there is no handle for a long time", || refused() >= 20).await;
        drop(open);
        let mut operator = Client::at_address(operators);
        let live = operator.send(operator.request(Method::GET, "/live"), super::world::body_of("")).await;
        assert!(live.is_ok_and(|live| live.status == 200), "the admin API stands open");
        let pods = operator.get("/pods").await.json();
        assert_eq!((&pods[0]["state"], &pods[0]["epoch"]), (&"ready".into(), &1.into()), "{}", program.log());
        assert!(!program.log().contains("pod is down"), "{}", program.log());
    })
    .await;
}
