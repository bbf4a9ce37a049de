"""How sure a network was of search-val, as its process reported it: taken back as hostile.

The file is read by `sandbox.collect`: a plain file of the trial's own, bounded in size and depth,
strict JSON. It must then be {case: {class: mean}} with exactly the cases and classes that were
asked for, each value null or a number in [0, 1]. Anything else means that the confidence is not
known, and why; it fails no trial.

Covered: links, FIFOs, size, nesting, NaN, infinities, other cases, classes and types. No text of
the trial's gets into a reason, but what `sandbox.collect` quotes of it, cleaned.
Not covered: whether a number is true. It informs, and no score, status or decision rests on it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memory.errors import CollectError
from sandbox.collect import collect_json

Means = dict[str, dict[str, float | None]]
"""Case -> class -> mean probability where the class is predicted, in [0, 1]; None: nowhere."""

NAME = "confidence.json"
NUMBER_BYTES = 32
MEANS, UNKNOWN = "means", "unknown"


def collect_confidence(out: Path, cases: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """Return {"means": Means} of what a trial left, or {"unknown": reason}; raises nothing.

    Args:
        out: the trial's output folder.
        cases: all that were predicted.
        classes: all that were asked for.
    """
    most = most_bytes(cases, classes)
    try:
        said = collect_json(out, NAME, max_bytes=most, max_depth=2)
        return {MEANS: parse_means(said, cases, classes)}
    except CollectError as error:
        return {UNKNOWN: str(error)}


def most_bytes(cases: Sequence[str], classes: Sequence[str]) -> int:
    """Return how many bytes the file of these cases and classes can have."""
    row = sum(len(json.dumps(one)) + NUMBER_BYTES for one in classes)
    return NUMBER_BYTES + sum(len(json.dumps(one)) + NUMBER_BYTES + row for one in cases)


def parse_means(said: object, cases: Sequence[str], classes: Sequence[str]) -> Means:
    """Return the means that an object holds, cases and classes in the order given.

    Raises:
        CollectError: it has another form, other cases or classes, or a value out of [0, 1].
    """
    rows = exactly(said, cases, "cases")
    found = {case: exactly(row, classes, "classes") for case, row in rows.items()}
    return {case: {name: checked(one) for name, one in row.items()} for case, row in found.items()}


def exactly(said: object, names: Sequence[str], what: str) -> Mapping[str, Any]:
    """Return an object with exactly these names, in their order.

    Raises:
        CollectError: it is no object, or has others.
    """
    if not isinstance(said, dict):
        raise CollectError(f"{NAME} has a {type(said).__name__} for the {what}; allowed: an object")
    if wrong := said.keys() ^ set(names):
        raise CollectError(
            f"{NAME} differs from the {len(names)} {what} asked for in {len(wrong)} of its names"
        )
    return {name: said[name] for name in names}


def checked(value: object) -> float | None:
    """Return a mean probability, or None for a class that is predicted nowhere.

    Raises:
        CollectError: it is neither null nor a number in [0, 1].
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CollectError(f"{NAME} has a {type(value).__name__}; allowed: null or a number")
    if not 0 <= value <= 1:
        raise CollectError(f"{NAME} has a number out of range; allowed: 0 to 1")
    return float(value) + 0.0
