//! Tables of what is sent to pods.

use super::*;

#[test]
fn the_longest_path_that_fits_gives_the_time() {
    let seconds = Duration::from_secs;
    let by_path = [("/Items", 1), ("/items/Counts/", 2), ("/Backup", 3)];
    let by_path = by_path.map(|(path, time)| (path.to_owned(), seconds(time))).to_vec();
    let first_byte = FirstByte::new(seconds(600), by_path);
    for (path, expected) in
        [("/ITEMS", 1), ("/Items/1", 1), ("/Items/Counts", 2), ("/Itemsx", 600), ("/backup/Create", 3), ("/", 600)]
    {
        assert_eq!(first_byte.of(path), seconds(expected), "{path}");
    }
    let all = FirstByte::new(seconds(600), vec![("/".to_owned(), seconds(5))]);
    assert_eq!((all.of("/Items"), all.of("/")), (seconds(5), seconds(5)));
}

#[test]
fn who_cannot_be_looked_up_has_refused_nothing_but_who_is_nobody_has() {
    let of_look_up = |text| refusal(&io::Error::other(format!("failed to lookup address information: {text}")));
    for text in ["Temporary failure in name resolution", "Try again"] {
        assert_eq!(of_look_up(text), Cause::ConnectTimedOut);
    }
    for text in ["Name or service not known", "No address associated with hostname", "Name does not resolve"] {
        assert_eq!(of_look_up(text), Cause::Refused);
    }
    let of_system = |number| refusal(&io::Error::from_raw_os_error(number));
    assert_eq!(of_system(111), Cause::Refused);
    assert_eq!((of_system(23), of_system(24)), (Cause::Exhausted, Cause::Exhausted));
    // ENETDOWN, ENETUNREACH, EHOSTUNREACH: nobody was there to refuse.
    assert_eq!([100, 101, 113].map(of_system), [Cause::ConnectTimedOut; 3]);
}

#[test]
fn the_mark_of_a_loop_is_the_last_field_that_goes() {
    let client = head::Client {
        address: [192, 0, 2, 7].into(),
        address_text: HeaderValue::from_static("192.0.2.7"),
        over_tls: false,
        trusted: Arc::from(["192.0.2.0/24".parse().expect("a network")]),
        is_trusted: true,
        in_use: None,
    };
    for (own, has_host, has_mark) in [(90, true, true), (94, false, true), (95, false, false)] {
        let mut headers = http::HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("inner"));
        headers.insert("x-forwarded-host", HeaderValue::from_static("media.example.org"));
        for number in 1..own {
            let name = http::HeaderName::from_bytes(format!("x-{number}").as_bytes()).expect("a name");
            headers.insert(name, HeaderValue::from_static("1"));
        }
        head::to_pod(&mut headers, &client);
        let has = |name: &str| headers.contains_key(name);
        assert_eq!((has("x-forwarded-host"), has("via")), (has_host, has_mark), "{own} fields");
    }
}
