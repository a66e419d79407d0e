"""Checks deploy/monitoring with Prometheus itself: its rules by promtool, its dashboard before a jellypin that runs.

Prometheus is unpacked from Debian's package below target/deploy/debian, as the programs of bans.py are.
"""

import json
import pathlib
import re
import subprocess
import urllib.parse

import yaml

from bans import unpacked
from processes import ROOT, Processes, ask, free_ports, program, wait_until

MONITORING = ROOT / "deploy/monitoring"
DASHBOARD = MONITORING / "grafana-dashboard.json"

# An item of the simulated pods.
FILM = "11f0c1a5e0b04d6e9d3a7c2f5b8e4d01"

# What the run below does not provoke: families that have counted nothing are not there at all. Each has to be missing indeed.
NOT_PROVOKED = {
    "jellypin_resumed_total",
    "jellypin_limited_total",
    "jellypin_autodiscovery_total",
    "jellypin_redis_let_go_total",
    # Nothing is served over TLS there.
    "jellypin_certificate_expiry_timestamp_seconds",
    "jellypin_user_data_waits_total",
    "jellypin_user_data_dropped_total",
}

# Grafana's own words, as they are with a panel of some minutes.
VARIABLES = {"$__rate_interval": "30s", "$job": "jellypin", "$instance": ".*", "$pool": ".*"}


def prometheus():
    return unpacked("prometheus") / "usr/bin/prometheus"


def promtool(*arguments):
    tool = unpacked("prometheus") / "usr/bin/promtool"
    done = subprocess.run([tool, *arguments], cwd=MONITORING, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def alerts():
    groups = yaml.safe_load((MONITORING / "jellypin.rules.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def metrics_of(expression):
    """The metrics that an expression names, without recorded ones and without the endings of a histogram's series."""
    names = set(re.findall(r"(?<![\w:])jellypin_[a-z0-9_]+", expression))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def known_metrics():
    """Every metric there is: tests/docs.rs holds the page to the code."""
    return set(re.findall(r"^\| `(jellypin_[a-z0-9_]+)` \|", (ROOT / "docs/operations.md").read_text(), re.M))


def check_rules(_dockerfile, _stack):
    """promtool takes the configuration and the rules of deploy/monitoring, and every alert passes its unit tests"""
    promtool("check", "config", "prometheus.yml")
    promtool("test", "rules", "jellypin.rules.test.yml")
    tests = yaml.safe_load((MONITORING / "jellypin.rules.test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    fired = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert fired == alerts().keys(), f"no case fires {alerts().keys() - fired}, no rule for {fired - alerts().keys()}"
    page = (ROOT / "docs/operations.md").read_text()
    for name, rule in alerts().items():
        assert f"| `{name}` |" in page, f"docs/operations.md has no row for {name}"
        unknown = metrics_of(rule["expr"]) - known_metrics()
        assert not unknown, f"{name}: there is no {unknown}"


def panels():
    """Panels with their queries, rows left out."""
    found = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    assert found and all(panel["targets"] for panel in found)
    return found


def check_layout(_dockerfile, _stack):
    """no two panels of the dashboard lie one over the other, or bear one number, and every one uses the chosen Prometheus"""
    dashboard = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)), "two panels have one id"
    taken = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, f"{panel['title']} is too wide"
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((x, y), panel["title"])
                assert other == panel["title"], f"{panel['title']} lies over {other}"
    for panel in panels():
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}, panel["title"]


def check_dashboard(_dockerfile, stack):
    """each query of the dashboard, and each alert, has an answer of a Prometheus that asks two replicas while a pod dies"""
    with Processes(stack.folder) as processes:
        scene = Scene(processes)
        scene.live()
        texts = "\n".join(ask(f"http://{target}/metrics")[1] for target in scene.targets)
        present = {name for name in known_metrics() if re.search(rf"^{name}(_count)?[{{ ]", texts, re.M)}
        missing = known_metrics() - present - {"jellypin_build_info"}
        drawn = set()
        for panel in panels():
            for target in panel["targets"]:
                scene.check_query(panel["title"], target, missing)
                drawn |= metrics_of(target["expr"])
        unprovoked = drawn & missing
        assert unprovoked == NOT_PROVOKED & drawn, f"not provoked: {unprovoked}, expected: {NOT_PROVOKED & drawn}"
        for annotation in json.loads(DASHBOARD.read_text())["annotations"]["list"]:
            scene.query(annotation["expr"])
        scene.check_rules()


class Scene:
    """Two pods, a Redis, two replicas of jellypin, and a Prometheus with the rules of deploy/monitoring that asks them each second."""

    def __init__(self, processes):
        folder, self.processes, self.strangers = processes.folder, processes, 100
        api_key, self.pods = processes.pods(2, "--known-proxies")
        redis = processes.redis("--appendonly", "yes")
        ports = free_ports(5)
        self.sides, admins, own = ports[:2], ports[2:4], ports[4]
        self.targets = [f"127.0.0.1:{port}" for port in admins]
        for side, admin in zip(self.sides, admins):
            config = folder / f"{side}.toml"
            config.write_text(f"""
                [listen]
                http = "127.0.0.1:{side}"
                workers = 1
                [admin]
                listen = "127.0.0.1:{admin}"
                [affinity]
                keys = [{{ env = "JELLYPIN_KEY" }}]
                [jellyfin]
                api_key = {{ env = "JELLYPIN_API_KEY" }}
                [redis]
                url = "redis://127.0.0.1:{redis}"
                [leader]
                mode = "elect"
                [pools.main.pods]
                a = "{self.pods[0][0]}"
                b = "{self.pods[1][0]}"
            """)
            secrets = {"JELLYPIN_KEY": "0" * 64, "JELLYPIN_API_KEY": api_key}
            processes.start(program("jellypin"), "--config", config, env=secrets)
        self.prometheus = f"http://127.0.0.1:{own}"
        for target in self.targets:
            wait_until("jellypin is ready", lambda: ask(f"http://{target}/ready")[0] == 200)
        self.start_prometheus(folder, own)

    def start_prometheus(self, folder, port):
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(MONITORING / "jellypin.rules.yml")]
        config["scrape_configs"][0]["static_configs"][0]["targets"] = self.targets
        written = folder / "prometheus.json"
        written.write_text(json.dumps(config))
        self.processes.start(
            prometheus(), f"--config.file={written}", f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
        )
        wait_until("Prometheus is ready", lambda: ask(f"{self.prometheus}/-/ready")[0] == 200)
        wait_until("Prometheus asks both replicas", lambda: self.query('up{job="jellypin"} == 1') and self.asked_twice())

    def asked_twice(self):
        seen = self.query('count_over_time(jellypin_sessions{job="jellypin"}[1m]) >= 2')
        return len(seen) == len(self.targets)

    def log_in(self, number, user, password, server=None):
        """Signs a user in on a device of its own; the status, and the header that the device sends from then on."""
        server = server or self.url(number, "")
        device = f'MediaBrowser Client="check", Device="sofa", DeviceId="device-{number}", Version="1"'
        status, text = ask(f"{server}/Users/AuthenticateByName", {"Username": user, "Pw": password}, {"Authorization": device})
        token = json.loads(text)["AccessToken"] if status == 200 else ""
        return status, {"Authorization": f'{device}, Token="{token}"'}

    def live(self):
        """Clients sign in and ask, some badly; one of their pods dies under them."""
        assert self.log_in(0, "root", "wrong")[0] == 401
        clients = [self.log_in(0, "root", "root-pw")] + [self.log_in(number, f"user{number}", "pw") for number in range(1, 7)]
        assert all(status == 200 for status, _header in clients), clients
        assert ask(self.url(0, "/Users/Me"), method="TRACE")[0] == 405
        self.everybody_asks(clients)
        _, settings = ask(self.url(0, "/System/Configuration"), headers=clients[0][1])
        status, text = ask(self.url(0, "/System/Configuration"), json.loads(settings), clients[0][1])
        assert status == 204, f"{status} {text}"
        status, text = ask(self.url(0, f"/UserFavoriteItems/{FILM}"), {}, clients[0][1])
        assert status == 200, f"{status} {text}"
        wait_until("a request leaves a pod that does not know its token", self.a_request_moves)
        ask(f"{self.pods[0][1]}/kill", {}, method="POST")
        wait_until("nobody is on the dead pod", lambda: self.everybody_asks(clients))
        wait_until("the pod is down", lambda: self.query('jellypin_pod_state{pod="a", state="down"} == 1'))
        # Rates need two samples after what they count.
        before = self.samples()
        self.everybody_asks(clients)
        wait_until("Prometheus has seen it", lambda: self.samples() >= before + 3)

    def samples(self):
        return min(int(float(one["value"][1])) for one in self.query('count_over_time(jellypin_sessions{job="jellypin"}[10m])'))

    def url(self, number, path):
        return f"http://127.0.0.1:{self.sides[number % 2]}{path}"

    def a_request_moves(self):
        """Two clients that signed in past jellypin ask through it; the wrong pod may be asked first."""
        self.strangers += 2
        for number, (pod, _control) in enumerate(self.pods, self.strangers):
            _, header = self.log_in(number, f"user{number}", "pw", pod)
            assert ask(self.url(number, "/Users/Me"), headers=header)[0] == 200
        return any("jellypin_moves_total{" in ask(f"http://{target}/metrics")[1] for target in self.targets)

    def everybody_asks(self, clients):
        answers = [ask(self.url(number, "/Users/Me"), headers=header)[0] for number, (_, header) in enumerate(clients)]
        return all(status == 200 for status in answers)

    def query(self, expression):
        url = f"{self.prometheus}/api/v1/query?query={urllib.parse.quote(expression)}"
        status, text = ask(url)
        assert status == 200, f"{expression}: {text}"
        return json.loads(text)["data"]["result"]

    def check_query(self, title, target, missing):
        """A query has an answer whose series bear the labels of its legend, unless a metric of it was not provoked."""
        expression = target["expr"]
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        assert "$" not in expression, f"{title}: a variable is unknown in {expression}"
        unknown = metrics_of(expression) - known_metrics()
        assert not unknown, f"{title}: there is no {unknown}"
        series = self.query(expression)
        if metrics_of(expression) & missing:
            return
        assert series, f"{title}: nothing for {expression}"
        labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        for one in series:
            assert labels <= one["metric"].keys(), f"{title}: the legend {target['legendFormat']} of {one['metric']}"

    def check_rules(self):
        """Prometheus has evaluated each rule without an error, and the dead pod's alert waits for its time."""
        groups = json.loads(ask(f"{self.prometheus}/api/v1/rules")[1])["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        broken = [rule["name"] for rule in rules if rule["health"] != "ok"]
        assert not broken, f"cannot be evaluated: {broken}"
        dead = next(rule for rule in rules if rule["name"] == "JellypinPodDown")
        pods = {(alert["labels"]["pod"], alert["state"]) for alert in dead["alerts"]}
        assert pods == {("a", "pending")}, pods
