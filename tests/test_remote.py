"""Scenes over a network: few requests, patience with what passes, one line for what does not."""

import time
from itertools import count

import numpy as np
import pytest
import rasterio
from affine import Affine
from loopback import serve

from xtgeo.errors import SceneError
from xtgeo.read import open_scene
from xtgeo.read.remote import fetch, unsigned
from xtgeo.window import Window

PIXELS = np.random.default_rng(0).integers(1, 999, (1, 1024, 1024)).astype("uint16")
WINDOW = Window(300, 300, 50, 60)
names = (f"scene{i}.tif" for i in count())  # GDAL remembers addresses for as long as the process lives


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("served")


@pytest.fixture
def server(folder, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.05")
    with serve(folder) as server:
        yield server


@pytest.fixture(scope="module")
def content(folder):
    profile = {"crs": "EPSG:32631", "transform": Affine(10, 0, 5e5, 0, -10, 6e6), "dtype": "uint16", "count": 1}
    with rasterio.open(
        folder / "cog.tif", "w", driver="COG", height=1024, width=1024, compress="deflate", blocksize=128, **profile
    ) as file:
        file.write(PIXELS)
    return (folder / "cog.tif").read_bytes()


@pytest.fixture
def url(server, folder, content):
    name = next(names)
    (folder / name).write_bytes(content)
    return f"{server.url}/{name}"


def read(scene):
    np.testing.assert_array_equal(scene.read(WINDOW).data[0], PIXELS[0, 300:350, 300:360])


def test_a_cog_is_opened_in_two_requests_and_a_window_costs_its_blocks(server, url, content):
    scene = open_scene(url)
    assert len(server.requests) == 2
    read(scene)
    ranges = [asked.removeprefix("bytes=").split("-") for *_, asked, _ in server.requests if asked]
    assert len(server.requests) < 12 and sum(int(b) - int(a) + 1 for a, b in ranges) < len(content) / 2


@pytest.mark.parametrize("fault", [429, 500, 502, 503, 504, "reset", "cut"])
def test_what_passes_is_tried_again_when_opening_and_when_reading(server, url, fault):
    server.faults = [fault, fault]
    scene = open_scene(url)
    server.faults = [fault] * 3
    read(scene)
    assert not server.faults


def test_a_server_that_stalls_is_asked_again(server, url, monkeypatch):
    scene = open_scene(url)
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")
    server.faults = ["slow"]
    read(scene)
    assert not server.faults


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_one_line_at_once(server, url, status):
    server.faults = [status] * 99
    with pytest.raises(SceneError, match=f"HTTP response code: {status}; check the address, your credentials") as error:
        open_scene(url)
    assert len(server.requests) == 1 and "\n" not in str(error.value)
    server.faults = []
    scene = open_scene(f"{url}?again")
    server.faults, start = [status] * 99, time.monotonic()
    with pytest.raises(SceneError, match=rf"cannot read rows .*: the server .* \(HTTP {status}\); check your credentials"):
        read(scene)
    assert time.monotonic() - start < 5 and len(server.requests) < 20  # to try again three times takes seven seconds


def test_a_server_that_never_recovers_is_given_up_and_later_asked_anew(server, url):
    scene = open_scene(url)
    server.faults = [503] * 999
    with pytest.raises(SceneError, match="cannot read rows"):
        read(scene)
    assert len(server.requests) < 80
    server.faults = []
    read(scene)


def test_the_user_s_own_settings_count(server, url, monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_HEADERS", "Authorization: Bearer abc")
    read(open_scene(url))
    assert {headers.get("Authorization") for *_, headers in server.requests} == {"Bearer abc"}


def test_texts_are_fetched_with_the_same_patience_and_credentials(server, folder, monkeypatch):
    (folder / "text.json").write_bytes(b"{}" * 500)
    monkeypatch.setenv("GDAL_HTTP_HEADERS", "X-Key: 7, X-Other: 8")
    monkeypatch.setenv("GDAL_HTTP_BEARER", "abc")
    server.faults = [503, "reset", "cut"]
    assert fetch(f"{server.url}/text.json") == b"{}" * 500
    headers = server.requests[-1][3]
    assert (headers["X-Key"], headers["X-Other"], headers["Authorization"]) == ("7", "8", "Bearer abc")
    with pytest.raises(SceneError, match="more than 0 MB"):
        fetch(f"{server.url}/text.json", limit=100)
    server.faults = [403] * 9
    with pytest.raises(SceneError, match=r"does not let you in \(HTTP 403\)"):
        fetch(f"{server.url}/text.json")
    assert len(server.faults) == 8


def test_credentials_do_not_follow_a_redirect_to_another_host_nor_anyone_to_an_internal_one(server, folder, monkeypatch):
    (folder / "text.json").write_bytes(b"{}")
    monkeypatch.setenv("GDAL_HTTP_BEARER", "abc")
    server.faults = [f"{server.url}/text.json?there"]
    assert fetch(f"{server.url}/text.json") == b"{}"
    assert "Authorization" not in server.requests[-1][3]
    for elsewhere in ("http://169.254.169.254/latest", "file:///etc/passwd", "http://localhost:1/"):
        server.faults = [elsewhere]
        with pytest.raises(SceneError, match="cannot fetch"):
            fetch(f"{server.url}/text.json")


@pytest.mark.parametrize(("query", "kept"), [
    ("?sv=2024&sig=abc%2F", ""), ("?X-Amz-Algorithm=A&X-Amz-Signature=9f", ""), ("?token=a", ""), ("?x=1;Signature=b", ""),
    ("?version=2&design=1", "?version=2&design=1"), ("", ""),
])  # fmt: skip
def test_what_a_url_is_signed_with_is_in_no_output(query, kept):
    assert unsigned(f"https://ann:secret@example.com/a@b/c.tif{query}") == f"https://example.com/a@b/c.tif{kept}"
    assert unsigned(f"/vsicurl/https://example.com/c.tif{query}") == f"/vsicurl/https://example.com/c.tif{kept}"
    assert unsigned(f"/home/ann@work/a.tif{query}") == f"/home/ann@work/a.tif{query}"


def test_a_scene_is_the_same_however_its_url_is_signed(server, url):
    first, second = (open_scene(f"{url}?sig={n}") for n in range(2))
    assert first.href == second.href == url and first.fingerprint() == second.fingerprint()
    np.testing.assert_array_equal(first.read(Window(0, 0, 9, 9)).data, second.read(Window(0, 0, 9, 9)).data)
