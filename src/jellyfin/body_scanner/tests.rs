use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use http::Response;
use proptest::prelude::*;

use super::*;

const LOG_IN: &str = "{\"User\":{\"Name\":\"alice\",\"Id\":\"u1\",\"DeviceId\":\"no\",\"AccessToken\":\"no\"},\
    \"SessionInfo\":{\"Capabilities\":{\"DeviceId\":\"no\"},\"DeviceId\":\"sofa \\u00e4\"},\"AccessToken\":\"t0ken\",\"ServerId\":\"s\"}";

fn listener(path: &str, method: &Method, encoding: Option<&str>, kind: &str) -> Option<BodyScanner> {
    let mut answer = Response::builder().header("content-type", kind);
    if let Some(encoding) = encoding {
        answer = answer.header("content-encoding", encoding);
    }
    let (head, ()) = answer.body(()).expect("an answer").into_parts();
    BodyScanner::of(Endpoint::of(method, path), method, path, &head)
}

/// Everything that a body teaches, piece by piece.
fn feed_all(listener: &mut BodyScanner, body: &[u8], piece: usize) -> Learned {
    let mut lessons: Vec<Learned> = body.chunks(piece).map(|piece| listener.feed(piece)).collect();
    lessons.push(listener.finish());
    lessons.into_iter().fold(Learned::default(), |mut all, new| {
        all.merge(new);
        all
    })
}

fn learnt(path: &str, encoding: Option<&str>, body: &[u8], piece: usize) -> Learned {
    let mut listener =
        listener(path, &Method::POST, encoding, "application/json; charset=utf-8").expect("somebody listens");
    feed_all(&mut listener, body, piece)
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn a_log_in_is_learnt_whatever_its_pieces_and_its_compression() {
    let expected = Learned { token: Some("t0ken".into()), device: Some("sofa ä".into()), ..Learned::default() };
    for piece in [1, 2, 7, 100, 10_000] {
        assert_eq!(learnt("/Users/AuthenticateByName", None, LOG_IN.as_bytes(), piece), expected, "pieces of {piece}");
        assert_eq!(learnt("/Users/AuthenticateByName", Some("gzip"), &gzip(LOG_IN), piece), expected);
    }
    let brotli: &[u8] = include_bytes!("log-in.json.br");
    for piece in [1, 50, 10_000] {
        assert_eq!(learnt("/Users/AuthenticateByName", Some("br"), brotli, piece), expected);
    }
}

#[test]
fn camel_case_is_read_and_a_plugins_log_in_is_told_by_its_shape() {
    let camel = "{\"sessionInfo\":{\"deviceId\":\"d\"},\"accessToken\":\"t\"}";
    let learned = learnt("/sso/OID/Auth/provider", None, camel.as_bytes(), 5);
    assert_eq!((learned.token.as_deref(), learned.device.as_deref()), (Some("t"), Some("d")));
}

#[test]
fn playback_is_learnt() {
    let info = "{\"MediaSources\":[{\"LiveStreamId\":\"live1\"},{\"LiveStreamId\":\"\"}],\"PlaySessionId\":\"p1\"}";
    let learned = learnt("/Items/x/PlaybackInfo", None, info.as_bytes(), 3);
    assert_eq!(learned.play_session.as_deref(), Some("p1"));
    assert_eq!(learned.live_streams, ["live1"]);
    let opened = "{\"MediaSource\":{\"LiveStreamId\":\"live2\"}}";
    assert_eq!(learnt("/LiveStreams/Open", None, opened.as_bytes(), 3).live_streams, ["live2"]);
    let uid = "1ee6004c134d74296862b20a8f40b956";
    let direct = format!(
        "{{\"MediaSources\":[{{\"Path\":\"/media/film.mkv\"}},{{\"LiveStreamId\":\"live3\",\
         \"Path\":\"http:\\/\\/tv.example/jf/LiveTv/LiveStreamFiles/{uid}/stream.ts\"}}]}}"
    );
    let learned = learnt("/Items/x/PlaybackInfo", None, direct.as_bytes(), 3);
    assert_eq!(
        (&learned.live_streams[..], &learned.live_files[..]),
        (&["live3".to_owned()][..], &[uid.to_owned()][..])
    );
}

#[test]
fn a_live_playlist_is_learnt_across_pieces() {
    let md5 = "1ee6004c134d74296862b20a8f40b956";
    let text = format!("#EXTM3U\n#EXTINF:3.0,\nhls/short/x.ts\nhls/{md5}/{md5}0.ts\n");
    for piece in [1, 3, 40, 1000] {
        let path = format!("/Videos/{md5}/live.m3u8");
        let mut listener =
            listener(&path, &Method::GET, None, "application/vnd.apple.mpegurl").expect("somebody listens");
        let learned = feed_all(&mut listener, text.as_bytes(), piece);
        assert_eq!(learned.playlist.as_deref(), Some(md5), "pieces of {piece}");
    }
}

#[test]
fn nobody_listens_to_what_teaches_nothing() {
    assert!(listener("/Items", &Method::GET, None, "application/json").is_none());
    assert!(listener("/Plugin", &Method::POST, None, "application/json").is_none(), "it may echo what it was sent");
    assert!(listener("/web/config.json", &Method::GET, None, "application/json").is_none());
    assert!(listener("/Users/AuthenticateByName", &Method::POST, Some("zstd"), "application/json").is_none());
}

#[test]
fn a_giant_value_is_given_up_and_takes_no_memory() {
    let mut listener =
        listener("/Users/AuthenticateByName", &Method::POST, None, "application/json").expect("somebody listens");
    listener.feed(b"{\"x\":\"");
    for _ in 0..1000 {
        listener.feed(&[b'a'; 1024]);
    }
    assert_eq!(listener.feed(b"\",\"AccessToken\":\"t\"}"), Learned::default());
}

proptest! {
    #[test]
    fn no_body_whatever_does_harm(body in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..50) {
        for encoding in [None, Some("gzip"), Some("br")] {
            learnt("/Users/AuthenticateByName", encoding, &body, piece);
        }
    }
}
