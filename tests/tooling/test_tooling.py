"""The files that start the shop agree with each other and with the settings.

No container engine is asked: what is in the Dockerfile and compose.yaml is read, not built.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import config

ROOT = Path(config.__file__).parent
PROCESSES = dict(re.findall(r"^(\w+): (.+)$", (ROOT / "Procfile").read_text(), re.M))
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
APP = json.loads((ROOT / "app.json").read_text())
TARGETS = ("run", "test", "check", "bench", "storm", "e2e", "lock", "clean")

PRODUCTION = {
    "DATABASE_URL": "postgresql://localhost/shop",
    "REDIS_URL": "redis://localhost",
    "SECRET_KEY": "k" * 32,
    "PUBLIC_ORIGIN": "https://shop.example.com",
    "STRIPE_SECRET_KEY": "sk_test_a",
    "STRIPE_PUBLISHABLE_KEY": "pk_test_a",
    "STRIPE_WEBHOOK_SECRET": "whsec_a",
    "SMTP_URL": "smtp://mail.example.com",
    "MAIL_FROM": "shop@example.com",
}


def served_as(env: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    gunicorn = [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", *options]
    clean = {"PATH": os.environ["PATH"], **env}
    return subprocess.run(
        [*gunicorn, "app:create_app()"], env=clean, cwd=ROOT, capture_output=True, text=True
    )


def test_every_process_of_the_shop_is_started_by_platform_and_compose_alike():
    assert set(PROCESSES) == {"release", "web", "worker", "clock"}
    assert set(COMPOSE) == {*PROCESSES, "postgres", "redis"}
    for process in ("release", "worker", "clock"):
        assert COMPOSE[process]["command"] == PROCESSES[process]
    image = re.search(r"^CMD (\[.+\])$", (ROOT / "Dockerfile").read_text(), re.M)
    assert image and json.loads(image[1]) == PROCESSES["web"].replace('"', "").split()


def test_redis_neither_forgets_at_a_restart_nor_evicts():
    assert "--appendonly yes" in COMPOSE["redis"]["command"]
    assert "--maxmemory-policy noeviction" in COMPOSE["redis"]["command"]


def test_nothing_is_served_before_the_migrations_ran():
    for process in ("web", "worker", "clock"):
        waits_for = COMPOSE[process]["depends_on"]["release"]
        assert waits_for == {"condition": "service_completed_successfully"}


def test_a_new_heroku_app_is_asked_for_every_setting_it_cannot_start_without():
    added = {"DATABASE_URL", "REDIS_URL"}
    with_a_value = {name for name, about in APP["env"].items() if {"value", "generator"} & {*about}}

    with pytest.raises(config.SettingsError) as caught:
        config.Settings.from_env({})

    assert {addon.split(":")[0] for addon in APP["addons"]} == {
        "heroku-postgresql",
        "heroku-redis",
    }
    assert set(APP["env"]) <= set(config.SETTING_NAMES)
    assert {problem.name for problem in caught.value.problems} - added <= set(APP["env"])
    assert {"SECRET_KEY", "PROXY_HOPS"} <= with_a_value
    assert set(APP["formation"]) == set(PROCESSES) - {"release"}


def test_the_same_python_everywhere():
    version = (ROOT / ".python-version").read_text().strip()

    assert f"python:{version}-slim" in (ROOT / "Dockerfile").read_text()
    assert f'requires-python = ">={version}"' in (ROOT / "pyproject.toml").read_text()


def test_secrets_and_data_stay_out_of_the_image():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()

    assert {".env", ".git", "instance", ".venv"} <= set(ignored)


def test_the_web_server_takes_its_size_from_the_settings_and_ends_within_30_s():
    shown = served_as(PRODUCTION | {"PORT": "5005", "WEB_CONCURRENCY": "3"}, "--print-config")

    values = dict(re.findall(r"^(\w+)\s+= (.+)$", shown.stdout, re.M))
    assert values["bind"] == "['0.0.0.0:5005']"
    assert values["workers"] == "3"
    assert values["worker_class"] == "gthread"
    assert int(values["graceful_timeout"]) < 30


def test_the_web_server_refuses_wrong_settings_without_a_traceback():
    refused = served_as(PRODUCTION | {"PORT": "http", "STRIPE_WEBHOOK_SECRET": ""})

    assert refused.returncode == 2
    assert refused.stderr.startswith("settings refused: STRIPE_WEBHOOK_SECRET, PORT\n")
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_its_targets_and_says_what_they_do(target):
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
    told = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert re.search(rf"^  make {target}\t\w+", told, re.M)


def test_make_without_a_usable_python_says_which_one_it_needs(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "make", "rm"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    too_old = tools / "python3"
    too_old.write_text("#!/bin/sh\nexit 1\n")
    too_old.chmod(0o755)
    for file in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / file, tmp_path)

    made = subprocess.run(
        ["make", "run"], cwd=tmp_path, env={"PATH": str(tools)}, capture_output=True, text=True
    )

    assert made.returncode == 2
    assert "needs Python 3.11 or newer" in made.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_lock_files_install_nothing_without_its_hash():
    for lock in ("requirements.txt", "requirements-dev.txt"):
        pins = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
        unhashed = [pin.split()[0] for pin in pins if "--hash=sha256:" not in pin]
        assert unhashed == []


def test_the_script_of_the_build_machine_is_sound_shell_and_runs_the_suite_strictly():
    script = ROOT / ".ci" / "run"

    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)
    assert re.search(r"^CI=1 .*make test$", script.read_text(), re.M)
