"""Shows on a real Docker engine that examples/compose/ha loses no accepted message when its leader is lost, and goes on by
itself: ha.py

Kills the leader once under 100 messages a second and makes another node the leader once. For a longer form set how
often each fault is to come: POSTRIDER_CI_HA_KILLS, POSTRIDER_CI_HA_LOSSES (a kill after which the node stays away),
POSTRIDER_CI_HA_CUTS, POSTRIDER_CI_HA_SWITCHOVERS. Needs the image POSTRIDER_IMAGE, and a COMPOSE_PROJECT_NAME and a PORT
of its own."""

import dataclasses
import json
import os
import pathlib
import stat
import statistics
import tempfile
import time
from collections.abc import Callable

import hardening
from engine import Variant, documented, fail, poll, run, say
from stack import RUN_RECEIVER, SECRET, Api, Sender, arrivals

HA = "examples/compose/ha"
NODES = ("pg1", "pg2", "pg3")
RATE = 100
# As many that each may wait for a 503, up to 5 s, while some request comes every tenth of a second.
CONNECTIONS = 50
SETTINGS = {
    # A network of Docker gets a part of these ranges.
    "POSTRIDER_ALLOW_TARGETS": "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16",
    # Short waits, so that deliveries that failed meanwhile arrive before the test ends.
    "POSTRIDER_RETRY_SCHEDULE": ",".join(["3"] * 50),
}


@dataclasses.dataclass
class Disturbance:
    """A fault and the instant at which it began, as time.time() has it."""

    fault: str
    began: float


class Ha(Variant):
    """The running stack, with a token, an application and its receiver."""

    def start(self) -> None:
        self.up()
        self.token = self.compose("exec", "-T", "app", "/app", "token", "create", "--organization", "ci")
        self.receiver = self.start_beside("receiver", "default", "--env", f"SECRET={SECRET}", *RUN_RECEIVER)
        self.disturbances: list[Disturbance] = []
        self.sender = Sender(self.token, RATE, CONNECTIONS, self.port)
        api = self.api
        api.call("POST", "/app", {"name": "Stack", "uid": "stack"})
        api.call("POST", "/app/stack/endpoint", {"uid": "receiver", "url": "http://receiver:9000/", "secret": SECRET})

    @property
    def api(self) -> Api:
        return Api(self.token, self.port)

    def members(self) -> list[dict]:
        """Returns what Patroni says of the nodes, as the first one says it that responds."""
        for node in NODES:
            said = self.compose("exec", "-T", node, "timeout", "10", "patronictl", "list", "--format", "json", ok=False)
            if said.startswith("["):
                return json.loads(said)
        return []

    def leader(self) -> str:
        return next(each["Member"] for each in self.members() if each["Role"] == "Leader")

    def is_whole(self) -> bool:
        """Returns whether one node leads and both others confirm commits."""
        states = sorted((each["Role"], each["State"]) for each in self.members())
        return states == [("Leader", "running"), ("Quorum Standby", "streaming"), ("Quorum Standby", "streaming")]

    def container(self, node: str) -> str:
        return f"{self.project}-{node}-1"

    def kill(self, leader: str) -> Callable[[], object]:
        """Kills the leader's container from the host, so that Docker starts it again."""
        pid = run("docker", "inspect", "-f", "{{.State.Pid}}", self.container(leader))
        self.begin("kill")
        run("kill", "-9", pid)
        return lambda: None

    def lose(self, leader: str) -> Callable[[], object]:
        """Kills the leader's container in a way that Docker takes for a stop on purpose. Returns what starts it again."""
        self.begin("loss")
        run("docker", "kill", self.container(leader))
        return lambda: run("docker", "start", self.container(leader))

    def cut(self, leader: str) -> Callable[[], object]:
        """Takes the leader out of its only network. Returns what brings it back."""
        where = (f"{self.project}_cluster", self.container(leader))
        self.begin("cut")
        run("docker", "network", "disconnect", *where)
        return lambda: run("docker", "network", "connect", "--alias", leader, *where)

    def switch_over(self, _leader: str) -> Callable[[], object]:
        command = documented("three nodes: make another one the leader")[0]
        self.begin("switchover")
        self.do(HA, command)
        return lambda: None

    def begin(self, fault: str) -> None:
        self.disturbances.append(Disturbance(fault, time.time()))

    def disturb(self, inflict: Callable[[str], Callable[[], object]]) -> None:
        """Inflicts a fault, waits until messages are accepted again and then until the cluster is whole again."""
        poll(180, "all nodes take part", self.is_whole)
        before = self.leader()
        undo = inflict(before)
        last = self.disturbances[-1]

        def accepts_again() -> bool:
            now = time.time()
            return now > last.began + 3 and sum(at > now - 2 for at in self.instants()) > RATE
        poll(120, "messages are accepted again", accepts_again)
        undo()
        poll(180, "all nodes take part again", self.is_whole)
        back, gap = self.outage(last.began, time.time())
        say(f"  {last.fault} of {before}, now {self.leader()} leads: accepts again after {back:.1f} s, at most {gap:.1f} s without a 202")

    def outage(self, began: float, end: float) -> tuple[float, float]:
        """Returns how long after `began` the longest time without a 202 ended, and how long that was."""
        instants = [at for at in self.instants() if began - 1 < at < end]
        gap, back = max((after - at, after) for at, after in zip(instants, instants[1:]))
        return back - began, gap

    def instants(self) -> list[float]:
        """Returns when messages were accepted, in order."""
        return sorted(list(self.sender.accepted.values()))

    def every_message_arrived(self) -> None:
        """Waits until every accepted message has arrived, for three minutes; prints what each kind of fault has cost."""
        accepted, end = dict(self.sender.accepted), time.monotonic() + 180
        while True:
            heard = arrivals(self.receiver)
            lost = accepted.keys() - heard.keys()
            if not lost or time.monotonic() > end:
                break
            time.sleep(3)
        self.print_table(accepted, lost, {message for message, at in heard.items() if len(at) > 1})
        assert not lost, f"{len(lost)} of {len(accepted)} accepted messages are lost: {sorted(lost)[:5]}"

    def print_table(self, accepted: dict[str, float], lost: set[str], twice: set[str]) -> None:
        """Prints a row for each kind of fault. A message counts for the fault before it was accepted."""
        begins = [each.began for each in self.disturbances] + [time.time()]
        say("| fault | count | accepted | lost | twice | accepts again, s | longest time without a 202, s |")
        say("|---|---:|---:|---:|---:|---:|---:|")
        for fault in dict.fromkeys(each.fault for each in self.disturbances):
            windows = [window for each, *window in zip(self.disturbances, begins, begins[1:]) if each.fault == fault]
            of_fault = {message for message, at in accepted.items() if any(begin <= at < end for begin, end in windows)}
            outages = [self.outage(begin, end) for begin, end in windows]
            cells = (fault, len(windows), len(of_fault), len(of_fault & lost), len(of_fault & twice),
                     *(f"{statistics.median(times):.1f}, worst {max(times):.1f}" for times in zip(*outages)))
            say("| " + " | ".join(map(str, cells)) + " |")

    def starts(self) -> list[str]:
        """Returns when each replica was started."""
        return [run("docker", "inspect", "-f", "{{.State.StartedAt}}", each) for each in self.containers("app")]


def the_leader_can_be_lost(ha: Ha) -> None:
    def times(name: str, usually: int) -> int:
        return int(os.environ.get(f"POSTRIDER_CI_HA_{name}", usually))

    starts = ha.starts()
    ha.sender.start()
    poll(30, "messages are accepted", lambda: len(ha.sender.accepted) > 2 * RATE)
    for count, inflict in (
        (times("KILLS", 1), ha.kill),
        (times("LOSSES", 0), ha.lose),
        (times("CUTS", 0), ha.cut),
        (times("SWITCHOVERS", 1), ha.switch_over),
    ):
        for _ in range(count):
            ha.disturb(inflict)
    ha.sender.end()
    ha.every_message_arrived()
    failures = ha.sender.failures
    say(f"  {len(ha.sender.accepted)} messages were accepted, {len(failures)} refused")
    wrong = [failure for failure in failures if not failure.startswith("503, retry after 1: ")]
    assert not wrong, f"{len(wrong)} of {len(failures)} are no 503 that says when to try again: {wrong[:5]}"
    assert ha.starts() == starts, "a replica of the program was started again"


def a_backup_brings_everything_back(ha: Ha, backups: str) -> None:
    """By the commands of the main stack."""
    def stored() -> list[dict]:
        return [ha.api.call("GET", path) for path in ("/app/stack/endpoint/receiver/secret", "/app/stack/msg?limit=250")]

    before = stored()
    name = ha.do(HA, documented("back up")[0]).splitlines()[-1]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in pathlib.Path(backups).iterdir()}
    assert modes == {f"{name}.dump": 0o600, f"{name}.key": 0o600}, modes
    run("docker", "network", "disconnect", "--force", f"{ha.project}_default", ha.receiver)
    ha.compose("down", "--volumes")
    restore, start = documented("restore")
    ha.do(HA, restore.replace("postrider-TIME", name))
    ha.do(HA, start)
    assert stored() == before, "what was restored differs"


def every_container_is_hardened(ha: Ha) -> None:
    services = ["app", "db", "etcd1", "etcd2", "etcd3", "migrate", *NODES, "prepare", "proxy", "secrets"]
    assert hardening.every_container_of(ha.project) == services


def main() -> None:
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as backups, Ha("ha", f"{HA}/docker-compose.yml", BACKUPS=backups, **SETTINGS) as ha:
        try:
            ha.start()
            say(f"started in {time.monotonic() - begin:.0f} s")
            every_container_is_hardened(ha)
            the_leader_can_be_lost(ha)
            a_backup_brings_everything_back(ha, backups)
        except AssertionError as failure:
            print(ha.compose("logs", "--tail", "60", ok=False))
            fail(str(failure))
    say(f"{time.monotonic() - begin:.0f} s in all")


main()
