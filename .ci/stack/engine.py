"""Commands to the engine and to Compose, for the stack that COMPOSE_PROJECT_NAME names."""

import os
import subprocess
import sys
import time

PROJECT = os.environ["COMPOSE_PROJECT_NAME"]
IMAGE = os.environ["POSTRIDER_IMAGE"]
PORT = int(os.environ["PORT"])


def say(text: str) -> None:
    print(f"stack: {text}", flush=True)


def run(*command: str, ok: bool = True, env: dict | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})}, check=False)
    if ok and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def compose(*command: str, **options) -> str:
    return run("docker", "compose", *command, **options)


def containers(service: str) -> list[str]:
    return compose("ps", "-q", service).split()


def inspect(container: str, template: str) -> str:
    return run("docker", "inspect", "-f", template, container)


def kill_9(service: str) -> None:
    """From outside, so that the restart policy acts (a `docker kill` counts as a person's stop)."""
    pid = inspect(containers(service)[0], "{{.State.Pid}}")
    run("kill", "-9", pid)


def poll(seconds: float, what: str, ready) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.3)


def up(**settings: str) -> None:
    compose("up", "--detach", "--wait", env=settings)


def fail(text: str) -> None:
    sys.exit(f"stack: {text}")
