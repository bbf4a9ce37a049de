"""Cards of the machine and their leases, on the files that the driver would show."""

import threading
from pathlib import Path

import pytest

from memory.errors import SandboxError
from sandbox import gpus as module
from sandbox.gpus import Gpu, gpus, granted, lease

CARDS = [Gpu("GPU-aa", 0), Gpu("GPU-bb", 1), Gpu("GPU-cc", 2)]


def driver(folder: Path) -> Path:
    """Write what the driver says about two cards, the second node first."""
    for bus, uuid, minor in (("0000:01:00.0", "GPU-bb", 1), ("0000:02:00.0", "GPU-aa", 0)):
        (folder / bus).mkdir()
        text = f"Model: \t\t H100\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n"
        (folder / bus / "information").write_text(text)
    return folder


def test_cards_come_in_the_order_of_their_nodes(tmp_path: Path) -> None:
    assert gpus(driver(tmp_path)) == CARDS[:2]


def test_no_driver_means_no_cards(tmp_path: Path) -> None:
    assert gpus(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("visible", "kept"),
    [(None, CARDS), ("", []), ("1", CARDS[1:2]), ("2, 0", [CARDS[2], CARDS[0]])]
    + [("GPU-bb", CARDS[1:2]), ("7", []), ("-1", [])],
)
def test_a_schedulers_word_is_obeyed(visible: str | None, kept: list[Gpu]) -> None:
    assert granted(CARDS, visible) == kept


class TestLease:
    @pytest.fixture(autouse=True)
    def cards(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "gpus", lambda: CARDS[:2])
        monkeypatch.setattr(module, "POLL_S", 0.01)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def test_two_holders_have_two_cards(self, tmp_path: Path) -> None:
        with (
            lease(lambda: False, folder=tmp_path) as one,
            lease(lambda: False, folder=tmp_path) as two,
        ):
            assert {one, two} == set(CARDS[:2])

    def test_a_third_waits_until_one_is_given_back(self, tmp_path: Path) -> None:
        got: list[Gpu] = []

        def third() -> None:
            with lease(lambda: False, folder=tmp_path) as card:
                got.append(card)

        with lease(lambda: False, folder=tmp_path):
            with lease(lambda: False, folder=tmp_path) as second:
                waiting = threading.Thread(target=third)
                waiting.start()
                waiting.join(0.1)
                assert not got
            waiting.join(10)
        assert got == [second]

    def test_a_stop_ends_the_waiting(self, tmp_path: Path) -> None:
        with (
            pytest.raises(SandboxError, match="stopped"),
            lease(lambda: True, folder=tmp_path),
        ):
            pass

    def test_no_card_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        with pytest.raises(SandboxError, match="no GPU"), lease(lambda: False, folder=tmp_path):
            pass
