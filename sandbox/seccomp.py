"""A filter of system calls for what runs inside, as classic BPF; see seccomp(2), bpf(2).

Covered: tracing and reading other processes, new namespaces, mounts, kernel modules, keys,
BPF, performance events, io_uring, userfaultfd, device nodes, clocks, swap, memory that no
account shows, children that have another parent than whoever made them, raw and exotic
sockets (vsock, netlink, packet), typing into a terminal (TIOCSTI, TIOCLINUX), and hiding from
the accounts in /proc (PR_SET_DUMPABLE). Denied calls fail with EPERM; clone3 and io_uring with
ENOSYS, so that libraries fall back; PR_SET_DUMPABLE does nothing and answers 0, for programs that
hide their keys so end where it fails. Not covered: faults of the kernel in calls that stay.
"""

import errno
import platform
import struct
from typing import NamedTuple


class Table(NamedTuple):
    """What differs between processors: the audit number, and calls by name."""

    arch: int
    calls: dict[str, int]


# The numbers that the kernel gives these calls on both processors since 5.1.
_COMMON = {
    **{"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427},
    **{"open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432},
    **{"fspick": 433, "clone3": 435, "pidfd_getfd": 438, "process_madvise": 440},
    **{"mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447, "open_tree_attr": 467},
}
TABLES = {
    "x86_64": Table(
        0xC000003E,
        {
            **_COMMON,
            **{"shmget": 29, "semget": 64, "msgget": 68, "memfd_create": 319},
            **{"ioctl": 16, "socket": 41, "clone": 56, "ptrace": 101, "syslog": 103},
            **{"mknod": 133, "uselib": 134, "vhangup": 153, "modify_ldt": 154},
            **{"pivot_root": 155, "prctl": 157, "adjtimex": 159, "chroot": 161, "acct": 163},
            **{"settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168},
            **{"reboot": 169, "iopl": 172, "ioperm": 173, "init_module": 175},
            **{"delete_module": 176, "quotactl": 179, "lookup_dcookie": 212},
            **{"clock_settime": 227, "kexec_load": 246, "add_key": 248, "request_key": 249},
            **{"keyctl": 250, "migrate_pages": 256, "mknodat": 259, "unshare": 272},
            **{"move_pages": 279, "perf_event_open": 298, "fanotify_init": 300},
            **{"fanotify_mark": 301, "name_to_handle_at": 303, "open_by_handle_at": 304},
            **{"clock_adjtime": 305, "setns": 308, "process_vm_readv": 310},
            **{"process_vm_writev": 311, "kcmp": 312, "finit_module": 313},
            **{"kexec_file_load": 320, "bpf": 321, "userfaultfd": 323},
        },
    ),
    "aarch64": Table(
        0xC00000B7,
        {
            **_COMMON,
            **{"msgget": 186, "semget": 190, "shmget": 194, "memfd_create": 279},
            **{"lookup_dcookie": 18, "ioctl": 29, "mknodat": 33, "umount2": 39, "mount": 40},
            **{"pivot_root": 41, "chroot": 51, "vhangup": 58, "quotactl": 60, "acct": 89},
            **{"unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106},
            **{"clock_settime": 112, "syslog": 116, "ptrace": 117, "reboot": 142, "prctl": 167},
            **{"settimeofday": 170, "adjtimex": 171, "socket": 198, "add_key": 217},
            **{"request_key": 218, "keyctl": 219, "clone": 220, "swapon": 224, "swapoff": 225},
            **{"migrate_pages": 238, "move_pages": 239, "perf_event_open": 241},
            **{"fanotify_init": 262, "fanotify_mark": 263, "name_to_handle_at": 264},
            **{"open_by_handle_at": 265, "clock_adjtime": 266, "setns": 268},
            **{"process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272},
            **{"finit_module": 273, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294},
        },
    ),
}
ARGUMENTS = ("ioctl", "socket", "clone", "prctl")
UNKNOWN = (
    *("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("memfd_create", "shmget", "msgget", "semget"),
)
ON_A_CARD = ("memfd_create",)

NEW_NAMESPACE = 0x7E020080
OTHER_PARENT = 0x8000  # CLONE_PARENT: out of sight of who watches the tree
FAMILIES = (1, 2, 10)  # unix, inet, inet6: harmless in a network of one's own
TYPE_MASK, RAW, PACKET = 0xF, 3, 10
TERMINAL = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
SET_DUMPABLE = 4
X32 = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _AND, _ANY, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x45, 0x06
_NUMBER, _ARCH = 0, 4
ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
NOTHING = 0x00050000  # the call is not made, and answers 0

Instruction = tuple[int, int, int, int]


def program(machine: str | None = None, *, has_gpu: bool = False) -> bytes:
    """Return the filter for a processor, as an array of sock_filter.

    Memory that no account in /proc shows (`memfd_create`, System V) is denied; with a GPU
    `memfd_create` stays, as the driver may need it.

    Raises:
        KeyError: no table for the processor; `TABLES` has those that are known.
    """
    table = TABLES[machine or platform.machine()]
    steps: list[Instruction] = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, table.arch)]
    steps += [(_RETURN, 0, 0, KILL), (_LOAD, 0, 0, _NUMBER)]
    if table.arch == TABLES["x86_64"].arch:
        steps += [(_AT_LEAST, 0, 1, X32), (_RETURN, 0, 0, EPERM)]
    for name, number in sorted(table.calls.items()):
        if name not in ARGUMENTS and not (has_gpu and name in ON_A_CARD):
            answer = ENOSYS if name in UNKNOWN else EPERM
            steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, answer)]
    for name in ARGUMENTS:
        rule = by_argument(name)
        steps += [(_EQUAL, 0, len(rule), table.calls[name]), *rule]
    steps.append((_RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def by_argument(name: str) -> list[Instruction]:
    """Return the steps that decide on a call by an argument; they always return."""
    if name == "clone":
        return [argument(0), (_ANY, 0, 1, NEW_NAMESPACE | OTHER_PARENT), *denied()]
    if name == "prctl":
        return [argument(0), (_EQUAL, 0, 1, SET_DUMPABLE), *denied(NOTHING)]
    if name == "ioctl":
        typed = [(_EQUAL, 1, 0, TERMINAL[0]), (_EQUAL, 0, 1, TERMINAL[1])]
        return [argument(1), *typed, *denied()]
    unix, inet, inet6 = FAMILIES
    families = [(_EQUAL, 3, 0, unix), (_EQUAL, 2, 0, inet), (_EQUAL, 1, 0, inet6)]
    kinds = [argument(1), (_AND, 0, 0, TYPE_MASK), (_EQUAL, 1, 0, RAW), (_EQUAL, 0, 1, PACKET)]
    return [argument(0), *families, (_RETURN, 0, 0, EPERM), *kinds, *denied()]


def argument(number: int) -> Instruction:
    """Return the load of the lower half of an argument (little endian)."""
    return (_LOAD, 0, 0, 16 + 8 * number)


def denied(answer: int = EPERM) -> list[Instruction]:
    """Return the two ends of a rule: denied, or allowed when the step before skipped one."""
    return [(_RETURN, 0, 0, answer), (_RETURN, 0, 0, ALLOW)]
