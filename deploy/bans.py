"""Runs fail2ban and CrowdSec themselves with the files of deploy/ over lines as jellypin writes them.

A story of jellypin compares `deploy/fail2ban/log-lines.jsonl` with jellypin's own log. The programs are unpacked from Debian's
packages below target/deploy/debian, without root and without a service: nobody wants them to run on this machine.
"""

import ipaddress
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess

import yaml

from processes import LeftOut

DEPLOY = pathlib.Path(__file__).resolve().parent
UNPACKED = DEPLOY.parent / "target/deploy/debian"
LINES = (DEPLOY / "fail2ban/log-lines.jsonl").read_text().splitlines()

# Failures of one address that both programs take for guessing.
GUESSES = 12


def unpacked(package):
    """The folder with the package's files."""
    folder = UNPACKED / package
    if not folder.exists():
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            raise LeftOut(f"{package}, since there is no apt-get here to fetch it with")
        made = UNPACKED / f"{package}.new"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        fetch = subprocess.run(["apt-get", "download", "-q", package], cwd=made, capture_output=True, text=True)
        archive = next(made.glob("*.deb"), None)
        if fetch.returncode or not archive:
            raise LeftOut(f"{package}, since apt-get has no such package here ({fetch.stderr.strip().splitlines()[-1:]})")
        subprocess.run(["dpkg", "-x", archive, made / "files"], check=True)
        archive.unlink()
        (made / "files").rename(folder)
        made.rmdir()
    return folder


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, **options)


def forged():
    """Lines in which a stranger has put the text of a failure; the address in it is nobody's."""
    start = '{"timestamp":"2026-11-30T07:00:00.123456Z","level":"WARN","message":'
    inner = LINES[0].replace("203.0.113.7", "192.0.2.66").split('"message":', 1)[1]
    return [f'{start}"x","path":{json.dumps(inner)}}}', f"{start}{json.dumps(inner)}}}", json.dumps({"path": inner}), inner[:40]]


def address_of(line):
    return json.loads(line)["client.address"]


def guesses():
    """Twelve failures of one address within seconds, and one of another."""
    at = lambda line, second: re.sub(r"T07:00:\d\d", f"T07:00:{second:02}", line)
    return [at(LINES[0], second) for second in range(GUESSES)] + [at(LINES[2], GUESSES)]


def check_fail2ban(_dockerfile, stack):
    """fail2ban takes the files of deploy/fail2ban, and finds the address of each failure and of nothing else"""
    files = unpacked("fail2ban")
    python = {**os.environ, "PYTHONPATH": str(files / "usr/lib/python3/dist-packages"), "PYTHONDONTWRITEBYTECODE": "1"}
    config = stack.folder / "fail2ban"
    shutil.copytree(files / "etc/fail2ban", config)
    for name in ("filter.d/jellypin.conf", "jail.d/jellypin.conf"):
        shutil.copy(DEPLOY / "fail2ban" / name, config / name)
    (config / "jail.d/defaults-debian.conf").unlink(missing_ok=True)
    log = stack.folder / "jellypin.log"
    log.write_text("\n".join([*LINES, *forged()]) + "\n")
    jail = config / "jail.d/jellypin.conf"
    jail.write_text(jail.read_text().replace("/var/log/jellypin/jellypin.log", str(log)))
    test = run("python3", files / "usr/bin/fail2ban-client", "-c", config, "-t", env=python)
    assert test.returncode == 0 and "OK" in test.stdout, test.stdout + test.stderr
    filtered = config / "filter.d/jellypin.conf"
    found = run("python3", files / "usr/bin/fail2ban-regex", "-o", "ip", log, filtered, env=python)
    assert found.stdout.split() == [address_of(line) for line in LINES], found.stdout + found.stderr
    found = run("python3", "-c", JOURNAL, config, env=python, input=json.dumps([*LINES, *forged()]))
    assert found.stdout.split() == [address_of(line) for line in LINES], found.stdout + found.stderr


# Reads lines as fail2ban hands them on from the journal: with the name of the machine and of the service, and the date apart.
JOURNAL = """
import json, sys, time
from fail2ban.client.filterreader import FilterReader
from fail2ban.server.filter import Filter

reader = FilterReader("jellypin", "jellypin", {}, basedir=sys.argv[1])
assert reader.read()
reader.getOptions(None)
options = reader.getCombined()
found = Filter(None, useDns="no")
found.setDatePattern(options["datepattern"])
for regex in options["failregex"].strip().splitlines():
    found.addFailRegex(regex)
for line in json.load(sys.stdin):
    for failure in found.processLine(("", "2026-11-30T07:00:00 ", f"media jellypin[4711]: {line}"), time.time()):
        print(failure[1])
"""


def check_crowdsec(_dockerfile, stack):
    """CrowdSec takes the files of deploy/crowdsec, parses each failure and nothing else, and bans the address that guesses"""
    files = unpacked("crowdsec")
    home = stack.folder / "crowdsec"
    hub = files / "usr/share/crowdsec/hub"
    shutil.copytree(files / "etc/crowdsec/patterns", home / "patterns")
    shutil.copy(files / "etc/crowdsec/simulation.yaml", home)
    for source, target in (
        (hub / "parsers/s00-raw/crowdsecurity/syslog-logs.yaml", "parsers/s00-raw/syslog-logs.yaml"),
        (DEPLOY / "crowdsec/parser.yaml", "parsers/s01-parse/jellypin.yaml"),
        (hub / "parsers/s02-enrich/crowdsecurity/dateparse-enrich.yaml", "parsers/s02-enrich/dateparse-enrich.yaml"),
        (DEPLOY / "crowdsec/scenario.yaml", "scenarios/jellypin-log-ins.yaml"),
    ):
        (home / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, home / target)
    for name in ("data", "plugins", "notifications", "postoverflows", "dump"):
        (home / name).mkdir()
    (home / "acquis.yaml").write_text("")
    ban = {"name": "ban", "filters": ["Alert.GetScope() == 'Ip'"], "decisions": [{"type": "ban", "duration": "1h"}]}
    (home / "profiles.yaml").write_text(yaml.safe_dump(ban))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = {
        "common": {"daemonize": False, "log_media": "stdout", "log_level": "info", "working_dir": "."},
        "config_paths": {
            "config_dir": home, "data_dir": home / "data", "simulation_path": home / "simulation.yaml", "hub_dir": hub,
            "index_path": hub / ".index.json", "notification_dir": home / "notifications", "plugin_dir": home / "plugins",
        },
        "crowdsec_service": {"acquisition_path": home / "acquis.yaml", "parser_routines": 1},
        "db_config": {"log_level": "info", "type": "sqlite", "db_path": home / "data/crowdsec.db"},
        "api": {
            "client": {"credentials_path": home / "credentials.yaml"},
            "server": {"log_level": "info", "listen_uri": f"127.0.0.1:{port}", "profiles_path": home / "profiles.yaml"},
        },
        "prometheus": {"enabled": False},
    }
    written = home / "config.yaml"
    written.write_text(json.dumps(config, default=str))
    bin = files / "usr/bin"
    added = run(bin / "cscli", "-c", written, "machines", "add", "check", "--auto", "-f", home / "credentials.yaml")
    assert added.returncode == 0, added.stderr
    log = stack.folder / "jellypin.log"
    log.write_text("\n".join([*guesses(), *forged()]) + "\n")
    done = run(bin / "crowdsec", "-c", written, "-dsn", f"file://{log}", "-type", "jellypin", "-dump-data", home / "dump")
    said = done.stdout + done.stderr
    found = parsed(home / "dump/parser-dump.yaml")
    assert found == [(address_of(line), json.loads(line)["user.name"]) for line in guesses()], f"{found}\n{said}"
    banned = re.findall(r"Ip (\S+) performed 'jellypin/log-in-bf'", said)
    assert banned == [address_of(LINES[0])], f"{banned}\n{said}"


def parsed(dump):
    """The address and the user of each line that jellypin's parser took."""
    text = dump.read_text()
    # The dump repeats each line in every stage; the last one has all that is known of it.
    last = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["s01-parse"]["jellypin/log-ins"]
    metas = [node["evt"]["Meta"] for node in last if node["success"]]
    assert all(ipaddress.ip_address(meta["source_ip"]) for meta in metas)
    return [(meta["source_ip"], meta["user"]) for meta in metas]
