"""Whether an upstream may be asked: three states, what moves it from one to another, and when it is tried again."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from .configuration import ResolverConfiguration
from .events import UpstreamFailure


class Health(enum.Enum):
    """What is known of an upstream."""

    UP = "up"
    "It may be asked.  So begins every upstream: nobody knows better."
    DOWN = "down"
    "It did not answer when it was last tried.  It is tried again after a while, and shown a name when it answers."
    REFUSED = "refused"
    "Whoever answered there was not the one that the policy asks for.  It is tried again after a long while."


class Sign(enum.Enum):
    """What is learnt about an upstream."""

    ANSWERED = "answered"
    "A response came, be it to a probe."
    FAILED = "failed"
    "No connection could be opened, or a new one ended unanswered, or one fell silent and a probe was not answered."
    REFUSED = "refused"
    "The server was not authenticated (RFC 7858, section 4.2: fail closed)."
    FORGOTTEN = "forgotten"
    "The network is another one: what was known does not count."


# Complete: every sign may come in every state. The tests read this table.
TRANSITIONS: Final[dict[tuple[Health, Sign], Health]] = {
    (Health.UP, Sign.ANSWERED): Health.UP,
    (Health.UP, Sign.FAILED): Health.DOWN,
    (Health.UP, Sign.REFUSED): Health.REFUSED,
    (Health.UP, Sign.FORGOTTEN): Health.UP,
    (Health.DOWN, Sign.ANSWERED): Health.UP,
    (Health.DOWN, Sign.FAILED): Health.DOWN,
    (Health.DOWN, Sign.REFUSED): Health.REFUSED,
    (Health.DOWN, Sign.FORGOTTEN): Health.UP,
    (Health.REFUSED, Sign.ANSWERED): Health.UP,
    # A server that was not authenticated does not get more handshakes by being out of reach now and then.
    (Health.REFUSED, Sign.FAILED): Health.REFUSED,
    (Health.REFUSED, Sign.REFUSED): Health.REFUSED,
    (Health.REFUSED, Sign.FORGOTTEN): Health.UP,
}


class UpstreamHealth:
    """The health of one upstream.  ``jitter`` returns a number from 0.5 to 1.5 by which a delay is multiplied."""

    __slots__ = ("_configuration", "_delay", "_failed_at", "_failures", "_jitter", "failure", "is_up", "state")

    def __init__(self, configuration: ResolverConfiguration, jitter: Callable[[], float]) -> None:
        self._configuration = configuration
        self._jitter = jitter
        self.state = Health.UP
        "Where the upstream stands."
        self.is_up = True
        "Whether that is :attr:`Health.UP`, and names may be shown to it: asked twice for each query."
        self.failure: UpstreamFailure | None = None
        "What went wrong last, while it is not up."
        self._failures = 0  # in a row
        self._failed_at = 0.0
        self._delay = 0.0

    def step(self, sign: Sign, *, now: float, failure: UpstreamFailure | None = None) -> bool:
        """Take in a sign; returns whether the upstream went up or down by it.

        The delay until the next try begins anew at each failure and each refusal, and grows with their number.
        """
        before, self.state = self.state, TRANSITIONS[self.state, sign]
        self.is_up = self.state is Health.UP
        if self.is_up:
            self.failure, self._failures = None, 0
        else:
            if before is not Health.REFUSED and self.state is Health.REFUSED:
                self._failures = 0  # the delay of refusals has a count of its own
            configuration = self._configuration
            first, most = configuration.first_delay, configuration.max_delay
            if self.state is Health.REFUSED:
                first, most = configuration.refused_delay, configuration.max_refused_delay
            # 2 to the power of 40 is beyond any limit, and a float still holds it.
            self._delay = min(most, first * 2.0 ** min(self._failures, 40)) * self._jitter()
            self._failures += 1
            self._failed_at, self.failure = now, failure
        return before is not self.state

    def retry_at(self, *, is_waited_for: bool) -> float:
        """When an upstream that is not up is tried again, if a query wants it.

        ``is_waited_for``: queries wait, and no other upstream works.  Then one that is down is tried more often.
        """
        delay = self._delay
        if is_waited_for and self.state is Health.DOWN:
            delay = min(delay, self._configuration.max_delay_while_waiting)
        return self._failed_at + delay
