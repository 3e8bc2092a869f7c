"""The files in deploy/: what they name exists, and the policy in docs/policy.md is one."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from personascope.cli._app import load_command
from personascope.engines import read_policy

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DIRECTIVES = {
    "ARG", "FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "VOLUME", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL",
    "ENTRYPOINT", "CMD",
}  # fmt: skip
KEYS = {"APP_KEY": "a", "EVAL_KEY": "e", "OPERATOR_KEY": "o"}


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_the_dockerfile_has_known_directives_and_copies_what_is_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    words = [line.split() for line in lines]
    assert [word for word, *_ in words if word not in DIRECTIVES] == []
    assert [word for word, *_ in words][:2] == ["ARG", "FROM"]
    for _, *sources, target in (line for line in words if line[0] == "COPY"):
        assert target.startswith("./") and all((ROOT / source).exists() for source in sources), sources
    for line in lines:
        if line.startswith(("ENTRYPOINT", "CMD")):
            assert isinstance(json.loads(line.split(maxsplit=1)[1]), list)
    (health,) = (line for line in lines if line.startswith("HEALTHCHECK"))
    assert "/ready" in health and isinstance(json.loads(health[health.index("[") :]), list)


def test_the_command_of_the_compose_file_has_only_real_options() -> None:
    command: Any = load_command("serve")
    known = {option for parameter in command.params for option in parameter.opts}
    words = compose()["services"]["personascope"]["command"]
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    assert len(options) > 5 and not [option for option in options if option not in known]
    # A stop must give requests the time that they are promised.
    drain = next(int(word.split("=")[1]) for word in words if word.startswith("--drain="))
    grace = int(compose()["services"]["personascope"]["stop_grace_period"].removesuffix("s"))
    assert grace >= drain + 10


def test_every_file_that_the_compose_file_mounts_is_there() -> None:
    found = compose()
    for name, service in found["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).is_file(), (name, source)
            elif not source.startswith("../"):
                assert source in found["volumes"], (name, source)
    variables = set(re.findall(r"\$\{([A-Z_]+):\?", (DEPLOY / "compose.yaml").read_text()))
    assert variables == set(KEYS)
    jobs = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    assert jobs[0]["static_configs"][0]["targets"] == ["personascope:8000"]


def test_the_policies_are_policies(tmp_path: Path) -> None:
    policy = read_policy(DEPLOY / "policy.toml", KEYS)
    assert [rules.name for _, rules in policy.keys] == ["app", "evals", "operator"]
    assert [rules.read_only for _, rules in policy.keys] == [True, True, False]
    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "policy.md").read_text(), flags=re.S)
    (tmp_path / "policy.toml").write_text(text)
    shown = read_policy(tmp_path / "policy.toml", KEYS)
    assert (
        shown.rules_of(b"Bearer a") is not None and len(tomllib.loads(text)["keys"]) == len(shown.keys) == 3
    )


@pytest.mark.parametrize("name", ["datasource", "provider"])
def test_what_grafana_reads_is_yaml(name: str) -> None:
    assert yaml.safe_load((DEPLOY / "grafana" / f"{name}.yaml").read_text())["apiVersion"] == 1


def test_the_proxy_s_file_is_balanced_and_names_the_server() -> None:
    text = (DEPLOY / "Caddyfile").read_text()
    # Placeholders have braces of their own, which are closed in their line.
    assert text.count("{") == text.count("}") and "reverse_proxy personascope:8000" in text
