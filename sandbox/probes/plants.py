"""What several attacks find planted: a process with a secret, open descriptors, terminals."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from sandbox import warm
from sandbox.probes.scene import Scene, UnsuitableError

WAITS = "import sys; print(flush=True); sys.stdin.read()"


def victim(scene: Scene) -> None:
    """Start a process of the same user with the secret in its environment and command line."""
    command = [sys.executable, "-I", "-S", "-c", WAITS, scene.secret]
    process = subprocess.Popen(
        command, env={"KEY": scene.secret}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    scene.stack.callback(finish, process)
    assert process.stdout is not None
    process.stdout.readline()
    scene.facts["victim"] = process.pid

    def look() -> str:
        return "" if process.poll() is None else "a process of this machine"

    scene.looks.append(look)


def finish(process: "subprocess.Popen[bytes]") -> None:
    """End a process that was planted."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGCONT)
    process.kill()
    process.communicate()


def key_in_the_environment(scene: Scene) -> None:
    """Hold an API key in the environment of whoever starts the trial."""
    os.environ["OPENAI_API_KEY"] = scene.secret
    scene.stack.callback(os.environ.pop, "OPENAI_API_KEY", None)


def open_descriptors(scene: Scene) -> None:
    """Hold a secret open, inheritable, as a careless program would."""
    file = scene.stack.enter_context((scene.root / "home/.ssh/id_ed25519").open("rb"))
    for number in (file.fileno(), os.dup(file.fileno())):
        os.set_inheritable(number, True)
    scene.stack.callback(os.close, number)


def key_in_the_home(scene: Scene) -> None:
    """Put a secret into the user's real home, in a folder of its own.

    Raises:
        UnsuitableError: there is no home that can be written.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=".segwright-escape-", dir=Path.home()))
    except OSError as error:
        raise UnsuitableError(f"the home cannot be written: {error}") from error
    key = folder / "id_ed25519"
    key.write_text(scene.secret)
    scene.stack.callback(folder.rmdir)
    scene.stack.callback(key.unlink, missing_ok=True)
    scene.facts |= {"key": str(key), "home": str(Path.home())}


def warm_parent(scene: Scene) -> None:
    """Tell where this user's warm parent keeps its socket, and listen beside it."""
    folder = warm.home()
    path = folder / f"ear-{scene.mark}"
    ear = socket.socket(socket.AF_UNIX)
    ear.bind(str(path))
    scene.listen("a socket beside the warm parent's", ear)
    scene.stack.callback(path.unlink, missing_ok=True)
    scene.facts |= {"warm": str(warm.address()), "beside": str(path)}


def terminal(scene: Scene) -> None:
    """Open a terminal whose screen and keyboard are watched.

    Raises:
        UnsuitableError: this machine gives no terminal.
    """
    try:
        screen, keyboard = os.openpty()
    except OSError as error:
        raise UnsuitableError(f"no terminal: {error}") from error
    for number in (screen, keyboard):
        scene.stack.callback(os.close, number)
        os.set_blocking(number, False)
    settings = termios.tcgetattr(keyboard)
    settings[3] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(keyboard, termios.TCSANOW, settings)
    scene.facts["terminal"] = os.ttyname(keyboard)

    def look() -> str:
        for number, name in ((screen, "a terminal's screen"), (keyboard, "a terminal's keyboard")):
            with contextlib.suppress(OSError):
                if os.read(number, 100):
                    return name
        return ""

    scene.looks.append(look)
