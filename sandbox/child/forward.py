"""Runs a coding agent in its folder; leads its requests from this loopback to the relay's socket.

Command line: forward.py FOLDER SOCKET PORT WORD..., where SOCKET is - without a relay. The exit
status is the agent's, 128 and the signal's number where one ended it, 127 where it is not found,
126 where it cannot be started. When this program ends, the boundary ends all that is left.
"""

import contextlib
import socket
import subprocess
import sys
import threading

NONE = "-"
HOST = "127.0.0.1"
PIECE = 1 << 16


def listen(path: str, port: int) -> None:
    """Accept connections on the loopback from now on, and connect each of them to the socket."""
    server = socket.create_server((HOST, port))
    threading.Thread(target=accept, args=(server, path), daemon=True).start()


def accept(server: socket.socket, path: str) -> None:
    """Give each connection threads of its own."""
    while True:
        inner, _ = server.accept()
        threading.Thread(target=connect, args=(inner, path), daemon=True).start()


def connect(inner: socket.socket, path: str) -> None:
    """Copy both ways until both sides have ended; without a relay the connection closes."""
    with inner, socket.socket(socket.AF_UNIX) as outer, contextlib.suppress(OSError):
        outer.connect(path)
        back = threading.Thread(target=copy, args=(outer, inner), daemon=True)
        back.start()
        copy(inner, outer)
        back.join()


def copy(source: socket.socket, target: socket.socket) -> None:
    """Copy what comes, then its end."""
    with contextlib.suppress(OSError):
        while data := source.recv(PIECE):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def run(folder: str, command: list[str]) -> int:
    """Run the agent; return its exit status as a shell would tell it."""
    try:
        ran = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, check=False)
    except FileNotFoundError:
        print(f"{command[0]}: it, or the program that its first line names, is not found")
        return 127
    except OSError as error:
        print(f"{command[0]}: {error.strerror}")
        return 126
    return ran.returncode if ran.returncode >= 0 else 128 - ran.returncode


def main(folder: str, path: str, port: str, *command: str) -> int:
    """Listen where there is a relay, then run the agent."""
    if path != NONE:
        listen(path, int(port))
    return run(folder, list(command))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
