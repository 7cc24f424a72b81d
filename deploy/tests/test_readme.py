"""Every command of the first hour names what there is: files, objects, images, programs."""

import re
import shlex
import subprocess
import sys
from functools import cache

import pytest
import yaml

from deploy import certificates, cluster_secrets, units
from deploy.tests.manifests import K8S, KUBECTL, Manifest, of_kind, rendered
from deploy.tests.workloads import workloads

ROOT = K8S.parents[1]
README = (K8S / "README.md").read_text()

# What a cluster has before us.
_NAMESPACES = frozenset({"default", "kube-system"})
# Programs in the containers of others, and of the operator's own machine.
_THEIRS = {"postgres": {"pg_dump", "pg_restore", "psql"}, "redis": {"valkey-cli"}}
_LOADERS = frozenset({"kind", "minikube", "docker", "k3s", "ctr"})
_IMAGES = frozenset(f"scoreboard/{name}:dev" for name in (*units.UNITS, "deploy"))
# Made by a command of the page itself.
_STEPS = frozenset(certificates.STEPS)
_MADE_HERE = frozenset(
    {"job/renewal-by-hand", "secrets.yaml", "-", *(f"job/{step}" for step in _STEPS)}
)
# What a command is piped through and what only they read.
_FILTERS = frozenset({"grep"})
_EXEC = "kubectl --namespace scoreboard exec"
_KINDS = {
    "job": "Job",
    "deployment": "Deployment",
    "statefulset": "StatefulSet",
    "service": "Service",
    "cronjob": "CronJob",
}


def commands(text: str) -> list[str]:
    """The lines of the page's blocks of commands."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("command", commands(README))
def test_the_command_names_what_there_is(command: str) -> None:
    assert problems(command) == []


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("kubectl apply -k deploy/k8s/overlays/tiny", "deploy/k8s/overlays/tiny"),
        ("kubectl --namespace scores get pods", "scores"),
        ("kubectl --namespace scoreboard rollout status deployment/score", "deployment/score"),
        ("kubectl --namespace scoreboard get pods --flavour=x", "--flavour"),
        ("kubectl --namespace scoreboard destroy deployment/scores", "destroy"),
        ("kubectl --namespace scoreboard delete job migrations", "job/migrations"),
        ("kubectl --namespace scoreboard delete secret tls-score", "secret/tls-score"),
        ("kubectl --namespace scoreboard port-forward service/gateway 8080:8080", "8080"),
        (f"{_EXEC} deployment/auth -- python -m services.auth admin make", "admin make"),
        (f"{_EXEC} deployment/auth -- python -m services.scores audit", "services.scores"),
        (f"{_EXEC} statefulset/postgres -- mysqldump", "mysqldump"),
        ("kubectl apply -f deploy/k8s/namespace.yaml", "deploy/k8s/namespace.yaml"),
        ("kubectl set env --local --filename=- ROTATE_CA=rotate-ca-stop", "rotate-ca-stop"),
        ("kubectl --namespace scoreboard get pods | kubectl destroy", "destroy"),
        ("kubectl --namespace scoreboard get pods | less", "less"),
        ("make image", "image"),
        ("kind load docker-image scoreboard/login:dev", "scoreboard/login:dev"),
        ("curl http://127.0.0.1:8080/api/v1/boardz", "/api/v1/boardz"),
        ("helm install scoreboard", "helm"),
    ],
)
def test_a_command_that_cannot_work_is_noticed(command: str, problem: str) -> None:
    assert any(problem in each for each in problems(command))


def test_all_seven_images_are_loaded_each_way() -> None:
    for loader in ("kind load", "minikube image load", "docker save"):
        words = {
            word for line in commands(README) if line.startswith(loader) for word in line.split()
        }
        assert words >= _IMAGES, loader


def test_what_small_requests_is_what_it_is_said_to() -> None:
    cpu_m = memory_mi = 0
    for workload in workloads(rendered("overlays/small")):
        if workload.kind in ("Deployment", "StatefulSet"):
            for container in workload.pod["containers"]:
                requests = container["resources"]["requests"]
                cpu_m += int(requests["cpu"].removesuffix("m"))
                memory_mi += int(requests["memory"].removesuffix("Mi"))

    assert f"{cpu_m}m CPU and {memory_mi}Mi memory" in README


def test_a_step_of_the_ca_is_the_nightly_job_with_one_variable_more() -> None:
    # As `kubectl create job --from` makes it, which reads the CronJob from a cluster.
    cron = of_kind(_manifests(), "CronJob")["secrets-dev-renewal"]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "rotate-ca-begin", "namespace": "scoreboard"},
        "spec": cron["spec"]["jobTemplate"]["spec"],
    }
    (line,) = (each for each in commands(README) if "create job rotate-ca-begin" in each)
    program, *words = shlex.split(line.split(" | ")[1])
    made = subprocess.run(
        [KUBECTL, *words], input=yaml.safe_dump(job), capture_output=True, text=True, check=True
    )

    step = yaml.safe_load(made.stdout)
    (container,) = step["spec"]["template"]["spec"]["containers"]
    assert program == "kubectl"
    assert container["env"].pop() == {"name": "ROTATE_CA", "value": "rotate-ca-begin"}
    assert container == job["spec"]["template"]["spec"]["containers"][0]
    assert step["metadata"].items() >= job["metadata"].items()


def test_every_step_of_the_ca_is_taken_and_awaited_in_turn() -> None:
    taken = [
        step
        for line in commands(README)
        for step in certificates.STEPS
        if f"ROTATE_CA={step} " in line or f"wait --for=condition=complete job/{step} " in line
    ]

    assert taken == [step for step in certificates.STEPS for _ in range(2)]


def test_every_api_that_an_operator_brings_is_listed() -> None:
    ours = re.compile(r"v1|apps/.*|batch/.*|autoscaling/.*|policy/.*|(\w+\.)+k8s\.io/v1")
    brought = {
        manifest["apiVersion"]
        for manifest in rendered("overlays/production")
        if not ours.fullmatch(manifest["apiVersion"]) or "gateway" in manifest["apiVersion"]
    }

    assert "postgresql.cnpg.io/v1" in brought
    assert {version for version in brought if f"`{version}`" not in README} == set()


def problems(command: str) -> list[str]:
    """What a command names that is not there, a line each."""
    # What is read from a file or written into one is text.
    parts = [re.split(r" [<>] ", part)[0] for part in command.split(" | ")]
    return [each for part in parts for each in _problems(shlex.split(part))]


def _problems(command: list[str]) -> list[str]:
    program, *words = command
    if program in _FILTERS:
        return []
    if program == "sudo":
        program, *words = words
    images = [word for word in words if word.startswith("scoreboard/") and ":" in word]
    found = [f"no image {image}" for image in images if image not in _IMAGES]
    if program == "kubectl":
        return found + _kubectl(words)
    if program == "make":
        targets = re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return found + [f"no target {word}" for word in words if word not in targets]
    if program == "curl":
        pages = (ROOT / "docs" / "api.md").read_text()
        paths = [word.partition(":8080")[2] for word in words if ":8080" in word]
        return found + [f"no call {path}" for path in paths if f"GET {path}`" not in pages]
    return found + ([] if program in _LOADERS else [f"{program} is not known"])


def _kubectl(words: list[str]) -> list[str]:
    words, inner = _split(words, "--")
    options = {word.partition("=")[0]: word.partition("=")[2] for word in words if word[0] == "-"}
    for option in ("--namespace", "-k", "-f", "--selector", "--output"):
        if option in words:
            value = words.pop(words.index(option) + 1)
            options[option] = value
    verb, *names = [word for word in words if word[0] != "-"]
    usage = _help(verb if not _has_kinds(verb, names) else f"{verb} {names.pop(0)}")
    found = [] if usage else [f"kubectl does not {verb}"]
    found += [
        f"{verb} has no {option}"
        for option in options
        if not re.search(rf"(^|\s){option}[=,\s]", usage)
    ]
    folders = [options["-k"]] if "-k" in options else names if verb == "kustomize" else []
    found += [f"nothing is made of {each}" for each in folders if not _renders(each)]
    if verb == "set":
        wrong = [name for name in names if name.removeprefix("ROTATE_CA=") not in _STEPS]
        return found + [f"no step {name}" for name in wrong]
    file = options.get("-f") or options.get("--filename") or "secrets.yaml"
    found += [] if file in _MADE_HERE or (ROOT / file).is_file() else [f"no file {file}"]
    namespace = options.get("--namespace", "default")
    if namespace not in {*_NAMESPACES, *of_kind(_manifests(), "Namespace")}:
        found.append(f"no namespace {namespace}")
    if "--from" in options:
        names = [options["--from"]]
    objects = _objects(verb, names)
    found += [f"no {each}" for each in objects if not _there(each)]
    if verb == "port-forward":
        found += _ports(*names)
    if inner:
        found += _inside(objects[0], inner)
    return found


def _has_kinds(verb: str, names: list[str]) -> bool:
    """Whether the next word belongs to the verb; `create` alone takes a file."""
    return verb in ("rollout", "top", "set") or (verb == "create" and bool(names))


def _objects(verb: str, names: list[str]) -> list[str]:
    """As kind/name; `delete job a b` names two."""
    if verb in ("kustomize", "label"):
        return []
    if any("/" in name for name in names):
        return [name for name in names if "/" in name]
    return [f"{names[0]}/{name}" for name in names[1:]] if names else []


def _there(named: str) -> bool:
    kind, _, name = named.partition("/")
    if kind == "secret":
        return name in cluster_secrets.paths()
    return named in _MADE_HERE or name in of_kind(_manifests(), _KINDS.get(kind, kind))


def _ports(service: str, ports: str) -> list[str]:
    spec = of_kind(_manifests(), "Service")[service.partition("/")[2]]["spec"]
    wanted = int(ports.partition(":")[2])
    return [] if wanted in {each["port"] for each in spec["ports"]} else [f"no port {wanted}"]


def _inside(place: str, command: list[str]) -> list[str]:
    """Whether the container has the program, and the program such a command."""
    name = place.partition("/")[2]
    if command[:2] != ["python", "-m"]:
        return [] if command[0] in _THEIRS.get(name, ()) else [f"{name} has no {command[0]}"]
    module, *words = command[2:]
    if module != units.module(name):
        return [f"{name} has no {module}"]
    # Without its options, a command of argparse's prints its help or says that there is none.
    named = [word for word in words if word[0] != "-"]
    asked = [word for word in named if f"-{word}" not in words and not _is_value(word, words)]
    made = subprocess.run(
        [sys.executable, "-m", module, *asked, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    options = [word for word in words if word.startswith("--") and word not in made.stdout]
    found = [] if made.returncode == 0 else [f"{module} has no {' '.join(asked)}"]
    return found + [f"{module} {' '.join(asked)} has no {option}" for option in options]


def _is_value(word: str, words: list[str]) -> bool:
    before = words[words.index(word) - 1] if words.index(word) else ""
    return before.startswith("--")


def _split(words: list[str], mark: str) -> tuple[list[str], list[str]]:
    at = words.index(mark) if mark in words else len(words)
    return words[:at], words[at + 1 :]


def _help(verb: str) -> str:
    """The usage of a verb with its options; empty where there is no such verb."""
    own = _printed(f"{verb} --help")
    return own + _printed("options") if "Usage:" in own else ""


@cache
def _printed(words: str) -> str:
    return subprocess.run(
        [KUBECTL, *words.split()], capture_output=True, text=True, check=False
    ).stdout


def _renders(path: str) -> bool:
    try:
        return bool(rendered((ROOT / path).relative_to(K8S).as_posix()))
    except (ValueError, subprocess.CalledProcessError):
        return False


def _manifests() -> list[Manifest]:
    """Of overlays/small, and what overlays/dev has beside it, in a namespace of its own."""
    beside = [
        each
        for each in rendered("overlays/dev")
        if "monitoring" in (each["metadata"].get("namespace"), each["metadata"]["name"])
    ]
    return rendered("overlays/small") + beside
