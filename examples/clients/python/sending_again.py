"""Shows resend, recover and replay."""

from datetime import datetime, timedelta, timezone

from svix.api import BackgroundTaskListOptions
from svix.models import (
    BackgroundTaskOut,
    BackgroundTaskStatus,
    BackgroundTaskType,
    BulkReplayIn,
    MessageAttemptTriggerType,
    MessageStatus,
    RecoverIn,
    ReplayIn,
)

from messages import attempts_of
from run import Run, eventually


def an_hour_ago() -> datetime:
    return datetime.now(timezone.utc) - timedelta(hours=1)


def resend(run: Run) -> None:
    """a message is sent to an endpoint again, even if it was delivered"""
    app = run.application("Resend")
    endpoint, inbox = run.endpoint(app)
    secret = run.svix.endpoint.get_secret(app, endpoint.id).key
    message = run.send(app, {"n": 1})
    assert inbox.take().verified(secret) == {"n": 1}
    run.svix.message_attempt.resend(app, message.id, endpoint.id)
    again = inbox.take()
    assert again.verified(secret) == {"n": 1} and again.headers["webhook-id"] == message.id
    triggers = {attempt.trigger_type for attempt in attempts_of(run, app, message.id, 2)}
    assert triggers == {MessageAttemptTriggerType.SCHEDULED, MessageAttemptTriggerType.MANUAL}


def finished(run: Run, task: str) -> BackgroundTaskOut:
    """Waits until the task is finished, and returns it."""
    return eventually(
        lambda: run.svix.background_task.get(task), lambda found: found.status == BackgroundTaskStatus.FINISHED
    )


def recover(run: Run) -> None:
    """recover sends failed messages again, and only those, in a background task that can be watched"""
    app = run.application("Recover")
    endpoint, inbox = run.endpoint(app)
    delivered = run.send(app, {"n": 0})
    inbox.take()
    attempts_of(run, app, delivered.id, 1)
    inbox.status = 500
    failed = [run.send(app, {"n": n}).id for n in range(1, 4)]
    for message in failed:
        inbox.take()
        [attempt] = attempts_of(run, app, message, 1)
        assert (attempt.status, attempt.response_status_code) == (MessageStatus.FAIL, 500), attempt

    inbox.status = 204
    task = run.svix.endpoint.recover(app, endpoint.id, RecoverIn(since=an_hour_ago()))
    assert task.id.startswith("qtask_") and task.task == BackgroundTaskType.ENDPOINT_RECOVER, task
    assert sorted(inbox.take().headers["webhook-id"] for _ in failed) == sorted(failed)
    assert finished(run, task.id).data["messagesSent"] == 3
    for message in failed:
        latest = attempts_of(run, app, message, 2)[0]
        assert (latest.status, latest.trigger_type) == (MessageStatus.SUCCESS, MessageAttemptTriggerType.MANUAL), latest
    assert len(attempts_of(run, app, delivered.id, 1)) == 1 and inbox.is_empty()
    options = BackgroundTaskListOptions(status=BackgroundTaskStatus.FINISHED, task=BackgroundTaskType.ENDPOINT_RECOVER)
    assert task.id in [listed.id for listed in run.svix.background_task.list(options).data]


def replay_missing(run: Run) -> None:
    """replay-missing sends the messages that an endpoint never got"""
    app = run.application("Replay missing")
    missed = [run.send(app, {"n": n}).id for n in range(2)]
    endpoint, inbox = run.endpoint(app)
    run.send(app, {"n": 2})
    inbox.take()
    task = run.svix.endpoint.replay_missing(app, endpoint.id, ReplayIn(since=an_hour_ago()))
    assert task.task == BackgroundTaskType.ENDPOINT_REPLAY, task
    assert sorted(inbox.take().headers["webhook-id"] for _ in missed) == sorted(missed)
    assert finished(run, task.id).data["messagesSent"] == 2 and inbox.is_empty()


def bulk_replay(run: Run) -> None:
    """bulk replay sends all messages that match its filter again, delivered or not"""
    app = run.application("Bulk replay")
    endpoint, inbox = run.endpoint(app)
    wanted = run.send(app, {"n": 1}, event_type="order.paid")
    other = run.send(app, {"n": 2}, event_type="order.shipped")
    for message in (wanted, other):
        inbox.take()
        attempts_of(run, app, message.id, 1)
    body = BulkReplayIn(since=an_hour_ago(), event_types=["order.paid"])
    task = run.svix.endpoint.bulk_replay(app, endpoint.id, body)
    assert task.task == BackgroundTaskType.ENDPOINT_BULK_REPLAY, task
    assert inbox.take().headers["webhook-id"] == wanted.id
    assert finished(run, task.id).data["messagesSent"] == 1 and inbox.is_empty()


SHOWN = [resend, recover, replay_missing, bulk_replay]
