"""A client's run, told as named steps and reported on standard output as lines of JSON.

Every script beside this file that is written in Python tells its story through `run`. Without `--hold` it prints one
line, the report. With `--hold` it prints `{"client": ..., "holding": true}` when its work goes on without end, and the
report after a line (or the end) of standard input. The exit code is 0 only when every step worked; what failed while it
held is counted in the report and is for the reader to judge.
"""

import argparse
import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback

# Ticks are Jellyfin's unit of media time, 100 ns.
TICKS_A_SECOND = 10_000_000
# No step waits longer than this for what it needs; it then fails with a sentence that says for what.
PATIENCE_S = 20.0
# A player that shows the same position for longer than this, while it should play, has stalled.
STALL_S = 0.5
HOLD_PAUSE_S = 0.2
# From linux/prctl.h.
PR_SET_PDEATHSIG = 1

# A player that can take nothing but HLS: the pod must answer with a TranscodingUrl.
HLS_ONLY = {
    "MaxStreamingBitrate": 400_000,
    "DirectPlayProfiles": [],
    "TranscodingProfiles": [
        {
            "Container": "ts",
            "Type": "Video",
            "VideoCodec": "h264",
            "AudioCodec": "aac",
            "Protocol": "hls",
            "Context": "Streaming",
        }
    ],
}


def run(client, version, tell):
    """Tells the whole story of one client and ends the process."""
    story = Story(client, version, _arguments(client), _claim_output())
    try:
        tell(story)
    except BaseException as error:  # a library may even raise SystemExit: the report must still come
        story.failed = f"{story.current}: {type(error).__name__}: {error}"[:500]
        traceback.print_exc(limit=8)
    story.say(story.report())
    sys.stderr.flush()
    # The libraries leave threads behind that would keep the process for ever.
    os._exit(0 if story.failed is None else 1)


class Story:
    def __init__(self, client, version, arguments, output):
        self.output = output
        self.client = client
        self.version = version
        self.url = arguments.url.rstrip("/")
        self.user = arguments.user
        self.password = arguments.password
        self.device = arguments.device
        self.stays = arguments.stay
        self.holds = arguments.hold
        self.channel = arguments.channel
        self.holds_file = arguments.hold_file
        self.steps = []
        self.current = "before the first step"
        self.failed = None
        self.hold = None

    @contextlib.contextmanager
    def step(self, name):
        self.current = name
        begun = time.monotonic()
        try:
            yield
        except BaseException:
            self.steps.append({"name": name, "ok": False, "ms": _ms_since(begun)})
            raise
        self.steps.append({"name": name, "ok": True, "ms": _ms_since(begun)})

    def begin_hold(self):
        self.current = "hold"
        self.hold = Hold()
        self.say({"client": self.client, "holding": True})
        return self.hold

    def say(self, line):
        self.output.write(json.dumps(line) + "\n")
        self.output.flush()

    def report(self):
        report = {"client": self.client, "version": self.version, "steps": self.steps, "failed": self.failed}
        if self.hold is not None:
            report["hold"] = self.hold.report()
        return report


class Hold:
    """What a client went through between the word `holding` and the line on standard input."""

    def __init__(self):
        self.begun = time.monotonic()
        self.ms = None
        self.ended = threading.Event()
        self.calls = 0
        self.failures = []
        self.facts = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        sys.stdin.readline()
        self.ms = _ms_since(self.begun)
        self.ended.set()

    def rounds(self):
        """One round each 200 ms until the end; blocking, for clients without an event loop."""
        while not self.ended.is_set():
            yield
            self.ended.wait(HOLD_PAUSE_S)

    def call(self, name, function, *words):
        self.calls += 1
        try:
            return function(*words)
        except Exception as error:
            self.fail(name, error)
            return None

    def fail(self, name, error):
        at = _ms_since(self.begun)
        self.failures.append({"call": name, "at_ms": at, "why": f"{type(error).__name__}: {error}"[:300]})

    def report(self):
        return {
            "ms": self.ms,
            "calls": self.calls,
            "failed_calls": len(self.failures),
            "failures": self.failures[:5],
            **self.facts,
        }


class Stalls:
    """Finds the times in which a film stood still, from positions looked at again and again."""

    def __init__(self):
        self.position = None
        self.moved = time.monotonic()
        self.first_move = None
        self.found_ms = []
        self.longest_s = 0.0
        self.played_s = 0.0

    def look(self, position):
        now = time.monotonic()
        if position is not None and position != self.position:
            if self.position is not None and 0 < position - self.position < 5:
                self.played_s += position - self.position
            if self.first_move is None:
                self.first_move = now
            else:
                self._note(now - self.moved)
            self.position = position
            self.moved = now

    def end(self):
        """Counts the stall that is not over yet."""
        if self.first_move is not None:
            self._note(time.monotonic() - self.moved)
        longest_ms = round(self.longest_s * 1000)
        return {"stalls_ms": self.found_ms, "longest_still_ms": longest_ms, "played_s": round(self.played_s, 1)}

    def _note(self, seconds):
        self.longest_s = max(self.longest_s, seconds)
        if seconds > STALL_S:
            self.found_ms.append(round(seconds * 1000))


def until(what, condition, patience=PATIENCE_S):
    """Waits for a state; the deadline is only there to end a story that has gone wrong."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {patience:g} s")
        time.sleep(0.02)


def expect(truth, sentence):
    if not truth:
        raise AssertionError(sentence)
    return truth


def die_with_parent():
    """For `preexec_fn`: a child that outlived a killed story would play its film for ever."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def first_film(items):
    """The first item that can be played as a film."""
    films = [item for item in items if item.get("MediaType") == "Video"]
    return expect(films, f"no film among {len(items)} items")[0]


def playing(item, source, play_session, seconds, method="DirectPlay"):
    """The body of a playback report."""
    return {
        "ItemId": item["Id"],
        "MediaSourceId": source["Id"],
        "PlaySessionId": play_session,
        "PositionTicks": int(seconds * TICKS_A_SECOND),
        "PlayMethod": method,
        "CanSeek": True,
        "IsPaused": False,
        "IsMuted": False,
    }


def _claim_output():
    """Standard output for the story alone: what the libraries print goes where errors go."""
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return output


def _arguments(client):
    parser = argparse.ArgumentParser(description=f"Drives {client} against a Jellyfin server.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--device", default=f"story-{client}", help="the DeviceId")
    parser.add_argument("--stay", action="store_true", help="do not log out at the end")
    parser.add_argument("--hold", action="store_true", help="go on working until a line comes on standard input")
    parser.add_argument("--channel", action="store_true", help="play a live channel, where the story can do either")
    parser.add_argument("--hold-file", action="store_true", help="of mpv: hold while a plain file plays, not HLS")
    return parser.parse_args()


def _ms_since(begun):
    return round((time.monotonic() - begun) * 1000)
