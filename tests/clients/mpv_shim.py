"""jellyfin-mpv-shim 2.9.0: a whole application, run as a user runs it, and told over its socket what to play.

It takes no password from its command line, so its questions are answered on its standard input. That it plays proves
that its calls, its socket and its player's requests (which bear no header, no cookie and no DeviceId) reach one pod.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import version

import requests

from mpv_ipc import SHORT_MEMORY
from story import PATIENCE_S, TICKS_A_SECOND, die_with_parent, expect, first_film, run, until

PACKAGE = "jellyfin-mpv-shim"
SETTINGS = {
    "player_name": "Shim",
    "enable_gui": False,
    "enable_osc": False,
    "mpv_ext": False,
    "fullscreen": False,
    "raise_mpv": False,
    "media_keys": False,
    "check_updates": False,
    "shader_pack_enable": False,
    "thumbnail_enable": False,
    "playback_timeout": int(PATIENCE_S),
}
PLAYER_OPTIONS = ["--vo=null", "--ao=null", "--loop-file=inf", *SHORT_MEMORY]


def tell(story):
    with tempfile.TemporaryDirectory(prefix="jellypin-shim-") as folder:
        shim = Shim(story, folder)
        try:
            watch(story, shim)
        finally:
            shim.quit()


def watch(story, shim):
    with story.step("log-in"):
        remote = Remote(story.url, until("the token", shim.token))
    with story.step("socket"):
        session = until("the remotely controllable session", lambda: remote.session(story.device, socket=True))
    with story.step("items"):
        found = remote.ask("GET", "/Items?recursive=true&includeItemTypes=Movie&limit=5").json()
        film = first_film(found["Items"])

    def position():
        return remote.position(story.device)

    with story.step("Play over the socket"):
        remote.ask("POST", f"/Sessions/{session['Id']}/Playing?playCommand=PlayNow&itemIds={film['Id']}")
        until("a film that runs", lambda: (position() or 0) > 1)
    with story.step("Seek over the socket"):
        ticks = 30 * TICKS_A_SECOND
        remote.ask("POST", f"/Sessions/{session['Id']}/Playing/Seek?seekPositionTicks={ticks}")
        until("the film at 30 s", lambda: 30 < (position() or 0) < 50)
    if story.holds:
        hold(story, shim, remote)
    with story.step("Stop over the socket"):
        remote.ask("POST", f"/Sessions/{session['Id']}/Playing/Stop")
        until("the end of the film", lambda: position() is None)
    if not story.stays:
        with story.step("log-out"):
            remote.ask("POST", "/Sessions/Logout")


def hold(story, shim, remote):
    lines = len(shim.log())
    positions = set()
    held = story.begin_hold()
    for _ in held.rounds():
        positions.add(held.call("GET /Sessions", remote.position, story.device))
    log = shim.log()[lines:]
    held.facts = {
        "token_lost": any("Unauthorized" in line for line in log),
        "socket_closed": sum("Websocket disconnected" in line for line in log),
        # The application reports its position every five seconds, so only whether the film went on can be told.
        "film_moved": len(positions - {None}) > 1,
    }


class Shim:
    """The application as a child process in a folder of its own."""

    def __init__(self, story, folder):
        self.folder = folder
        self.process = None
        with open(os.path.join(folder, "conf.json"), "w") as settings:
            json.dump(SETTINGS | {"client_uuid": story.device}, settings)
        with open(os.path.join(folder, "mpv.conf"), "w") as settings:
            settings.writelines(option.removeprefix("--") + "\n" for option in PLAYER_OPTIONS)
        with open(os.path.join(folder, "log"), "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jellyfin_mpv_shim.mpv_shim", "--config", folder],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # getpass reads the terminal where there is one; without a session of its own it would ask the user.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        # The last answer is to "Add another server?".
        self.process.stdin.write(f"{story.url}\n{story.user}\n{story.password}\nn\n".encode())
        self.process.stdin.flush()

    def token(self):
        expect(self.process.poll() is None, f"the application ended: {self.log()[-5:]}")
        try:
            with open(os.path.join(self.folder, "cred.json")) as credentials:
                return json.load(credentials)[0]["AccessToken"]
        except (OSError, ValueError, IndexError):
            return None

    def log(self):
        with open(os.path.join(self.folder, "log"), errors="replace") as log:
            return log.readlines()

    def quit(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)


class Remote:
    """Another hand on the application's own session: the same token, so the same pod."""

    def __init__(self, url, token):
        self.url = url
        self.http = requests.Session()
        self.http.headers["Authorization"] = f'MediaBrowser Token="{token}"'

    def ask(self, method, path):
        answer = self.http.request(method, self.url + path, timeout=PATIENCE_S)
        answer.raise_for_status()
        return answer

    def session(self, device, socket=False):
        for one in self.ask("GET", "/Sessions").json():
            if one.get("DeviceId") == device and (one.get("SupportsRemoteControl") or not socket):
                return one
        return None

    def position(self, device):
        """Seconds of the film that the session plays, None when it plays none."""
        session = self.session(device) or {}
        if not session.get("NowPlayingItem"):
            return None
        return session.get("PlayState", {}).get("PositionTicks", 0) / TICKS_A_SECOND


if __name__ == "__main__":
    run(PACKAGE, version(PACKAGE), tell)
