"""What an export hides: places, addresses, the user, the host, cases and patients."""

import pytest

from agent.privacy import Privacy


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ratio 1/2, and/or, a/b/c.py, ./x/y", "ratio 1/2, and/or, a/b/c.py, ./x/y"),
        ("in /data/p7/scan.nii.gz: no", "in (path): no"),
        ("~/lab/x and ~alice/lab", "(path) and (path)"),
        ('"/a b/c d/e.py" and "D:/x y"', '"(path)/e.py" and "(path)"'),
        ("\\\\server\\share\\x", "(path)"),
        ("http://gpu7.clinic.example:8000/v1", "(address)"),
        ("mail a.b@clinic.example now", "mail (address) now"),
        ("/opt/campaign/log in /opt/campaign", "(path)/log in (path)"),
        ("by carol on gpu7: carols", "by (name) on (name): carols"),
        ("case_01 and 'p7' but p7 and case_012", "(case) and '(case)' but p7 and case_012"),
        ("one\ntwo\x1b[31m\u202e", "one\ntwo"),
        ("x" * 300_000 + "@", "x" * 300_000 + "@"),
        ("a." * 100_000, "a." * 100_000),
    ],
)
def test_what_is_private_goes(text: str, told: str) -> None:
    privacy = Privacy(("/opt/campaign",), ("carol", "gpu7"), ("case_01", "p7"))
    assert privacy.text(text) == told
    assert privacy.text(told) == told


def test_images_in_a_page_stay() -> None:
    page = '<img src="data:image/png;base64,abc/home/x"> /home/x/y'
    privacy = Privacy(("/home/x",))
    assert privacy.shown(page) == '<img src="data:image/png;base64,abc/home/x"> (path)/y'
    assert privacy.shown("/home/x", lambda text: text.replace("/", r"\/")) == "/home/x"
