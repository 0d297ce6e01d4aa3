"""Checks the root, user, capabilities and limits of each container of a project, as Docker reports them."""

import json

from engine import run

# These run as root with three capabilities, to write files that only their owner may read (docs/operating.md).
EXCEPTIONS = {"backup", "restore"}


def every_container_of(project: str) -> list[str]:
    """Checks all containers, also those whose task has ended, and returns the names of their services."""
    found = run("docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}").split()
    facts = json.loads(run("docker", "inspect", *found)) if found else []
    services = {container["Config"]["Labels"]["com.docker.compose.service"]: container for container in facts}
    for service, container in services.items():
        if service not in EXCEPTIONS:
            check(service, container)
    return sorted(services)


def check(service: str, facts: dict) -> None:
    host = facts["HostConfig"]
    holds = {
        "its root is read-only": host["ReadonlyRootfs"],
        "it has no capability": host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Privileged"],
        "it gains no privilege": "no-new-privileges:true" in host["SecurityOpt"],
        "it is not root": facts["Config"]["User"].split(":")[0] not in ("", "0", "root"),
        "its memory is limited": host["Memory"] > 0,
        "its processors are limited": host["NanoCpus"] > 0,
        "its processes are limited": 0 < (host["PidsLimit"] or 0) < 1000,
        "its log is limited": bool(host["LogConfig"]["Config"].get("max-size")),
    }
    for what, so in holds.items():
        assert so, f"{service}: not so: {what}"
