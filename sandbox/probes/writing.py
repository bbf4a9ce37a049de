"""Attacks that change or leave something outside of what a trial is given to write."""

import contextlib
import ctypes
import site
from pathlib import Path

from sandbox.probes.plants import key_in_the_home, terminal
from sandbox.probes.scene import Attempt, Probe, Scene

LEAVE = """
def leave(*folders, name=F["mark"], text="# left by the escape suite\\n"):
    for folder in folders:
        path = os.path.join(folder, name)
        attempt(lambda: open(path, "w").write(text))
"""
EVERY_WAY = """
def changes(path):
    return (
        lambda: open(path, "w"),
        lambda: open(path, "a").write("x"),
        lambda: open(path, "r+b").write(b"x"),
        lambda: os.truncate(path, 1),
    )
"""


def real_home(scene: Scene) -> None:
    """Watch the user's real home, besides the folder with a key in it."""
    key_in_the_home(scene)
    key = Path(scene.facts["key"])
    scene.looks.append(lambda: "" if key.exists() else "a key in the home")


def packages(scene: Scene) -> None:
    """Watch where Python runs what it finds."""
    scene.facts["packages"] = site.getsitepackages()


def shared_segment(scene: Scene) -> None:
    """Choose a number for memory, messages and semaphores of System V, and remove them."""
    number = int(scene.mark[-7:], 16) | 1
    scene.facts["key"] = number
    scene.stack.callback(remove_segments, number)


def remove_segments(number: int) -> None:
    """Remove what an attack has left under a number."""
    libc = ctypes.CDLL(None)
    for find, control in (("shmget", "shmctl"), ("msgget", "msgctl")):
        arguments = (number, 0, 0) if find == "shmget" else (number, 0)
        found = getattr(libc, find)(*arguments)
        if found >= 0:
            getattr(libc, control)(found, 0, None)


def segments_left(attempt: Attempt) -> str:
    """Look for the number in this machine's tables."""
    for kind in ("shm", "msg"):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
            if str(attempt.scene.facts["key"]) in (line.split()[0] for line in lines):
                return f"a {kind} segment was left on this machine"
    return ""


def code_in_the_campaign(attempt: Attempt) -> str:
    """Look for code that a test run or Python would pick up beside the trial."""
    found = [p for p in attempt.scene.root.iterdir() if p.suffix in (".py", ".pth")]
    return f"{found[0].name} was left in the campaign" if found else ""


def core_dumps(attempt: Attempt) -> str:
    """Look for an image of the process."""
    found = [p.name for p in attempt.scene.out.iterdir() if p.name.startswith("core")]
    return f"a core dump {found[0]} was written" if found else ""


PROBES = (
    Probe(
        "write_data",
        "the data that all trials share are changed",
        EVERY_WAY
        + """
for change in changes(place("/data") + "/case_1.npy"):
    attempt(change)
attempt(lambda: open(place("/data") + "/new", "w").write("x"))
attempt(os.mkdir, place("/data") + "/folder")
""",
        gets_out_uncontained=True,
    ),
    Probe(
        "remove_data",
        "the data are removed or exchanged for others",
        """
path = place("/data") + "/case_1.npy"
attempt(os.rename, path, path + ".old")
attempt(os.rename, place("/data"), place("/data") + ".old")
attempt(os.link, path, place("/data") + "/copy")
attempt(os.symlink, "case_1.npy", place("/data") + "/link")
attempt(os.remove, path)
attempt(os.rmdir, place("/data"))
""",
        gets_out_uncontained=True,
    ),
    Probe(
        "chmod_data",
        "the modes of the data are changed",
        'attempt(os.chmod, place("/data") + "/case_1.npy", 0o777)\n'
        'attempt(os.chmod, place("/data"), 0o777)\n'
        'attempt(os.chmod, F["labels"], 0o777)',
        gets_out_uncontained=True,
    ),
    Probe(
        "utime_data",
        "the times of the data are changed",
        'attempt(os.utime, place("/data") + "/case_1.npy", (1, 1))\n'
        'attempt(os.utime, F["labels"], (1, 1))',
        gets_out_uncontained=True,
    ),
    Probe(
        "label_data_with_attributes",
        "attributes of the data are changed",
        'attempt(os.setxattr, place("/data") + "/case_1.npy", "user.mark", b"x")\n'
        'attempt(os.setxattr, F["labels"], "user.mark", b"x")',
    ),
    Probe(
        "write_code",
        "a trial changes its own code, which is shown as what was run",
        EVERY_WAY
        + """
for change in changes(place("/code") + "/network.py"):
    attempt(change)
attempt(lambda: open(place("/code") + "/sitecustomize.py", "w").write(""))
attempt(os.chmod, place("/code") + "/network.py", 0o600)
""",
        gets_out_uncontained=True,
    ),
    Probe(
        "reopen_for_writing",
        "what was opened for reading is opened again for writing",
        """
for name in ("/data/case_1.npy", "/code/network.py"):
    number = os.open(place(name), os.O_RDONLY)
    again = attempt(os.open, f"/proc/self/fd/{number}", os.O_RDWR)
    if again is not None:
        os.write(again, b"x")
    attempt(os.fchmod, number, 0o777)
""",
        gets_out_uncontained=True,
    ),
    Probe(
        "write_labels",
        "hidden labels and other trials are changed",
        EVERY_WAY
        + """
for path in (F["labels"], F["root"] + "/campaign.db", F["root"] + "/others/trial-1/result.json"):
    for change in changes(path):
        attempt(change)
    attempt(os.remove, path)
""",
        gets_out_uncontained=True,
    ),
    Probe(
        "write_home",
        "a file is left in the user's home",
        LEAVE + 'leave(F["home"])\nattempt(os.remove, F["key"])',
        plant=real_home,
        gets_out_uncontained=True,
    ),
    Probe(
        "plant_in_site_packages",
        "a .pth or sitecustomize.py is planted that Python runs for the user later",
        LEAVE
        + """
for folder in F["packages"]:
    for ending in (".pth", ".py"):
        leave(folder, name=F["mark"] + ending)
""",
        plant=packages,
    ),
    Probe(
        "plant_beside_the_trial",
        "a conftest.py or sitecustomize.py is planted where a test run or Python looks",
        LEAVE
        + """
for name in ("conftest.py", "sitecustomize.py", "usercustomize.py", F["mark"] + ".pth"):
    leave(F["root"], place("/out") + "/..", place("/data") + "/..", name=name)
""",
        judge=code_in_the_campaign,
        gets_out_uncontained=True,
    ),
    Probe(
        "write_system",
        "a file is left among the system's programs or settings",
        LEAVE + 'leave("/usr/lib", "/usr/bin", "/etc", "/", "/dev")',
    ),
    Probe(
        "leave_in_tmp",
        "a file is left in this machine's /tmp",
        LEAVE + 'leave("/tmp", "/var/tmp")',
        gets_out_uncontained=True,
    ),
    Probe(
        "leave_in_shared_memory",
        "a file is left in this machine's /dev/shm",
        LEAVE + 'leave("/dev/shm")',
        gets_out_uncontained=True,
    ),
    Probe(
        "leave_a_segment",
        "memory or messages of System V are left on this machine",
        'LIBC.shmget(F["key"], 4096, 0o1600)\nLIBC.msgget(F["key"], 0o1600)',
        judge=segments_left,
        plant=shared_segment,
        gets_out_uncontained=True,
    ),
    Probe(
        "kernel_settings",
        "the kernel's settings can be opened for writing",
        """
for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger",
             "/proc/sys/vm/overcommit_memory", "/sys/kernel/mm/transparent_hugepage/enabled",
             "/sys/fs/cgroup/cgroup.procs", "/proc/sys/fs/binfmt_misc/register"):
    if attempt(os.open, path, os.O_WRONLY) is not None:
        escaped(f"{path} was opened for writing")
""",
    ),
    Probe(
        "terminal_screen",
        "escape sequences are written onto the user's terminal",
        """
for path in {F["terminal"], "/dev/tty"}:
    number = attempt(os.open, path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    if number is not None:
        attempt(os.write, number, b"typed")
""",
        plant=terminal,
        gets_out_uncontained=True,
    ),
    Probe(
        "terminal_keyboard",
        "keystrokes are put into the user's terminal (TIOCSTI)",
        """
import fcntl
for path in {F["terminal"], "/dev/tty", "/proc/self/fd/0", "/proc/self/fd/1"}:
    number = attempt(os.open, path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    if number is not None:
        for request in (0x5412, 0x5412 | 1 << 32):
            attempt(fcntl.ioctl, number, request & 0xFFFFFFFF, b"x")
            LIBC.ioctl(number, ctypes.c_ulong(request), b"x")
""",
        plant=terminal,
    ),
    Probe(
        "core_dump",
        "a crash writes an image of the process to a disk",
        'os.chdir(place("/out"))\nimport resource\n'
        "attempt(resource.setrlimit, resource.RLIMIT_CORE, (-1, -1))\n"
        "os.abort()",
        judge=core_dumps,
        is_whole=False,
    ),
)
