"""Starts the programs that a check needs on this machine's loopback address, and ends them."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = {"jellypin": "jellypin", "jellyfin-sim": "jellyfin-sim"}


class LeftOut(Exception):
    """A check that this machine cannot carry out, and why."""


def program(name):
    """The path of a program of this workspace: of JELLYPIN_PROGRAMS, the folder where it is built already, or built now."""
    built = os.environ.get("JELLYPIN_PROGRAMS")
    if not built:
        build = ["cargo", "build", "--quiet", "--locked", "--package", PACKAGES[name], "--bin", name]
        done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(build)}: {done.stderr}"
        metadata = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
        built = json.loads(subprocess.run(metadata, cwd=ROOT, capture_output=True, text=True, check=True).stdout)["target_directory"]
        built = os.path.join(built, "debug")
    path = (pathlib.Path(built) / name).resolve()
    assert path.is_file(), f"{path} is not there"
    return path


def jellypin_check(config):
    """What `jellypin check` says of a configuration; it has to take it. 1 says only that no pod answers here."""
    done = subprocess.run([program("jellypin"), "check", "--config", config], capture_output=True, text=True)
    assert done.returncode in (0, 1), f"jellypin check: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def free_ports(count):
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


def wait_until(what, holds, seconds=60):
    """Waits for a state; what `holds` raises or answers falsely is tried again."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            last = holds()
            if last:
                return last
        except (OSError, ValueError, KeyError, IndexError) as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds} s ({last})")


def ask(url, body=None, headers=None, method=None):
    """Status and text of an answer, whatever it is."""
    data = json.dumps(body).encode() if body is not None else None
    headers = {**({"Content-Type": "application/json"} if data else {}), **(headers or {})}
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Processes(contextlib.ExitStack):
    """Running programs; leaving it ends them, the last first."""

    def __init__(self, folder):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.count = 0

    def start(self, *command, env=None):
        """Starts a program, and gives the path of what it says."""
        self.count += 1
        output = self.folder / f"{self.count}-{pathlib.Path(str(command[0])).name}.log"
        with output.open("wb") as file:
            environment = {**os.environ, **(env or {})}
            process = subprocess.Popen([str(part) for part in command], stdout=file, stderr=file, env=environment)
        self.callback(self.end, process)
        return output

    @staticmethod
    def end(process):
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def pods(self, count, *options):
        """Simulated pods on one database: their API key, and for each a pair of its URL and that of its control port."""
        said = self.start(
            program("jellyfin-sim"), "--pods", count, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", *options
        )
        line = re.compile(r"^pod \S+ (\S+) control (\S+)$", re.M)
        wait_until("the pods listen", lambda: len(line.findall(said.read_text())) == count)
        return re.search(r"^api-key (\S+)$", said.read_text(), re.M)[1], line.findall(said.read_text())

    def redis(self, *options):
        """A Redis of its own; its port."""
        server = shutil.which("redis-server") or shutil.which("valkey-server")
        if not server:
            raise LeftOut("what needs a Redis, since there is no redis-server here")
        (port,) = free_ports(1)
        self.start(server, "--port", port, "--bind", "127.0.0.1", "--dir", self.folder, *options)

        def answers():
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")

        wait_until("Redis answers", answers)
        return port
