"""What the processes of a suite serve at /metrics, read as Prometheus reads it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import ClientSession, ClientTimeout
from prometheus_client.parser import text_string_to_metric_families

from tests.suite import UNITS, Suite

SCRAPE_S = 10.0
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One series; of a histogram its buckets, sum and count are series of their own."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric by the name that the code gives it: of a counter with `_total`."""

    name: str
    kind: str
    samples: tuple[Sample, ...]

    @property
    def labels(self) -> set[tuple[str, ...]]:
        """The sets of labels that its series have, but `le`; none where it has no series yet."""
        return {tuple(sorted(sample.labels.keys() - {"le"})) for sample in self.samples}

    @property
    def series(self) -> set[str]:
        """The names by which queries find it, whether it has series yet or not."""
        base = self.name.removesuffix("_total") if self.kind == "counter" else self.name
        return {base + suffix for suffix in _SUFFIXES.get(self.kind, ("",))}

    def value(self, suffix: str = "", **labels: str) -> float:
        """The sum of its series with those labels: `value("_count", pool="primary")`."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == self.name + suffix and labels.items() <= sample.labels.items()
        )


Scrape = Mapping[str, Metric]  # by name


def read(text: str) -> Scrape:
    """The metrics in one answer."""
    found = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        samples = tuple(
            Sample(name=s.name, labels=dict(s.labels), value=s.value) for s in family.samples
        )
        found[name] = Metric(name=name, kind=family.type, samples=samples)
    return found


async def scraped(suite: Suite) -> dict[str, Scrape]:
    """Every unit's metrics, as they are now. Skips the test where the suite is not ours."""
    processes = suite.processes()
    timeout = ClientTimeout(total=SCRAPE_S)
    async with ClientSession(timeout=timeout, raise_for_status=True) as http:

        async def scrape(unit: str) -> Scrape:
            port = processes[unit]["ops_port"]
            async with http.get(f"http://127.0.0.1:{port}/metrics") as answer:
                return read(await answer.text())

        return dict(zip(UNITS, await asyncio.gather(*map(scrape, UNITS)), strict=True))
