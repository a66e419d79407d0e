//! What each call sends, and what pods' answers mean.

use super::{
    quick_connect::Initiated,
    system::{PublicInfo, ServerInfo},
    users::TokenStatus,
    *,
};

fn answer(status: u16, body: &str) -> ApiResponse {
    let status = StatusCode::from_u16(status).expect("a status");
    ApiResponse { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()) }
}

fn sent<T>(call: &ApiCall<T>) -> String {
    format!("{} {}", call.method, call.target)
}

#[test]
fn a_call_names_its_path_and_quotes_what_it_is_given() {
    assert_eq!(sent(&users::who_am_i("t")), "GET /Users/Me");
    assert_eq!(sent(&devices::remove("a b&id=c")), "DELETE /Devices?id=a%20b%26id%3Dc");
    assert_eq!(sent(&sessions::ping("p&q", "t")), "POST /Sessions/Playing/Ping?playSessionId=p%26q");
    assert_eq!(
        sent(&media::end_transcode("d/1", "p", "t")),
        "DELETE /Videos/ActiveEncodings?deviceId=d%2F1&playSessionId=p"
    );
    assert_eq!(sent(&users::change_password("u", Bytes::new())), "POST /Users/Password?userId=u");
    let call = quick_connect::authenticate("s\"");
    assert_eq!(&call.body[..], br#"{"Secret":"s\""}"#);
    assert!(call.authorization.is_none(), "the secret is the credential");
    assert!(sessions::log_out("t").authorization.is_some_and(|value| value.is_sensitive()));
}

#[test]
fn an_answer_about_a_token_says_whose_it_is() {
    let read = |status, body| users::who_am_i("t").read(answer(status, body));
    let known = |user: Option<&str>, is_administrator| {
        Some(TokenStatus::Known { user: user.map(str::to_owned), name: None, is_administrator })
    };
    assert_eq!(read(200, r#"{"Id":"u","Policy":{"IsAdministrator":true}}"#), known(Some("u"), true));
    assert_eq!(read(200, r#"{"Id":"u"}"#), known(Some("u"), false));
    assert_eq!((read(400, ""), read(403, "")), (known(None, false), known(None, false)), "a key has no user");
    assert_eq!(read(401, ""), Some(TokenStatus::Unknown));
    assert_eq!((read(500, ""), read(503, "")), (None, None), "the pod does not say");
    assert_eq!(users::who_am_i("t").repeats, 1);
}

#[test]
fn a_pod_says_who_it_is_in_either_case_of_its_json() {
    let read = |status, body| system::public_info().read(answer(status, body));
    let known = Some(PublicInfo::Known(ServerInfo { id: "i".into(), version: "12.0".into() }));
    assert_eq!(read(200, r#"{"Id":"i","Version":"12.0"}"#), known);
    assert_eq!(read(200, r#"{"id":"i","version":"12.0"}"#), known, "the set-up server");
    assert_eq!(read(503, "page"), Some(PublicInfo::Starting));
    assert_eq!(read(200, "page"), Some(PublicInfo::Other(StatusCode::OK)));
}

#[test]
fn a_code_and_its_log_in_are_read() {
    let device = Device { client: "c".into(), name: "n".into(), id: "i".into(), version: "1".into() };
    let initiated = |status, body| quick_connect::initiate(&device).read(answer(status, body)).expect("an answer");
    let expected = Initiated { code: "123456".into(), secret: "s".into() };
    assert!(initiated(200, r#"{"Code":"123456","Secret":"s"}"#) == Ok(Some(expected)));
    assert!(initiated(200, "{}") == Ok(None) && initiated(401, "").is_err());
    let log_in = quick_connect::authenticate("s").read(answer(200, r#"{"AccessToken":"t","User":{"Id":"u"}}"#));
    let log_in = log_in.expect("an answer").expect("a log-in");
    assert_eq!((log_in.token.as_deref(), log_in.user.as_deref()), (Some("t"), Some("u")));
    let is_enabled = |status, body| quick_connect::is_enabled().read(answer(status, body));
    assert_eq!(
        (is_enabled(200, "true"), is_enabled(200, "false"), is_enabled(503, "")),
        (Some(true), Some(false), None)
    );
}

#[test]
fn a_password_is_repeated_as_it_was_read_and_not_at_all_if_that_is_doubtful() {
    let read = |body: &str| {
        users::repeated_password_change(body.as_bytes()).map(|body| String::from_utf8_lossy(&body).into_owned())
    };
    let plain = r#"{"CurrentPw":"n","NewPw":"n","ResetPassword":false}"#;
    assert_eq!(read(r#"{"CurrentPw":"o","newpw":"n","X":1}"#).as_deref(), Some(plain));
    for doubtful in
        [r#"{"NewPw":"a","newpw":"b"}"#, r#"{"NewPw":"a","RESETPASSWORD":true,"ResetPassword":false}"#, "[]", "x"]
    {
        assert_eq!(read(doubtful), None, "{doubtful}");
    }
    let disables = users::disables;
    assert!(disables(br#"{"isdisabled":true}"#) && !disables(br#"{"IsDisabled":false}"#) && !disables(b"[]"));
}
