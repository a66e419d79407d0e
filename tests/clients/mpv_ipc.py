"""mpv as a child process, driven by its JSON protocol on a local socket."""

import json
import os
import socket
import subprocess
import tempfile
import threading

from story import PATIENCE_S, Stalls, die_with_parent, expect, until

# No window, no sound device, none of the user's settings; the film still runs at its own pace.
HEADLESS = ["--no-config", "--no-terminal", "--vo=null", "--ao=null", "--idle=yes"]
# The film of a test is so small that a player would have all of it at once and ask for nothing more. So it reads a few
# seconds ahead and keeps nothing behind, as it must do with a film of real size: each seek becomes a request.
SHORT_MEMORY = ["--cache=yes", "--cache-secs=6", "--demuxer-max-bytes=256KiB", "--demuxer-seekable-cache=no"]


class Mpv:
    def __init__(self, *options):
        self.folder = tempfile.TemporaryDirectory(prefix="jellypin-mpv-")
        address = os.path.join(self.folder.name, "ipc")
        self.process = subprocess.Popen(
            ["mpv", *HEADLESS, *SHORT_MEMORY, f"--input-ipc-server={address}", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        self.socket = until("mpv's socket", lambda: _dial(address))
        self.answers = {}
        self.ends = []
        self.starts = 0
        self.requests = 0
        self.stalls = None
        threading.Thread(target=self._read, daemon=True).start()

    def command(self, *words):
        """The data of mpv's answer, or None when mpv refused (a property that has no value yet)."""
        self.requests += 1
        number = self.requests
        line = json.dumps({"command": words, "request_id": number}) + "\n"
        self.socket.sendall(line.encode())
        answer = until(f"mpv's answer to {words[0]}", lambda: self.answers.pop(number, None))
        return answer.get("data") if answer.get("error") == "success" else None

    def position(self):
        """Seconds of the film, None while nothing plays."""
        return self.command("get_property", "time-pos")

    def play(self, address):
        """Opens a film and waits for its second second."""
        starts, ends = self.starts, len(self.ends)
        self.command("loadfile", address, "replace")

        def opened():
            fresh = [end for end in self.ends[ends:] if end.get("reason") == "error"]
            expect(not fresh, f"mpv gave up: {fresh}")
            return self.starts > starts

        until("the film's beginning", opened)
        until("a film that runs", lambda: (self.position() or 0) > 1)

    def seek(self, second):
        """Jumps and waits until the film runs from there."""
        self.command("seek", second, "absolute+exact")
        until(f"the film at {second} s", lambda: second + 0.3 < (self.position() or 0) < second + 10)

    def watch(self):
        """Looks at the position whenever mpv tells of it, which is with each frame, whatever else goes on here."""
        self.stalls = Stalls()
        self.command("observe_property", 1, "time-pos")
        return self.stalls

    def play_to_the_end(self):
        """Plays what is left, and tells why the film ended."""
        ends = len(self.ends)
        self.command("set_property", "loop-file", "no")
        until("the end of the film", lambda: len(self.ends) > ends, patience=60)
        return self.ends[-1].get("file_error") or self.ends[-1].get("reason")

    def quit(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self.folder.cleanup()

    def _read(self):
        with self.socket.makefile("r") as lines:
            for line in lines:
                message = json.loads(line)
                if "event" not in message:
                    self.answers[message.get("request_id")] = message
                elif message["event"] == "end-file":
                    self.ends.append(message)
                elif message["event"] == "file-loaded":
                    self.starts += 1
                elif message["event"] == "property-change" and self.stalls is not None:
                    self.stalls.look(message.get("data"))


def _dial(address):
    dialled = socket.socket(socket.AF_UNIX)
    try:
        dialled.connect(address)
        return dialled
    except OSError:
        dialled.close()
        return None
