"""Checks deploy/compose without a container engine: by the compose specification, and by running the stacks' programs.

Simulated pods stand in Jellyfin's place; names of services become loopback addresses.
"""

import json
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess

import yaml
from compose_spec import PyCompose

from processes import LeftOut, ROOT, Processes, ask, free_ports, program, wait_until

COMPOSE = ROOT / "deploy/compose"
DEVICE = 'MediaBrowser Client="check", Device="sofa", DeviceId="device", Version="1"'


def with_defaults(text):
    """A compose.yaml with its variables at their defaults."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    assert "${" not in text, "a variable has no default"
    return text


def compose_files():
    return sorted(COMPOSE.glob("*/compose.yaml"))


def check_specification(_dockerfile, _stack):
    """every compose.yaml keeps to the compose specification"""
    assert len(compose_files()) == 3
    for path in compose_files():
        stack = PyCompose.from_yaml(with_defaults(path.read_text()))
        stack.validate()
        for name, service in yaml.safe_load(with_defaults(path.read_text()))["services"].items():
            on = service.get("depends_on", {})
            assert set(on) <= set(stack.service_names()), f"{path}: {name} depends on {on}"


def check_single(_dockerfile, _stack):
    """the stack for one Jellyfin is the one that the README shows"""
    shown = yaml.safe_load(re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1])
    single = yaml.safe_load((COMPOSE / "single/compose.yaml").read_text())
    built = single["services"]["jellypin"].pop("build")
    assert (COMPOSE / "single" / built).resolve() == ROOT
    shown["services"]["jellypin"].pop("build")
    assert shown == single


def check_single_runs(dockerfile, stack):
    """the programs of the stack for one Jellyfin serve a client, and are healthy by the image's own check"""
    with Processes(stack.folder) as processes:
        running = Running(processes, COMPOSE / "single", dockerfile)
        running.start_all()
        running.serves()


def check_standby_runs(dockerfile, stack):
    """the copy serves, signed in, while the first Jellyfin is down"""
    folder = stack.folder.parent / "standby"
    shutil.copytree(COMPOSE / "standby", folder, ignore=shutil.ignore_patterns("secrets"), dirs_exist_ok=True)
    with Processes(folder) as processes:
        running = Running(processes, folder, dockerfile)
        running.start_all()
        client, token = running.serves(), running.token
        assert {pod["name"]: pod["leads"] for pod in running.pods_page()}["a"]
        ask(f"{running.pods[0][1]}/kill", {}, method="POST")
        signed_in = {"Authorization": f'{DEVICE}, Token="{token}"'}
        wait_until("the copy knows the client", lambda: ask(f"{client}/Users/Me", headers=signed_in)[0] == 200)
        sessions = json.loads(ask(running.urls["jellypin", "9096"] + "/sessions")[1])
        assert "b" in json.dumps(sessions), sessions


def check_standby_copies(_dockerfile, stack):
    """the copier copies databases that are open, and files, and takes away what is gone"""
    if not (shutil.which("rsync") and shutil.which("sqlite3")):
        raise LeftOut("rsync and sqlite3 are not installed")
    source, target = stack.folder.parent / "from", stack.folder.parent / "to"
    (source / "data").mkdir(parents=True)
    (target / "data").mkdir(parents=True)
    (source / "data/device.txt").write_text("id")
    (source / "data/Thumbs.db").write_text("no database")
    (target / "gone.xml").write_text("old")
    copied = target / "data/jellyfin.db"
    for ending in ("wal", "journal"):
        (target / f"data/jellyfin.db-{ending}").write_text("of the database before")
    database = sqlite3.connect(source / "data/jellyfin.db")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE users (name)")
    # While it is open, while it is closed, and with a copy that is there.
    for number in range(3):
        if number < 2:
            database.execute("INSERT INTO users VALUES ('alice')")
            database.commit()
        if number == 1:
            database.close()
        environment = dict(os.environ, FROM=str(source), TO=str(target))
        subprocess.run(["sh", COMPOSE / "standby/copy-config"], env=environment, check=True)
        assert not copied.with_name("jellyfin.db-journal").exists()
        with sqlite3.connect(copied) as reader:
            count = reader.execute("SELECT count(*) FROM users").fetchone()[0]
        assert count == min(number + 1, 2), count
    assert copied.stat().st_mode == (source / "data/jellyfin.db").stat().st_mode
    assert (target / "data/Thumbs.db").read_text() == "no database"
    assert (target / "data/device.txt").read_text() == "id" and not (target / "gone.xml").exists()


def check_cluster_runs(dockerfile, stack):
    """the programs of the stack for two Jellyfins start in its order, are healthy, and serve a client when a pod is gone"""
    with Processes(stack.folder) as processes:
        running = Running(processes, stack.folder, dockerfile)
        running.start_all()
        client = running.serves()
        assert set(running.ready_pods()) == {"a", "b"}
        for number, (_, control) in enumerate(running.pods):
            ask(f"{control}/kill", {}, method="POST")
            wait_until("the other pod answers the public page", lambda: ask(f"{client}/System/Info/Public")[0] == 200)
            ask(f"{control}/start", {}, method="POST")
            wait_until("the pod is back", lambda: len(running.ready_pods()) == 2)


class Running:
    """The services of one compose.yaml as processes of this machine."""

    def __init__(self, processes, folder, dockerfile):
        self.processes, self.folder, self.dockerfile = processes, folder, dockerfile
        self.yaml = yaml.safe_load(with_defaults((folder / "compose.yaml").read_text()))
        # What needs a profile runs only when it is asked for.
        self.services = {name: one for name, one in self.yaml["services"].items() if not one.get("profiles")}
        self.urls, self.config = {}, None

    def start_all(self):
        """Starts the services in the order of `depends_on`, each when those before it are healthy; pods at last."""
        pods = [name for name in self.services if name.startswith("jellyfin")]
        key, self.pods = self.processes.pods(len(pods), "--known-proxies")
        if "api_key" in self.services["jellypin"].get("secrets", []):
            file = self.folder / self.yaml["secrets"]["api_key"]["file"]
            file.parent.mkdir(exist_ok=True)
            file.write_text(key)
        self.urls |= {(name, "8096"): url for name, (url, _) in zip(pods, self.pods)}
        if "redis" in self.services:
            self.start_redis(self.services["redis"])
        order = self.services["jellypin"].get("depends_on", {})
        assert set(order) <= {"redis"} and all(one["condition"] == "service_healthy" for one in order.values())
        self.start_jellypin(self.services["jellypin"])

    def start_redis(self, service):
        name, *options = service["command"]
        assert name == "redis-server"
        port = self.processes.redis(*options)
        self.urls["redis", "6379"] = f"redis://127.0.0.1:{port}"
        kind, tool, *words = service["healthcheck"]["test"]
        assert kind == "CMD" and shutil.which(tool), tool
        said = subprocess.run([tool, "-p", str(port), *words], capture_output=True, text=True, check=True).stdout
        assert said == "PONG\n", said

    def start_jellypin(self, service):
        text = self.config_text(service)
        published = [port.rsplit(":", 1)[1] for port in service["ports"]]
        for port, free in zip(published, free_ports(len(published))):
            assert f'"0.0.0.0:{port}"' in text, f"nothing listens on {port}"
            text = text.replace(f'"0.0.0.0:{port}"', f'"127.0.0.1:{free}"')
            self.urls["jellypin", port] = f"http://127.0.0.1:{free}"
        if "9096" not in published:
            (free,) = free_ports(1)
            text += f'[admin]\nlisten = "127.0.0.1:{free}"\n'
            self.urls["jellypin", "9096"] = f"http://127.0.0.1:{free}"
        for (name, port), url in self.urls.items():
            text = re.sub(rf"\w+://{name}:{port}", url, text)
        self.config = self.processes.folder / "stack.toml"
        self.config.write_text(text)
        self.processes.start(program("jellypin"), "--config", self.config)
        wait_until("jellypin is healthy", self.is_healthy)

    def config_text(self, service):
        """The file that the container finds at /etc/jellypin/jellypin.toml, with its secrets and its state folder on this machine."""
        default = "/etc/jellypin/jellypin.toml"
        if configs := service.get("configs"):
            (mount,) = [one for one in configs if one["target"] == default]
            text = self.yaml["configs"][mount["source"]]["content"]
        else:
            (source,) = [source for source, target, *_ in (one.split(":") for one in service["volumes"]) if target == default]
            text = (self.folder / source).read_text()
        for name in service.get("secrets", []):
            text = text.replace(f"/run/secrets/{name}", str(self.folder / self.yaml["secrets"][name]["file"]))
        return text.replace("/var/lib/jellypin", str(self.processes.folder / "state"))

    def is_healthy(self):
        """The image's own health check, with the configuration where it is here."""
        options, command = re.fullmatch(r"(.*) CMD (\[.*\])", self.dockerfile.last("HEALTHCHECK")).groups()
        name, *words = json.loads(command)
        assert name == json.loads(self.dockerfile.last("ENTRYPOINT"))[0]
        return subprocess.run([program("jellypin"), *words, "--config", self.config], capture_output=True).returncode == 0

    def pods_page(self):
        return json.loads(ask(self.urls["jellypin", "9096"] + "/pods")[1])

    def ready_pods(self):
        return [pod["name"] for pod in self.pods_page() if pod["state"] == "ready"]

    def serves(self):
        """A client signs in through the published port; gives the address that it called."""
        base = self.urls["jellypin", "8096"]
        # A pod that stands by counts as one that drains.
        up = lambda: [pod for pod in self.pods_page() if pod["state"] in ("ready", "draining")]
        wait_until("every pod is up", lambda: len(up()) == len(self.pods))
        status, text = ask(f"{base}/Users/AuthenticateByName", {"Username": "alice", "Pw": "alice-pw"}, {"Authorization": DEVICE})
        assert status == 200, text
        self.token = json.loads(text)["AccessToken"]
        status, text = ask(f"{base}/Users/Me", headers={"Authorization": f'{DEVICE}, Token="{self.token}"'})
        assert status == 200 and json.loads(text)["Name"] == "alice", text
        return base
