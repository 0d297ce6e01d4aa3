"""Shows each claim of the Compose files on a real Docker engine, from a fresh clone: test.py [NAME...]

With names, only these claims are shown. Needs the image POSTRIDER_IMAGE, and a COMPOSE_PROJECT_NAME and a PORT of its
own."""

import concurrent.futures
import os
import sys
import tempfile
import time

import claims
import operation
import smuggling
import variants
from engine import compose, fail, run, say, up
from stack import RECEIVER, Stack

# Shown one after another on one running stack. Each leaves it running, with the application `stack` and its receiver.
ON_THE_STACK = [*claims.CLAIMS, *smuggling.CLAIMS, *operation.CLAIMS]
# Shown after that stack is gone. Each starts what it needs.
ALONE = variants.CLAIMS


def main() -> None:
    wanted = sys.argv[1:] or [claim.__name__ for claim in (*ON_THE_STACK, *ALONE)]
    unknown = set(wanted) - {claim.__name__ for claim in (*ON_THE_STACK, *ALONE)}
    if unknown:
        fail(f"no such claim: {', '.join(sorted(unknown))}")
    start, took = time.monotonic(), {}
    as_started = dict(os.environ)
    with tempfile.TemporaryDirectory() as scratch:
        clone(f"{scratch}/postrider")
        os.chdir(f"{scratch}/postrider")
        try:
            show_on_the_stack([claim for claim in ON_THE_STACK if claim.__name__ in wanted], took)
        except AssertionError as failure:
            print(compose("logs", "--tail", "60", ok=False), file=sys.stderr)
            fail(str(failure))
        finally:
            clean_up()
        os.environ.clear()
        os.environ.update(as_started)
        try:
            # Two at a time: they mostly wait.
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda claim: show(claim, took), [claim for claim in ALONE if claim.__name__ in wanted]))
        except AssertionError as failure:
            fail(str(failure))
    for name, seconds in took.items():
        say(f"{seconds:4.0f} s  {name}")
    say(f"{time.monotonic() - start:4.0f} s  in all")


def clone(folder: str) -> None:
    """Clones this repository, and commits there what is not committed here."""
    run("git", "clone", "--quiet", ".", folder)
    run("bash", "-c", f"git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t '{folder}'")
    run("git", "-C", folder, "add", "--all")
    author = ("-c", "user.name=ci", "-c", "user.email=ci@localhost")
    run("git", "-C", folder, *author, "commit", "--quiet", "--allow-empty", "--no-verify", "-m", "What is not committed")


def show_on_the_stack(chosen: list, took: dict[str, float]) -> None:
    stack = Stack()
    clean_up()
    if chosen and chosen[0] is not claims.CLAIMS[0]:
        up()
        stack.prepare()
    for claim in chosen:
        show(claim, took, stack)


def show(claim, took: dict[str, float], *stack: Stack) -> None:
    start, name = time.monotonic(), claim.__name__.replace("_", " ")
    claim(*stack)
    changes = run("git", "status", "--porcelain")
    assert changes == "", f"git status: {changes}"
    took[name] = time.monotonic() - start
    say(f"{name}: shown in {took[name]:.0f} s")


def clean_up() -> None:
    run("docker", "rm", "-f", RECEIVER, ok=False)
    compose("--profile", "*", "down", "--volumes", ok=False)


main()
