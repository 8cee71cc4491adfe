"""A file that says whom to ask, read (RES-4a); what may stand in it is tested with the engine."""

from __future__ import annotations

import pytest

from dot_io.settings import load
from dot_proto import UpstreamError
from support.vectors import certificate, certificate_pem

ANCHOR = certificate("leaf-p256")
TEXT = """
[[upstream]]
address = "192.0.2.1"
name = "dot.example"
ca_file = "root.pem"
"""


def test_a_file_is_loaded(tmp_path):
    """RES-4a: a ``ca_file`` lies beside it."""
    (tmp_path / "root.pem").write_bytes(certificate_pem("leaf-p256"))
    (tmp_path / "resolver.toml").write_text(TEXT, "utf-8")
    settings = load(tmp_path / "resolver.toml")
    assert settings.upstreams[0].name == "dot.example"
    assert load(str(tmp_path / "resolver.toml")) == settings
    assert settings.upstreams[0].trust_anchors == (ANCHOR,)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "other.toml")


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"upstream = [", ["no TOML: Invalid value (at end of document)"]),
        (b"\xff", ["no TOML: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"]),
        (b"x = 5\ny = 5\nupstream = []", ["unknown key 'x'", "unknown key 'y'", "upstream: the list is empty"]),
        (b'upstream = [{address = "::1", ca_file = "a\\u0000b"}]', ["upstream[0].ca_file: 'a\\x00b' cannot be read: "]),
    ],
)
def test_each_line_of_an_error_names_the_file(tmp_path, octets, expected):
    """RES-4a."""
    file = tmp_path / "resolver.toml"
    file.write_bytes(octets)
    with pytest.raises(UpstreamError) as refused:
        load(file)
    assert len(refused.value.problems) == len(expected)
    for problem, start in zip(refused.value.problems, expected, strict=True):
        assert problem.startswith(f"{file}: {start}")
