"""jellyfin-apiclient-python: the library under jellyfin-mpv-shim and, as a fork, jellyfin-kodi.

Worth a story of its own because it keeps cookies for its API calls only (not for the log-in, nor for the socket), names
itself by header everywhere, and erases its token at the first 401.
"""

from importlib.metadata import version

from jellyfin_apiclient_python import JellyfinClient
from jellyfin_apiclient_python.connection_manager import CONNECTION_STATE

from story import HLS_ONLY, expect, first_film, playing, run, until

PACKAGE = "jellyfin-apiclient-python"


def tell(story):
    client = JellyfinClient(allow_multiple_clients=True)
    heard = Heard()
    client.callback = heard
    client.config.app("Story Python", version(PACKAGE), "Sofa", story.device)
    client.config.data["auth.ssl"] = False

    log_in(story, client)
    film = look_around(story, client)
    session = open_socket(story, client, heard)
    source, play_session = play(story, client, heard, film)
    if story.holds:
        hold(story, client, heard, film, source, play_session)
        with story.step("remote control after the hold"):
            tell_session(client, session, heard)
    with story.step("playback stops"):
        client.jellyfin.session_stop(playing(film, source, play_session, 3))
    client.wsc.stop_client()
    if not story.stays:
        with story.step("log-out"):
            client.jellyfin.sessions("/Logout", "POST")


def log_in(story, client):
    with story.step("public info"):
        state = client.auth.connect_to_address(story.url)
        expect(state["State"] != CONNECTION_STATE["Unavailable"], "the server is not available")
    with story.step("log-in"):
        expect(client.auth.login(story.url, story.user, story.password), "the log-in was refused")
    with story.step("validate the token"):
        # What the real applications do next: hand the credentials in again, which asks /System/Info with the token.
        state = client.authenticate(client.get_credentials(), discover=False)
        expect(state["State"] == CONNECTION_STATE["SignedIn"], f"not signed in: {state['State']}")


def look_around(story, client):
    with story.step("user"):
        client.start(websocket=False)
        user = expect(client.jellyfin.get_user(), "no answer for the user")
        expect(user["Name"] == story.user, f"the user is {user['Name']}")
    with story.step("items"):
        found = client.jellyfin.items(params={"Recursive": True, "IncludeItemTypes": "Movie", "Limit": 5})
        return first_film(expect(found, "no answer for the items")["Items"])


def open_socket(story, client, heard):
    with story.step("socket"):
        client.start_wsc()
        until("the open socket", lambda: heard.count("WebSocketConnect"))
        # The library makes its keep-alive thread, and answers KeepAlive, when ForceKeepAlive has come.
        until("ForceKeepAlive", lambda: client.wsc.keepalive is not None)
    with story.step("remote control"):
        client.jellyfin.post_capabilities(
            {"PlayableMediaTypes": ["Video"], "SupportedCommands": ["DisplayMessage"], "SupportsMediaControl": True}
        )
        own = [one for one in client.jellyfin.get_sessions() if one.get("DeviceId") == story.device]
        session = expect(own, "the own session is not listed")[0]["Id"]
        tell_session(client, session, heard)
    return session


def tell_session(client, session, heard):
    """A message to the own session comes back by the socket only where both are on one pod."""
    before = heard.count("GeneralCommand")
    client.jellyfin.sessions(f"/{session}/Message", "POST", json={"Text": "hello", "TimeoutMs": 1000})
    until("the GeneralCommand", lambda: heard.count("GeneralCommand") > before)


def play(story, client, heard, film):
    with story.step("PlaybackInfo"):
        info = expect(client.jellyfin.get_play_info(film["Id"], HLS_ONLY), "no answer for PlaybackInfo")
        source = info["MediaSources"][0]
        expect(source.get("TranscodingUrl"), "no TranscodingUrl for a profile that takes HLS only")
    with story.step("playback"):
        client.wsc.send("SessionsStart", "0,500")
        play_session = info["PlaySessionId"]
        client.jellyfin.session_playing(playing(film, source, play_session, 0))
        for second in (1, 2, 3):
            client.jellyfin.session_progress(playing(film, source, play_session, second))
        until("a Sessions message", lambda: heard.count("Sessions"))
    return source, play_session


def hold(story, client, heard, film, source, play_session):
    token = client.config.data["auth.token"]
    sockets = heard.count("WebSocketConnect")
    held = story.begin_hold()
    for number, _ in enumerate(held.rounds()):
        if number % 5 == 4:
            report = playing(film, source, play_session, number / 5)
            held.call("POST /Sessions/Playing/Progress", client.jellyfin.session_progress, report)
        else:
            held.call("GET /Users/{id}", lambda: expect(client.jellyfin.get_user(), "an empty answer"))
    held.facts = {
        "token_lost": client.config.data["auth.token"] != token,
        "socket_closed": heard.count("WebSocketConnect") - sockets + heard.count("WebSocketError"),
    }


class Heard:
    """The events that the library told of, by name."""

    def __init__(self):
        self.counts = {}

    def __call__(self, event, _data):
        self.counts[event] = self.counts.get(event, 0) + 1

    def count(self, event):
        return self.counts.get(event, 0)


if __name__ == "__main__":
    run(PACKAGE, version(PACKAGE), tell)
