"""The filter of system calls, executed step by step as the kernel would."""

import errno
import platform
import struct
import subprocess
import sys

import pytest

from sandbox import seccomp
from sandbox.seccomp import ALLOW, ENOSYS, EPERM, KILL, NOTHING, TABLES, program

X86 = TABLES["x86_64"]


def verdict(machine: str, call: int, *arguments: int, arch: int | None = None) -> int:
    """Return what the filter answers, by interpreting the six instructions that it uses."""
    data = struct.pack(
        "=iIQ6Q", call, arch or TABLES[machine].arch, 0, *arguments, *[0] * (6 - len(arguments))
    )
    code = [
        struct.unpack("=HBBI", program(machine)[i : i + 8])
        for i in range(0, len(program(machine)), 8)
    ]
    at, value = 0, 0
    while True:
        kind, yes, no, k = code[at]
        at += 1
        if kind == 0x20:
            (value,) = struct.unpack_from("=I", data, k)
        elif kind == 0x54:
            value &= k
        elif kind == 0x06:
            return int(k)
        else:
            holds = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[kind]
            at += yes if holds else no


@pytest.mark.parametrize("machine", TABLES)
class TestFilter:
    def test_named_calls_are_denied(self, machine: str) -> None:
        for name, number in TABLES[machine].calls.items():
            if name not in seccomp.ARGUMENTS:
                expected = ENOSYS if name in seccomp.UNKNOWN else EPERM
                assert verdict(machine, number) == expected, name

    def test_all_other_calls_are_allowed(self, machine: str) -> None:
        known = set(TABLES[machine].calls.values())
        for number in set(range(480)) - known:
            assert verdict(machine, number) == ALLOW, number

    def test_a_new_namespace_is_denied_and_a_thread_is_not(self, machine: str) -> None:
        clone = TABLES[machine].calls["clone"]
        assert verdict(machine, clone, 0x3D0F00 | 17) == ALLOW
        for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 1 << 28, 1 << 29, 1 << 30):
            assert verdict(machine, clone, flag | 17) == EPERM, hex(flag)

    @pytest.mark.parametrize(
        ("family", "kind", "expected"),
        [
            *[(1, 1, ALLOW), (2, 1, ALLOW), (10, 2, ALLOW), (2, 1 | 0o2000000, ALLOW)],
            *[(2, 3, EPERM), (10, 3 | 0o4000, EPERM), (1, 10, EPERM)],
            *[(16, 3, EPERM), (17, 3, EPERM), (38, 5, EPERM), (40, 1, EPERM)],
        ],
    )
    def test_sockets(self, machine: str, family: int, kind: int, expected: int) -> None:
        assert verdict(machine, TABLES[machine].calls["socket"], family, kind) == expected

    def test_typing_into_a_terminal_is_denied(self, machine: str) -> None:
        call = TABLES[machine].calls["ioctl"]
        assert [verdict(machine, call, 0, n) for n in (0x5412, 0x541C)] == [EPERM, EPERM]
        assert verdict(machine, call, 0, 0x5413) == ALLOW

    def test_hiding_from_proc_does_nothing_and_answers_0(self, machine: str) -> None:
        call = TABLES[machine].calls["prctl"]
        assert [verdict(machine, call, 4, value) for value in (0, 1)] == [NOTHING, NOTHING]
        assert NOTHING & 0xFFFF == 0
        assert [verdict(machine, call, option) for option in (3, 15)] == [ALLOW, ALLOW]

    def test_another_processor_is_killed(self, machine: str) -> None:
        assert verdict(machine, 1, arch=0x40000003) == KILL


@pytest.mark.parametrize("machine", TABLES)
def test_with_a_card_one_call_more_is_allowed(machine: str) -> None:
    with_card, without = program(machine, has_gpu=True), program(machine)
    number = struct.pack("=HBBI", 0x15, 0, 1, TABLES[machine].calls["memfd_create"])
    assert number in without
    assert number not in with_card
    assert len(without) - len(with_card) == 16


HIDES = """
import ctypes
from sandbox import enter, seccomp
enter.prctl(enter.NO_NEW_PRIVILEGES, 1)
enter.install(seccomp.program())
LIBC = ctypes.CDLL(None)
print(LIBC.prctl(4, 0, 0, 0, 0), LIBC.prctl(3, 0, 0, 0, 0))
"""


@pytest.mark.skipif(platform.machine() not in TABLES, reason="no filter for this processor")
def test_a_process_that_hides_is_told_yes_and_stays_in_sight() -> None:
    done = subprocess.run([sys.executable, "-c", HIDES], capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["0", "1"], "")


def test_the_other_numbering_of_x86_is_denied() -> None:
    assert verdict("x86_64", 0x40000000 | 59) == EPERM


def test_denied_is_not_permitted() -> None:
    assert EPERM & 0xFFFF == errno.EPERM
