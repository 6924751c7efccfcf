"""What the gateway counts, for Prometheus. Counters are added to in batches: an inc() costs half a microsecond."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


@dataclass(frozen=True)
class LinkMetrics:
    """The counters of one link."""

    accepted: Counter
    refused: Counter
    throttled: Counter
    cancelled: Counter
    receipts: Counter
    received: Counter
    broken: Counter
    up: Gauge


class Metrics:
    """Everything the gateway process counts, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        make = self._counter
        self._accepted = make("smsgw_segments_accepted", "Segments that the carrier took")
        self._refused = make("smsgw_segments_refused", "Segments that the carrier refused")
        self._throttled = make("smsgw_segments_throttled", "Segments that the carrier asked to send later")
        self._cancelled = make("smsgw_messages_cancelled", "Messages not sent: STOP, or too late")
        self._receipts = make("smsgw_receipts", "Final delivery receipts")
        self._received = make("smsgw_received", "Texts and parts of texts from phones")
        self._broken = make("smsgw_received_broken", "Messages from phones that could not be read")
        self._up = Gauge("smsgw_link_up", "1 while the link is bound", ["link"], registry=self.registry)
        self.texts = Counter("smsgw_texts_answered", "Texts understood and answered", registry=self.registry)
        self.texts_broken = Counter(
            "smsgw_texts_broken", "Texts whose answer failed by a fault of ours", registry=self.registry
        )
        self.api_seconds = Histogram(
            "smsgw_api_seconds", "Time to answer an API request", ["route", "status"], registry=self.registry
        )

    def _counter(self, name: str, words: str) -> Counter:
        return Counter(name, words, ["link"], registry=self.registry)

    def of_link(self, link: str) -> LinkMetrics:
        return LinkMetrics(
            accepted=self._accepted.labels(link),
            refused=self._refused.labels(link),
            throttled=self._throttled.labels(link),
            cancelled=self._cancelled.labels(link),
            receipts=self._receipts.labels(link),
            received=self._received.labels(link),
            broken=self._broken.labels(link),
            up=self._up.labels(link),
        )
