"""What a campaign notes of its machine: the card as its driver tells of it, or nothing."""

from pathlib import Path

import pytest

from agent.new_campaign import card, environment


def driver(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


def test_the_first_card_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path, "echo 'Card X, 24 GB, 350.00'; echo 'Card Y, 100.00'", monkeypatch)
    assert card() == {"gpu": "Card X, 24 GB", "gpu_power_limit_w": 350.0}
    assert environment()["gpu_power_limit_w"] == 350.0


@pytest.mark.parametrize("script", ["exit 9", "echo", "true", "echo 'Card X, [N/A]'"])
def test_a_driver_that_tells_nothing_is_no_card(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(tmp_path, script, monkeypatch)
    assert card() == {}


def test_no_driver_is_no_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert card() == {}
