"""Entry point inside the sandbox: ``python -I CHILD_FOLDER MODE``, job in /job.json.

Each mode reads its job, works in /out and ends with 0; an expected failure is written to
/out/outcome.json as {"failure": CLASS, "text": ...} and ends with 3. Nothing that is
written here is believed outside: it is collected and parsed as hostile.
"""

import importlib
import json
import sys
import traceback

from places import place

MODES = ("check", "prepare", "train", "weigh", "predict")


def failure_of(error: BaseException) -> str:
    """Name the class of a failure from the exception that ended the run."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or "OutOfMemory" in text or "DefaultCPUAllocator" in text:
        return "out_of_memory"
    if isinstance(error, FloatingPointError):
        return "diverged"
    if type(error).__name__ == "ContractError":
        return "contract"
    return str(getattr(error, "failure_class", "exception"))


def main(mode: str) -> int:
    """Run one mode; return 0, or 3 when it failed in a way that is worth telling."""
    assert mode in MODES, mode
    out = place("/out")
    job = json.loads(place("/job.json").read_text())
    try:
        importlib.import_module(mode).main(job, out)
    except Exception as error:  # noqa: BLE001 -- every failure of a network is data
        outcome = {"failure": failure_of(error), "text": f"{type(error).__name__}: {error}"[:2000]}
        (out / "outcome.json").write_text(json.dumps(outcome))
        traceback.print_exc()
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
