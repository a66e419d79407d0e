"""Checks that what is in deploy/, the Dockerfile and the crate agree; `deploy/check` runs it.

Each check is a function named `check_…` whose docstring says what holds.
"""

import fnmatch
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

import yaml

from bans import check_crowdsec, check_fail2ban
from chart import check_chart, check_chart_copies
from monitoring import check_dashboard, check_layout, check_rules
from processes import LeftOut, jellypin_check, program
from stacks import (
    check_cluster_runs,
    check_single,
    check_single_runs,
    check_specification,
    check_standby_copies,
    check_standby_runs,
    with_defaults,
)

ROOT = pathlib.Path(sys.argv[1])
COMPOSE = ROOT / "deploy/compose/cluster"
KUBERNETES = ROOT / "deploy/kubernetes"


class Dockerfile:
    """The instructions of the Dockerfile, as pairs of a word and the rest."""

    def __init__(self):
        text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
        self.instructions = [line.split(None, 1) for line in text.splitlines() if line.strip()]

    def all(self, word):
        return [rest for name, rest in self.instructions if name.upper() == word]

    def last(self, word):
        found = self.all(word)
        assert found, f"the Dockerfile has no {word}"
        return found[-1]

    def copied_from_context(self):
        """Sources and destinations of the COPY instructions that take from the build context."""
        for rest in self.all("COPY"):
            if not rest.startswith("--from"):
                *sources, destination = rest.split()
                yield sources, destination


class Stack:
    """The cluster's compose.yaml with its variables at their defaults, in a copy of its folder in which `set-up` has run."""

    def __init__(self, folder):
        self.folder = pathlib.Path(shutil.copytree(COMPOSE, folder / "compose", ignore=shutil.ignore_patterns("secrets")))
        subprocess.run([self.folder / "set-up"], check=True)
        self.yaml = yaml.safe_load(with_defaults((self.folder / "compose.yaml").read_text()))
        self.services = self.yaml["services"]
        self.config = tomllib.loads((self.folder / "jellypin.toml").read_text())

    def pods(self):
        """The services that are pods, by name."""
        return {name: service for name, service in self.services.items() if name.startswith("jellyfin")}

    def mounts(self, service):
        """Triples of source, target and mode."""
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            yield source, target, mode

    def secrets(self, service):
        """The files of a service's secrets, by their paths in its container."""
        for name in service.get("secrets", []):
            assert name in self.yaml["secrets"], f"the secret {name} is not declared"
            yield f"/run/secrets/{name}", self.folder / self.yaml["secrets"][name]["file"]

    def ports_of_pods(self):
        """The ports of the pods as jellypin's configuration has them, by host."""
        urls = [pod if isinstance(pod, str) else pod["url"] for pod in self.config["pools"]["main"]["pods"].values()]
        return dict(re.fullmatch(r"http://([^:/]+):(\d+)", url).groups() for url in urls)


def container_ports(service):
    return {port.rsplit(":", 1)[1] for port in service.get("ports", [])}


def cargo(*arguments, cwd=ROOT):
    done = subprocess.run(["cargo", *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"cargo {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def binaries():
    """The programs of the crate jellypin."""
    packages = json.loads(cargo("metadata", "--no-deps", "--format-version", "1"))["packages"]
    targets = next(package for package in packages if package["name"] == "jellypin")["targets"]
    return {target["name"] for target in targets if "bin" in target["kind"]}


def check_copied(dockerfile, _):
    """what the Dockerfile copies is there, and .dockerignore lets it through"""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    for sources, _destination in dockerfile.copied_from_context():
        for source in sources:
            assert (ROOT / source).exists(), f"{source} is not there"
            ignored = False
            for rule in rules:
                if any(fnmatch.fnmatch(path, rule.lstrip("!")) for path in (source, *ancestors(source))):
                    ignored = not rule.startswith("!")
            assert not ignored, f".dockerignore hides {source}"


def ancestors(path):
    return [str(parent) for parent in pathlib.PurePosixPath(path).parents if str(parent) != "."]


def check_context(dockerfile, stack):
    """cargo can read the workspace made of what is copied"""
    context = stack.folder / "context"
    for sources, destination in dockerfile.copied_from_context():
        for source in sources:
            target = context / destination / ("" if (ROOT / source).is_dir() else source)
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile)(ROOT / source, target)
    cargo("metadata", "--no-deps", "--format-version", "1", cwd=context)


def check_program(dockerfile, _):
    """the image builds, copies and starts the crate's program, for the two platforms of a release"""
    entry = json.loads(dockerfile.last("ENTRYPOINT"))[0]
    name = pathlib.PurePosixPath(entry).name
    assert name in binaries(), f"{name} is no program of the crate"
    build = " ".join(dockerfile.all("RUN"))
    assert f"cargo zigbuild --release --locked --package jellypin --bin {name} " in build, build
    assert f'release/{name}" /image{entry}' in build, f"{entry} is started, and not installed"
    triples = set(re.findall(r"\w+-unknown-linux-\w+", build))
    workflow = set(re.findall(r"\w+-unknown-linux-\w+", (ROOT / ".github/workflows/release.yml").read_text()))
    assert triples == workflow == {"x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"}, f"{triples}, {workflow}"


def check_stages(dockerfile, _):
    """the image is built by the workspace's Rust on the builder's own platform, and not run by root"""
    platform, build = dockerfile.all("FROM")[0].split()[:2]
    assert platform == "--platform=$BUILDPLATFORM" and dockerfile.all("FROM")[1] == "scratch"
    rust = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    assert build.startswith(f"rust:{rust}-"), f"{build} is not Rust {rust}"
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", dockerfile.last("USER")), "the image runs as root"


def check_ports(dockerfile, stack):
    """listeners, EXPOSE and published ports are the same"""
    listeners = {stack.config[table][key].rsplit(":", 1)[1] for table, key in (("listen", "http"), ("admin", "listen"))}
    exposed = set(dockerfile.last("EXPOSE").split())
    published = container_ports(stack.services["jellypin"])
    assert listeners == exposed == published, f"listeners {listeners}, exposed {exposed}, published {published}"
    admin = stack.config["admin"]["listen"].rsplit(":", 1)[1]
    open_to_all = [port for port in stack.services["jellypin"]["ports"] if port.endswith(f":{admin}")]
    assert all(port.startswith("127.0.0.1:") for port in open_to_all), "the admin API is open to all"
    host_ports = [port.rsplit(":", 1)[0].rsplit(":", 1)[-1] for service in stack.services.values() for port in service.get("ports", [])]
    assert len(host_ports) == len(set(host_ports)), f"a port of the host is published twice: {host_ports}"


def check_pods(_, stack):
    """jellypin's pods are the stack's other services, at the ports that those listen on, and its Redis is there"""
    redis = stack.config["redis"]["url"].removeprefix("redis://").split(":")[0]
    assert redis in stack.services, f"{redis} is no service"
    configured, pods = stack.ports_of_pods(), stack.pods()
    assert configured.keys() == pods.keys(), f"configured {set(configured)}, services {set(pods)}"
    for name, port in configured.items():
        assert container_ports(pods[name]) == {port}, f"{name} is asked at {port}, and listens on {container_ports(pods[name])}"


def check_volumes(_, stack):
    """every volume and every file that is mounted is there, and every volume is used"""
    used = set()
    for name, service in stack.services.items():
        for source, target, _mode in stack.mounts(service):
            if not source.startswith((".", "/")):
                assert source in stack.yaml["volumes"], f"{name}: the volume {source} is not declared"
                used.add(source)
            elif pathlib.PurePosixPath(target).suffix:
                assert (stack.folder / source).is_file(), f"{name}: {source} is not there"
    assert used == stack.yaml["volumes"].keys(), f"unused: {stack.yaml['volumes'].keys() - used}"


def check_secrets(_, stack):
    """every secret is declared, made by set-up and readable to a program that is not root"""
    used = [file for service in stack.services.values() for _path, file in stack.secrets(service)]
    assert used and len(used) == len(stack.yaml["secrets"]), "a secret is not used"
    for file in used:
        assert file.stat().st_size >= 16 and file.stat().st_mode & 0o004, f"{file.name} is too short or cannot be read"
        assert file.parent.stat().st_mode & 0o077 == 0, f"{file.parent.name}/ is open to others"


def check_one_server(_, stack):
    """the pods are one server to clients, and none shares what must be its own"""
    own, ids, addresses, images, media = [], set(), set(), set(), set()
    for service in stack.pods().values():
        by_target = {target: source for source, target, _mode in stack.mounts(service)}
        own += [by_target["/config"], by_target["/cache"]]
        ids.add(by_target["/config/data/device.txt"])
        media.add(by_target["/media"])
        images.add(service["image"])
        addresses.add(service["environment"]["JELLYFIN_PublishedServerUrl"])
    assert len(own) == len(set(own)), f"pods share a folder that is each pod's own: {own}"
    assert [len(same) for same in (ids, addresses, images, media)] == [1] * 4, "pods differ in what has to be the same"
    (device,) = ids
    server_id = (stack.folder / device).read_text()
    assert re.fullmatch("[0-9a-f]{32}", server_id), f"{server_id!r} is no server id"


def check_set_up(_, stack):
    """set-up leaves what it has made before"""
    files = [stack.folder / "secrets" / name for name in ("cookie_key", "device.txt")]
    before = [file.read_bytes() for file in files]
    assert before[0] != before[1]
    subprocess.run([stack.folder / "set-up"], check=True)
    assert before == [file.read_bytes() for file in files]


def check_config(_, stack):
    """`jellypin check` takes the configuration that is mounted where jellypin looks for it"""
    jellypin = stack.services["jellypin"]
    mounted = {target: source for source, target, _mode in stack.mounts(jellypin)}
    usage = subprocess.run([program("jellypin"), "--help"], capture_output=True, text=True, check=True).stdout
    default = re.search(r"\[default: (\S+)\]", usage)[1]
    assert default in mounted, f"jellypin looks for {default}, mounted are {list(mounted)}"
    text = (stack.folder / mounted[default]).read_text()
    for path, file in stack.secrets(jellypin):
        assert f'"{path}"' in text, f"{path} is not used"
        text = text.replace(f'"{path}"', json.dumps(str(file)))
    here = stack.folder / "checked.toml"
    here.write_text(text)
    jellypin_check(here)


class Cluster:
    """jellypin.yaml of deploy/kubernetes."""

    def __init__(self):
        objects = [one for one in yaml.safe_load_all((KUBERNETES / "jellypin.yaml").read_text()) if one]
        self.objects = {(one["kind"], one["metadata"]["name"]): one for one in objects}
        assert len(self.objects) == len(objects), "an object is there twice"
        self.text = self.objects["ConfigMap", "jellypin"]["data"]["jellypin.toml"]
        self.config = tomllib.loads(self.text)
        self.template = self.objects["Deployment", "jellypin"]["spec"]["template"]
        self.pod = self.template["spec"]
        (self.container,) = self.pod["containers"]
        self.ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}


def check_cluster_ports(dockerfile, _):
    """on Kubernetes listeners, container ports, probes and the Service are the same"""
    cluster = Cluster()
    port = lambda table, key: int(cluster.config[table][key].rsplit(":", 1)[1])
    assert cluster.ports == {"http": port("listen", "http"), "operators": port("admin", "listen")}, cluster.ports
    assert {str(port) for port in cluster.ports.values()} == set(dockerfile.last("EXPOSE").split())
    for probe in ("readinessProbe", "livenessProbe"):
        asked = cluster.container[probe]["httpGet"]
        assert asked["port"] == "operators" and asked["path"] == "/live", f"{probe}: {asked}"
    (service,) = cluster.objects["Service", "jellypin"]["spec"]["ports"]
    assert service["targetPort"] == "http"
    pods = cluster.config["pools"]["main"]["pods"]
    (serving,) = cluster.objects["Service", "jellyfin-pods"]["spec"]["ports"]
    for name, url in pods.items():
        assert url == f"http://{name}.jellyfin-pods:{serving['port']}", url


def check_cluster_labels(_dockerfile, _):
    """on Kubernetes everything that selects jellypin selects its pods, and no user is root"""
    cluster = Cluster()
    labels = cluster.template["metadata"]["labels"]
    spec = lambda kind: cluster.objects[kind, "jellypin"]["spec"]
    selectors = [spec("Service")["selector"], spec("NetworkPolicy")["podSelector"]["matchLabels"]]
    selectors += [spec(kind)["selector"]["matchLabels"] for kind in ("Deployment", "PodDisruptionBudget")]
    assert all(selector == labels for selector in selectors), selectors
    user = Dockerfile().last("USER")
    context = cluster.pod["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}", f"the image's user is {user}"


def check_cluster_stop(_dockerfile, _):
    """on Kubernetes a stop has the time that it takes by default"""
    cluster = Cluster()
    seconds = cluster.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    defaults = tomllib.loads((ROOT / "config/jellypin.toml").read_text())
    drain = cluster.config.get("timeouts", defaults["timeouts"])["drain"]
    assert cluster.pod["terminationGracePeriodSeconds"] > seconds + int(drain.removesuffix("s")) + 5


def check_cluster_config(_, stack):
    """`jellypin check` takes the configuration on Kubernetes, with the secrets that its README makes"""
    cluster = Cluster()
    mounts = {mount["name"]: mount["mountPath"] for mount in cluster.container["volumeMounts"]}
    readme = (KUBERNETES / "README.md").read_text()
    made = dict(re.findall(r"--from-literal=(\w+)=(\S+)", readme))
    text = cluster.text
    for path in re.findall(r'file = "([^"]*)"', text):
        folder, name = path.rsplit("/", 1)
        assert folder == mounts["secrets"] and name in made, f"{path} is not made"
        value = made[name].strip("'\"")
        here = stack.folder / name
        here.write_text("0" * 64 if value.startswith("$(") else value)
        text = text.replace(f'"{path}"', json.dumps(str(here)))
    # Here nobody has these names.
    text = re.sub(r"(//[\w-]+)(\.[\w-]+)?:(\d+)", r"\1.invalid:\3", text)
    config = stack.folder / "cluster.toml"
    config.write_text(text)
    jellypin_check(config)


def check_readme(dockerfile, stack):
    """the stack that the README shows is whole, and `jellypin check` takes its configuration"""
    shown = yaml.safe_load(re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1])
    jellypin = shown["services"]["jellypin"]
    (mount,) = jellypin["configs"]
    text = shown["configs"][mount["source"]]["content"]
    config = tomllib.loads(text)
    assert jellypin["build"] == "." and mount["target"] == "/etc/jellypin/jellypin.toml"
    volumes = [volume.split(":")[:2] for service in shown["services"].values() for volume in service["volumes"]]
    assert {name for name, _ in volumes if not name.startswith(".")} == shown["volumes"].keys()
    assert ["state", config["state"]["path"]] in volumes and config["state"]["path"] in " ".join(dockerfile.all("RUN"))
    (port,) = jellypin["ports"]
    assert port.endswith(":" + config["listen"]["http"].rsplit(":", 1)[1])
    for url in config["pools"]["main"]["pods"].values():
        assert re.fullmatch(r"http://(.*):8096", url)[1] in shown["services"], f"{url} is no service"
    here = stack.folder / "readme.toml"
    here.write_text(text.replace(config["state"]["path"], str(stack.folder)).replace("//jellyfin:", "//jellyfin.invalid:"))
    jellypin_check(here)


def check_compose(_, stack):
    """`docker compose config` takes compose.yaml"""
    done = subprocess.run(["docker", "compose", "config", "--quiet"], cwd=stack.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def has_compose():
    docker = shutil.which("docker")
    return docker and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0


def main():
    checks = [check for name, check in globals().items() if name.startswith("check_")]
    if not has_compose():
        print("left out: `docker compose config`, since there is no docker compose here")
        checks.remove(check_compose)
    failed = left_out = 0
    for check in checks:
        with tempfile.TemporaryDirectory() as folder:
            try:
                check(Dockerfile(), Stack(pathlib.Path(folder)))
                print(f"ok      {check.__doc__}")
            except LeftOut as why:
                left_out += 1
                print(f"left out: {why}")
            except Exception as error:
                failed += 1
                print(f"FAILED  {check.__doc__}: {type(error).__name__}: {error}")
    print(f"{len(checks) - failed - left_out} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
