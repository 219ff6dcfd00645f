"""`GET /metrics`, read by Prometheus's own parser."""

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]


def series(text: str) -> dict[tuple[str, Labels], float]:
    """Values by sample name and sorted labels; asserts that no series occurs twice."""
    found: dict[tuple[str, Labels], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(text: str, name: str, **labels: str) -> float:
    """One sample's value."""
    return series(text)[name, tuple(sorted(labels.items()))]
