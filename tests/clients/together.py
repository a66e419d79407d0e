"""Several clients of jellyfin-apiclient-python in one process, told what to do by lines of JSON and answering each with
one: together.mjs for the Python library. A command that fails answers {"error": ...}."""

import json
import os
import sys
import threading

from jellyfin_apiclient_python import JellyfinClient
from jellyfin_apiclient_python.connection_manager import CONNECTION_STATE

url = sys.argv[1].rstrip("/")
out = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # what the libraries print goes where errors go
clients = {}


class Client:
    def __init__(self, name):
        self.library = JellyfinClient(allow_multiple_clients=True)
        self.library.config.app("Story Python", "1", "Sofa", name)
        self.library.config.data["auth.ssl"] = False
        self.library.callback = self.hear
        self.heard = {}
        self.news = threading.Condition()
        self.secret = None
        self.library.auth.connect_to_address(url)

    def hear(self, event, data):
        counted = ("SyncPlayCommand", "SyncPlayGroupUpdate", "GeneralCommand", "Play", "Playstate")
        if event in counted and isinstance(data, dict):
            kind = data.get("Command") or data.get("Type") or data.get("Name") or data.get("PlayCommand")
            with self.news:
                self.heard[kind] = self.heard.get(kind, 0) + 1
                self.news.notify_all()


def signed_in(client, listens):
    state = client.library.authenticate(client.library.get_credentials(), discover=False)
    assert state["State"] == CONNECTION_STATE["SignedIn"], f"not signed in: {state['State']}"
    client.library.start(websocket=listens)


def log_in(client, user, password):
    assert client.library.auth.login(url, user, password), "the log-in was refused"
    signed_in(client, True)
    return {}


def begin(client):
    begun = client.library.auth.API.quick_connect_initiate(url)
    assert begun, "no code"
    client.secret = begun["Secret"]
    return {"code": begun["Code"]}


def state(client):
    found = client.library.auth.API.quick_connect_state(url, client.secret)
    assert found, "the poll failed"
    return {"authenticated": found["Authenticated"]}


def finish(client):
    assert client.library.auth.login_with_quick_connect(url, client.secret), "the log-in was refused"
    signed_in(client, False)
    return me(client)


def me(client):
    return {"name": client.library.jellyfin.get_user()["Name"]}


def join(client, group):
    client.library.jellyfin.join_sync_play(group)
    return {}


def hears(client, kind, times):
    with client.news:
        came = client.news.wait_for(lambda: client.heard.get(kind, 0) >= times, 20)
        assert came, f"never heard {kind}: {client.heard}"
    return {}


def heard(client):
    with client.news:
        return {"heard": dict(client.heard)}


def listen(client):
    return {}  # it has a socket since its log-in


def capable(client):
    client.library.jellyfin.post_capabilities({
        "PlayableMediaTypes": ["Video"], "SupportedCommands": ["DisplayMessage"], "SupportsMediaControl": True,
    })
    return {}


def sees(client, device):
    rows = client.library.jellyfin.sessions()
    return {"ids": [row["Id"] for row in rows if row["DeviceId"] == device]}


def remote_play(client, session, item):
    client.library.jellyfin.remote_play_media(session, [item])
    return {}


def remote_pause(client, session):
    client.library.jellyfin.remote_pause(session)
    return {}


def message(client, session, text):
    client.library.jellyfin.post_session(session, "Message", data={"Text": text})
    return {}


deeds = {deed.__name__: deed for deed in (
    log_in, begin, state, finish, me, join, hears, heard, listen, capable, sees, remote_play, remote_pause, message,
)}

for line in sys.stdin:
    told = json.loads(line)
    deed, name = told.pop("do"), told.pop("as")
    try:
        if name not in clients:
            clients[name] = Client(name)
        answer = deeds[deed](clients[name], **told)
    except BaseException as error:  # a library may even raise SystemExit: the answer must still come
        answer = {"error": f"{deed}: {type(error).__name__}: {error}"[:500]}
    print(json.dumps(answer), file=out, flush=True)
os._exit(0)
