"""Runs commands of Docker, of Compose for the project that COMPOSE_PROJECT_NAME names, and of docs/operating.md."""

import os
import re
import socket
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


def documented(task: str) -> list[str]:
    """Returns the commands in that row of docs/operating.md's table of tasks which begins with `task`."""
    with open("docs/operating.md", encoding="utf-8") as file:
        rows = [line for line in file if line.startswith(f"| {task}")]
    assert len(rows) == 1, f"docs/operating.md has {len(rows)} rows for {task}"
    return re.findall(r"`([^`]+)`", rows[0].split("|", 2)[2])


def do(command: str, **env: str) -> str:
    return run("bash", "-euo", "pipefail", "-c", command, env=env)


def containers(service: str) -> list[str]:
    return compose("ps", "-q", service).split()


def inspect(container: str, template: str) -> str:
    return run("docker", "inspect", "-f", template, container)


def kill_9(service: str) -> None:
    """Kills a service's process from the host, so that the restart policy acts: Docker takes `docker kill` for a stop on
    purpose."""
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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Variant:
    """A Compose project beside the stack, from other files and with a port of its own. The end of `with` removes it
    with its volumes."""

    def __init__(self, name: str, *files: str, **settings: str) -> None:
        self.project = f"{PROJECT}-{name}"
        self.port = free_port()
        self.settings = {"COMPOSE_PROJECT_NAME": self.project, "PORT": str(self.port), **settings}
        self.settings["COMPOSE_FILE"] = ":".join(map(os.path.abspath, files))
        self.beside: list[str] = []

    def compose(self, *command: str, ok: bool = True) -> str:
        return run("docker", "compose", *command, ok=ok, env=self.settings)

    def do(self, folder: str, command: str) -> str:
        return do(f"cd {folder} && {command}", **self.settings)

    def up(self, *options: str) -> None:
        self.compose("up", "--detach", "--wait", *options)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()

    def start_beside(self, name: str, network: str, *options: str) -> str:
        """Starts a container that is not part of the project, on one of its networks, and returns its name."""
        container = f"{self.project}-{name}"
        run("docker", "run", "--detach", "--name", container, "--network", f"{self.project}_{network}", *options)
        self.beside.append(container)
        return container

    def __enter__(self) -> "Variant":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is not None:
            print(self.compose("logs", "--tail", "40", ok=False), file=sys.stderr)
        for container in self.beside:
            run("docker", "rm", "--force", "--volumes", container, ok=False)
        self.compose("down", "--volumes", ok=False)


def fail(text: str) -> None:
    sys.exit(f"stack: {text}")
