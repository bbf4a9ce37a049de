"""Attacks on whoever takes back what a trial wrote: the safe collection must refuse each.

The judge is the collection itself, as the supervisor calls it, with a case `case_1` of
shape (2, 3, 4) and the labels 0, 1 and 2.
"""

import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path

from memory.errors import CollectError
from sandbox.boundary import Limits
from sandbox.clean import clean_text
from sandbox.collect import collect_json, collect_log, copy_file, label_maps
from sandbox.probes.scene import QUICK, Attempt, Judge, Probe

CASES = {"case_1": (2, 3, 4)}
LABELS = {0, 1, 2}
ANSWER_S = 5.0
WEIGHTS_BYTES = 1 << 20
HUGE_FILES = Limits(
    **{name: getattr(QUICK, name) for name in ("wall_s", "memory_mib", "disk_mib")},
    file_mib=1 << 21,
)

WRITE = """
OUT = place("/out")
MAPS = OUT + "/predictions"
os.makedirs(MAPS, exist_ok=True)

def npy(name="case_1.npy", shape=(2, 3, 4), descr="|u1", data=None, order="False"):
    header = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }" % (descr, order, shape)
    header = header.ljust(117) + "\\n"
    size = 1
    for n in shape:
        size *= n
    data = bytes(size * int(descr[2:])) if data is None else data
    with open(os.path.join(MAPS, name), "wb") as file:
        file.write(b"\\x93NUMPY\\x01\\x00" + struct.pack("<H", len(header)) + header.encode() + data)

def write(name, content):
    with open(os.path.join(OUT, name), "wb") as file:
        file.write(content)
"""


def json_file(attempt: Attempt) -> str:
    """Take back trained.json as the supervisor does."""
    return f"trained.json was taken: {str(collect_json(attempt.scene.out, 'trained.json'))[:60]}"


def maps(attempt: Attempt) -> str:
    """Take back the label maps as the supervisor does."""
    taken = [case for case, _ in label_maps(attempt.scene.out, CASES, allowed_values=LABELS)]
    return f"the label maps of {taken} were taken"


def weights(attempt: Attempt) -> str:
    """Take back the weights as the supervisor does."""
    to = attempt.scene.root / "weights.pth"
    copy_file(attempt.scene.out, "weights.pth", to, max_bytes=WEIGHTS_BYTES)
    return f"weights.pth was taken, {to.stat().st_size} bytes"


def foreign(attempt: Attempt) -> str:
    """Take back what is none of the agreed files."""
    taken = []
    for name in ("result.json", "scores.json", "locked_scores.json", "../labels/case_1.npy"):
        try:
            taken.append(str(collect_json(attempt.scene.out, name)))
        except CollectError:
            continue
    return f"taken: {taken}" if taken else ""


def refused(take: Callable[[Attempt], str]) -> Judge:
    """Return a judge: the collection refuses, in time and without a trace on this machine."""

    def judge(attempt: Attempt) -> str:
        found: list[str] = []

        def run() -> None:
            try:
                found.append(take(attempt))
            except CollectError:
                found.append("")

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(ANSWER_S)
        if not found:
            return "the collection of it fails or does not end"
        return found[0] or ("it was unpickled" if bombed(attempt) else "")

    return judge


def bombed(attempt: Attempt) -> bool:
    """Return True when a pickle of the attack was obeyed outside."""
    return Path(attempt.scene.facts["root"], "bombed").exists()


def private_weights(attempt: Attempt) -> str:
    """Take back weights that are a plain file: as bytes, mode 0600, and not unpickled."""
    to = attempt.scene.root / "weights.pth"
    copy_file(attempt.scene.out, "weights.pth", to, max_bytes=WEIGHTS_BYTES)
    mode = to.stat().st_mode & 0o7777
    to.unlink()
    if mode != 0o600:
        return f"the copy has mode {mode:o}"
    return "it was unpickled" if bombed(attempt) else ""


def clean_log(attempt: Attempt) -> str:
    """Take back the log, and look for what a terminal would obey or hide."""
    taken = collect_log(attempt.scene.root, attempt.scene.log.name)
    left = {c for c in taken if unicodedata.category(c) in ("Cc", "Cf", "Cs")} - {"\n", "\t"}
    if left or clean_text(taken) != taken:
        return f"the log still holds {sorted(map(ascii, left))[:5]}"
    return "" if "before" in taken and "after" in taken else "the log lost what was honest"


def kept_log(attempt: Attempt) -> str:
    """Look at the log's mode: its owner may read it, and nobody may run it."""
    mode = attempt.log_mode
    return "" if mode & 0o7733 == 0o600 else f"the log has mode {mode:o}"


def planted(name: str, threat: str, code: str, judge: Judge, limits: Limits = QUICK) -> Probe:
    """Return an attack that writes into `out`."""
    return Probe(name, threat, WRITE + code, judge=judge, limits=limits)


BOMB = """
class Bomb:
    def __reduce__(self):
        return os.mkdir, (F["root"] + "/bombed",)
import pickle
"""

PROBES = (
    planted(
        "link_to_a_secret",
        "a symbolic link in place of a file has the supervisor read a secret",
        'attempt(os.symlink, F["root"] + "/campaign.db", OUT + "/trained.json")',
        refused(json_file),
    ),
    planted(
        "link_to_the_labels",
        "a link in place of the predictions hands back the labels themselves",
        'os.rmdir(MAPS)\nattempt(os.symlink, os.path.dirname(F["labels"]), MAPS)',
        refused(maps),
    ),
    planted(
        "linked_twice",
        "a file with a second name can change after it was checked",
        'write("trained.json", b"{}")\nattempt(os.link, OUT + "/trained.json", OUT + "/second")\n'
        'os.path.exists(OUT + "/second") or os.remove(OUT + "/trained.json")',
        refused(json_file),
    ),
    planted(
        "pipe",
        "a pipe in place of a file has the supervisor wait for ever",
        'attempt(os.mkfifo, OUT + "/trained.json")',
        refused(json_file),
    ),
    planted(
        "pipe_of_weights",
        "a pipe in place of the weights has the supervisor wait for ever",
        'attempt(os.mkfifo, OUT + "/weights.pth")',
        refused(weights),
    ),
    planted(
        "socket_file",
        "a socket in place of a file",
        "s = attempt(socket.socket, socket.AF_UNIX)\nos.chdir(OUT)\n"
        's and attempt(s.bind, "trained.json")',
        refused(json_file),
    ),
    planted(
        "sparse_file",
        "a file of 1 TiB that takes no space fills the supervisor's memory",
        'attempt(lambda: open(OUT + "/trained.json", "wb").truncate(1 << 40))',
        refused(json_file),
        HUGE_FILES,
    ),
    planted(
        "sparse_weights",
        "weights of 1 TiB that take no space fill the supervisor's disk",
        'attempt(lambda: open(OUT + "/weights.pth", "wb").truncate(1 << 40))',
        refused(weights),
        HUGE_FILES,
    ),
    planted(
        "folder_for_a_file",
        "a folder in place of a file",
        'os.mkdir(OUT + "/trained.json")',
        refused(json_file),
    ),
    planted(
        "file_for_a_folder",
        "a file in place of the predictions",
        'os.rmdir(MAPS)\nwrite("predictions", b"")',
        refused(maps),
    ),
    planted(
        "setuid_file",
        "a file with setuid bits becomes a program of the user",
        'write("weights.pth", b"#!/bin/sh")\nattempt(os.chmod, OUT + "/weights.pth", 0o6777)',
        refused(private_weights),
    ),
    planted(
        "path_that_leaves",
        "a name leads out of the folder",
        'attempt(os.symlink, "..", MAPS + "/up")\n'
        'for name in ("..\\\\..\\\\case_1.npy", "..%2fcase_1.npy", "\\n.npy", "~.npy"):\n'
        "    npy(name)\nnpy()",
        refused(maps),
    ),
    planted(
        "foreign_files",
        "scores, results or a name with a path are taken from the trial",
        'for name in ("result.json", "scores.json", "locked_scores.json"):\n'
        '    write(name, b\'{"dice": 1.0, "status": "ok"}\')',
        refused(foreign),
    ),
    planted(
        "extra_predictions",
        "predictions of cases that nobody asked for",
        'npy()\nnpy("case_2.npy")',
        refused(maps),
    ),
    planted(
        "a_thousand_predictions",
        "so many files that looking at them takes for ever",
        'for i in range(2000):\n    open(f"{MAPS}/x{i}.npy", "w").close()',
        refused(maps),
    ),
    planted("no_predictions", "a hard case is left out of the average", "", refused(maps)),
    planted(
        "prediction_of_another_shape",
        "a prediction on another grid is scored",
        "npy(shape=(2, 3, 5))",
        refused(maps),
    ),
    planted(
        "prediction_in_another_order",
        "a prediction with its axes exchanged is scored",
        'npy(shape=(4, 3, 2))\nnpy(order="True")',
        refused(maps),
    ),
    planted(
        "prediction_of_another_type",
        "probabilities, signed or wide numbers in place of labels",
        'npy(descr="<f4")',
        refused(maps),
    ),
    planted(
        "prediction_of_other_labels",
        "a label that does not exist",
        "npy(data=bytes([9] * 24))",
        refused(maps),
    ),
    planted(
        "prediction_with_a_geometry",
        "an image with a spacing of its own is scored by that spacing",
        'open(MAPS + "/case_1.nii.gz", "wb").write(b"\\x1f\\x8b" + bytes(400))\nnpy()',
        refused(maps),
    ),
    planted(
        "prediction_that_lies",
        "a header says more voxels than there are",
        "npy(data=bytes(7))",
        refused(maps),
    ),
    planted(
        "prediction_of_a_terabyte",
        "a header asks for more memory than there is",
        'npy(shape=(1 << 20, 1 << 20, 1), data=b"")',
        refused(maps),
    ),
    planted(
        "prediction_with_objects",
        "a pickle inside an array is obeyed",
        BOMB + 'npy(descr="|O", shape=(2, 3, 4), data=pickle.dumps(Bomb()))',
        refused(maps),
    ),
    planted(
        "prediction_with_a_program",
        "an array's header is evaluated",
        'npy(descr="|u1\' + str(open(F[\\"root\\"] + \\"/bombed\\", \\"w\\")) + \'", data=b"", shape=())',
        refused(maps),
    ),
    planted(
        "pickle_bomb",
        "weights are obeyed by whoever loads them",
        BOMB + 'write("weights.pth", pickle.dumps(Bomb()))',
        refused(private_weights),
    ),
    planted(
        "giant_json",
        "JSON larger than memory",
        'write("trained.json", b\'{"a": "\' + b"x" * (8 << 20) + b\'"}\')',
        refused(json_file),
    ),
    planted(
        "nested_json",
        "JSON so deep that its reader falls",
        'write("trained.json", b\'{"a":\' * 100000 + b"1" + b"}" * 100000)',
        refused(json_file),
    ),
    planted(
        "json_of_lists",
        "lists so deep that whoever shows them falls",
        'write("trained.json", b\'{"a": \' + b"[" * 400 + b"]" * 400 + b"}")',
        refused(json_file),
    ),
    planted(
        "json_not_a_number",
        "NaN in JSON poisons an average",
        'write("trained.json", b\'{"loss": [NaN, NaN, NaN]}\')',
        refused(json_file),
    ),
    planted(
        "json_infinite",
        "a number too large for a float",
        'write("trained.json", b\'{"loss": [1e999]}\')',
        refused(json_file),
    ),
    planted(
        "json_of_digits",
        "an integer that takes for ever to read",
        'write("trained.json", b\'{"loss": \' + b"9" * 900000 + b"}")',
        refused(json_file),
    ),
    planted(
        "json_not_text",
        "JSON of bytes that are no text, or of halves of characters",
        'write("trained.json", b\'{"a": "\\xff\\xfe"}\')',
        refused(json_file),
    ),
    planted(
        "json_surrogates",
        "half a character that no file can hold",
        'write("trained.json", b\'{"a": "\\\\ud800"}\')',
        refused(json_file),
    ),
    planted(
        "json_no_object",
        "JSON of another shape than agreed",
        'write("trained.json", b"[1, 2, 3]")',
        refused(json_file),
    ),
    planted(
        "mode_of_the_log",
        "a log that nobody may read, or that everybody may run, is left (fchmod)",
        "for number in (1, 2):\n    attempt(os.fchmod, number, 0o4111)",
        kept_log,
    ),
    planted(
        "terminal_in_the_log",
        "the log drives the terminal of whoever reads it",
        r"""
sys.stdout.flush()
os.write(1, b"before\n\x1b[2J\x1b]0;title\x07\x1b]52;c;c2VjcmV0\x07\x1bPq#0\x1b\\\x9b31m\r\x08")
os.write(1, "\u202eevil\u202c\u2066x\u2069\u200b\x85\U000e0041\n".encode())
os.write(1, b"\xc2\x9d8;;http://x\x07\xff\n")
os.write(1, b"\x1b]8;;file:///etc\x1b\\\n\x00\x7fafter\n")
""",
        clean_log,
    ),
)
