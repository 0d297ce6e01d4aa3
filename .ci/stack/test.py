"""What the Compose files promise, each as one claim, on the real engine and from a fresh clone. Needs the image POSTRIDER_IMAGE, and
COMPOSE_PROJECT_NAME and PORT of its own. Run by `.ci/run stack`; `test.py NAME...` runs only the claims that are named."""

import os
import sys
import tempfile
import time

import claims
import operation
import variants
from engine import compose, fail, run, say, up
from stack import RECEIVER, Stack

# On one running stack, one after the other; each leaves it running with the application `stack` and its receiver.
ON_THE_STACK = [*claims.CLAIMS, *operation.CLAIMS]
# When that one is gone; each starts what it needs.
ALONE = variants.CLAIMS


def main() -> None:
    wanted = sys.argv[1:] or [claim.__name__ for claim in (*ON_THE_STACK, *ALONE)]
    unknown = set(wanted) - {claim.__name__ for claim in (*ON_THE_STACK, *ALONE)}
    if unknown:
        fail(f"no such claim: {', '.join(sorted(unknown))}")
    took: dict[str, float] = {}
    as_started = dict(os.environ)
    with tempfile.TemporaryDirectory() as scratch:
        clone(f"{scratch}/postrider")
        os.chdir(f"{scratch}/postrider")
        try:
            show([claim for claim in ON_THE_STACK if claim.__name__ in wanted], Stack(), took)
        except AssertionError as failure:
            print(compose("logs", "--tail", "60", ok=False), file=sys.stderr)
            fail(str(failure))
        finally:
            clean_up()
        os.environ.clear()
        os.environ.update(as_started)
        try:
            show([claim for claim in ALONE if claim.__name__ in wanted], None, took)
        except AssertionError as failure:
            fail(str(failure))
    for name, seconds in took.items():
        say(f"{seconds:4.0f} s  {name}")
    say(f"{sum(took.values()):4.0f} s  in all")


def clone(folder: str) -> None:
    """What `git clone` gives, and in a commit of its own there what is not committed here."""
    run("git", "clone", "--quiet", ".", folder)
    run("bash", "-c", f"git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t '{folder}'")
    run("git", "-C", folder, "add", "--all")
    author = ("-c", "user.name=ci", "-c", "user.email=ci@localhost")
    run("git", "-C", folder, *author, "commit", "--quiet", "--allow-empty", "--no-verify", "-m", "What is not committed")


def show(chosen: list, stack: Stack | None, took: dict[str, float]) -> None:
    if stack is not None and chosen:
        clean_up()
        if chosen[0] is not claims.CLAIMS[0]:
            up()
            stack.prepare()
    for claim in chosen:
        start, name = time.monotonic(), claim.__name__.replace("_", " ")
        claim(stack) if stack else claim()
        changes = run("git", "status", "--porcelain")
        assert changes == "", f"git status: {changes}"
        took[name] = time.monotonic() - start
        say(f"{name}: shown in {took[name]:.0f} s")


def clean_up() -> None:
    run("docker", "rm", "-f", RECEIVER, ok=False)
    compose("--profile", "*", "down", "--volumes", ok=False)


main()
