"""compose.yaml and the configs at home agree with each other and with the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from deploy.image.start import NEEDS
from router.config import RouterConfig
from router.dispatch import LONGEST_FAREWELL
from shared import settings
from shared.serve import LAST_WORDS
from sidecar.config import SidecarConfig
from tests.keys import EVERY_SCOPE

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "deploy" / "home"
TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"models"}
PROGRAMS = sorted(SERVICES.keys() - ONE_SHOT)
SIDECARS = sorted(SERVICES.keys() - ONE_SHOT - {"router"})
KEYS = {
    "SIDECAR_KEY": "s3cret",
    "SIDECAR_KEY_SHA256": "5a" * 32,
    "CLIENT_KEY_SHA256": "c1" * 32,
    "ADMIN_KEY_SHA256": "ad" * 32,
}


def config_file(service: str) -> str:
    """What the service reads: what it is told, or the program's own."""
    command = SERVICES[service]["command"]
    return command[-1] if "--config" in command else f"{command[0]}.yaml"


def config(service: str, **env: str) -> Any:
    name = config_file(service)
    model = RouterConfig if service == "router" else SidecarConfig
    text = (HOME / name).read_text()
    folder = PurePosixPath("/etc/swapyard")
    return settings.read(model, text, name=name, folder=folder, env=env or KEYS)


def seconds(said: str) -> float:
    return float(said.removesuffix("s"))


# Compose.


def specification(file: Path) -> subprocess.CompletedProcess[str]:
    """The published one, as the tool ships it."""
    argv = ["check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run([sys.executable, "-m", *argv], capture_output=True, text=True)


def test_compose_yaml_keeps_to_the_published_specification(tmp_path: Path) -> None:
    done = specification(ROOT / "compose.yaml")
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(TEXT.replace("cap_drop:", "cap_dorp:"))
    assert "cap_dorp" in specification(wrong).stdout


def test_every_variable_has_a_default_so_that_no_profile_stands_in_anothers_way() -> None:
    used = re.findall(r"\$\{([^}]*)\}", TEXT)
    assert used
    assert [name for name in used if ":-" not in name] == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "user", "cap_add", "network_mode", "devices"}
    assert service.get("pid") == ("host" if name == "nvidia" else None)


def test_each_image_is_built_once_here_and_never_pulled() -> None:
    built = [service["image"] for service in SERVICES.values() if "build" in service]
    assert sorted(built) == ["swapyard", "swapyard:nvidia"]
    assert {service["image"] for service in SERVICES.values()} == set(built)
    assert {service["pull_policy"] for service in SERVICES.values()} == {"never"}


@pytest.mark.parametrize("name", SERVICES)
def test_the_log_of_a_service_is_bounded(name: str) -> None:
    assert SERVICES[name]["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_started_again_and_asked_how_it_is(name: str) -> None:
    service = SERVICES[name]
    assert (service["init"], service["restart"]) == (True, "unless-stopped")
    kind, *test, url = service["healthcheck"]["test"]
    assert (kind, test) == ("CMD", ["python", "/opt/swapyard/health.py"])
    assert urlsplit(url).path == "/readyz"
    assert urlsplit(url).hostname == "127.0.0.1"
    assert urlsplit(url).port == config(name).listen.port


@pytest.mark.parametrize("name", SIDECARS)
def test_a_sidecar_gets_the_time_to_drain_and_to_stop_its_engines(name: str) -> None:
    said = config(name)
    stops = max(model.stop_timeout for model in said.models.values())
    grace = seconds(SERVICES[name]["stop_grace_period"])
    assert grace > said.shutdown_timeout + stops


def test_the_router_gets_the_time_to_end_its_answers() -> None:
    assert seconds(SERVICES["router"]["stop_grace_period"]) > LONGEST_FAREWELL + LAST_WORDS


def test_what_is_made_once_is_made_before_it_is_needed() -> None:
    for name in SIDECARS:
        needed = SERVICES[name]["depends_on"]
        assert needed == {"models": {"condition": "service_completed_successfully"}}
    assert SERVICES["router"]["depends_on"] == {"sidecar": {"condition": "service_healthy"}}
    assert SERVICES["models"]["restart"] == "no"


def test_without_a_profile_it_is_the_pair_alone() -> None:
    profiles = {name: service.get("profiles") for name, service in SERVICES.items()}
    assert profiles == {
        "models": None,
        "sidecar": None,
        "router": None,
        "nvidia": ["nvidia"],
        "second-box": ["second-box"],
    }


def test_only_a_second_box_is_reached_from_outside_without_being_told() -> None:
    addresses = {name: SERVICES[name]["ports"] for name in PROGRAMS}
    assert addresses == {
        "router": ["${SWAPYARD_LISTEN:-127.0.0.1:8080}:8080"],
        "sidecar": ["127.0.0.1:8090:8090"],
        "nvidia": ["${NVIDIA_LISTEN:-127.0.0.1:8091}:8090"],
        "second-box": ["8090:8090"],
    }


@pytest.mark.parametrize("name", SERVICES)
def test_volumes_are_named_and_the_rest_is_there_and_only_read(name: str) -> None:
    for volume in SERVICES[name]["volumes"]:
        source, _, *mode = volume.split(":")
        if source.startswith("./"):
            assert (ROOT / source).is_dir()
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]


def test_only_the_nvidia_box_asks_for_gpus() -> None:
    assert [name for name, service in SERVICES.items() if "deploy" in service] == ["nvidia"]
    reserved = SERVICES["nvidia"]["deploy"]["resources"]["reservations"]["devices"]
    assert reserved == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]


# The configs.


def test_every_config_at_home_is_used_and_can_be_read() -> None:
    assert {config_file(name) for name in PROGRAMS} == {file.name for file in HOME.iterdir()}
    for name in PROGRAMS:
        said = config(name)
        assert said.keys
        assert not said.open
        assert said.state_dir.is_relative_to("/state")


@pytest.mark.parametrize("name", SIDECARS)
def test_the_model_that_a_config_shows_in_comments_could_be_one(name: str) -> None:
    text = (HOME / config_file(name)).read_text()
    shown = text.partition("# One of your own, in ./models:\n")[2].replace("  # ", "  ")
    said = settings.read(
        SidecarConfig, f"models:\n{shown}", name=name, folder=PurePosixPath("/"), env={}
    )
    assert [str(model.path.parent) for model in said.models.values() if model.path] == ["/models"]


def test_two_programs_never_share_a_state_folder() -> None:
    here = [config(name).state_dir for name in PROGRAMS if name != "second-box"]
    assert len(set(here)) == len(here)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_config_asks_for_no_key_that_its_start_does_not_make(name: str) -> None:
    asked = set(
        re.findall(r"\$\{(\w+)\}", without_comments((HOME / config_file(name)).read_text()))
    )
    assert asked <= set(NEEDS["router" if name == "router" else "sidecar"])


def without_comments(text: str) -> str:
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def test_a_second_box_that_was_told_no_key_says_so_and_does_not_start() -> None:
    assert SERVICES["second-box"]["entrypoint"] == ["python", "-P", "-m", "sidecar"]
    with pytest.raises(settings.Problems, match="SIDECAR_KEY_SHA256"):
        config("second-box", PATH="/bin")


def test_the_router_knows_the_boxes_of_this_machine() -> None:
    boxes = {urlsplit(box.url): box.optional for box in config("router").sidecars}
    assert {(url.hostname, url.port): optional for url, optional in boxes.items()} == {
        ("sidecar", config("sidecar").listen.port): False,
        ("nvidia", config("nvidia").listen.port): True,
    }


def scopes(name: str) -> dict[str, set[str]]:
    return {key.name: set(key.scopes) for key in config(name).keys}


def test_a_client_asks_at_the_router_alone_and_only_the_admin_may_load() -> None:
    assert scopes("router") == {"client": {"inference", "read"}, "admin": {*EVERY_SCOPE}}
    people = {"client": {"read"}, "admin": {"read", "admin"}}
    assert scopes("sidecar") == scopes("nvidia") == {"router": {"inference", "read"}, **people}


def test_a_second_box_knows_its_router_and_nobody_else() -> None:
    assert scopes("second-box") == {"router": {"inference", "read"}}
