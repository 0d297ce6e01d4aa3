"""Resend."""

from svix.models import MessageAttemptTriggerType

from messages import attempts_of
from run import Run


def resend(run: Run) -> None:
    """a message is sent to an endpoint again, also one that was delivered"""
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


SHOWN = [resend]
