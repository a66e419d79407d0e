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
}
