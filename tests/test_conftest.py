"""The guard around the tests themselves."""

import socket

import pytest


def test_this_machine_may_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            assert client.getpeername() == server.getsockname()


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.invalid"])
def test_other_machines_may_not(host: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="no further than this machine"):
        socket.create_connection((host, 80), timeout=1)


def test_a_bare_socket_is_guarded_too() -> None:
    with socket.socket() as client:
        with pytest.raises(pytest.fail.Exception, match="connect_ex to '192.0.2.1'"):
            client.connect_ex(("192.0.2.1", 80))
