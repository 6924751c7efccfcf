"""How fast a link may be used: the rate in its contract, and the pauses that a throttling carrier asks for."""

from dataclasses import dataclass
from typing import Final

BACK_OFF_FIRST_S: Final = 0.5
BACK_OFF_MAX_S: Final = 20.0  # far below the lease of a claim
BURST_S: Final = 0.1  # what an idle link may send at once, as a share of a second
UNLIMITED: Final = 1 << 30


@dataclass(slots=True)
class Pacer:
    """How many segments may leave now: a rate, and pauses that a throttling carrier asks for."""

    per_second: float
    allowance: float = 0.0
    at: float = 0.0
    paused_until: float = 0.0
    back_off_s: float = 0.0

    def available(self, now: float) -> int:
        if now < self.paused_until:
            return 0
        if not self.per_second:
            return UNLIMITED
        burst = max(1.0, self.per_second * BURST_S)
        self.allowance = min(burst, self.allowance + (now - self.at) * self.per_second)
        self.at = now
        return int(self.allowance)

    def take(self, segments: int) -> None:
        self.allowance -= segments

    def throttled(self, now: float, jitter: float) -> None:
        """Wait, each time twice as long, until something is accepted again."""
        if now >= self.paused_until:
            self.back_off_s = min(BACK_OFF_MAX_S, self.back_off_s * 2 or BACK_OFF_FIRST_S)
            self.paused_until = now + self.back_off_s * (0.8 + 0.4 * jitter)

    def accepted(self) -> None:
        self.back_off_s = 0.0

    def wait(self, now: float) -> float:
        """Seconds until something may leave."""
        if now < self.paused_until:
            return self.paused_until - now
        return max(0.0, (1.0 - self.allowance) / self.per_second) if self.per_second else 0.0
