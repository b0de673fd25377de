"""Files by address, from a server on the loopback: cached, checked, resumed; and without a network."""

import hashlib
import http.server
import sys
import threading

import jax
import numpy as np
import pytest

import jlayers as jl
from jlayers.applications.published import WeightsFile
from jlayers.interop.fetch import fetch

CONTENT = bytes(range(256)) * 400
MD5, SHA = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []  # the ranges
        self.break_off = 0  # how many answers end in the middle
        self.ranges = True
        self.files = {"/weights.h5": CONTENT}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        if self.path not in server.files:
            self.send_error(404)
            return
        content = server.files[self.path]
        start = int(asked[len("bytes=") : -1]) if asked and server.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        if server.break_off:
            server.break_off -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("JLAYERS_WEIGHTS", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("digest", [MD5, SHA, None])
def test_fetched_once(server, tmp_path, digest):
    path = fetch(f"{server.url}/weights.h5", digest, tmp_path)
    assert path == tmp_path / "weights.h5"
    assert path.read_bytes() == CONTENT
    server.shutdown()  # from the cache without a network
    assert fetch(f"{server.url}/weights.h5", digest, tmp_path) == path
    assert server.asked == [None]
    assert [p.name for p in tmp_path.iterdir()] == ["weights.h5"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_off_goes_on(server, tmp_path, ranges):
    server.break_off, server.ranges = 2, ranges
    assert fetch(f"{server.url}/weights.h5", SHA, tmp_path).read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert server.asked[:2] == [None, f"bytes={half}-"]
    server.asked.clear()
    (tmp_path / "weights.h5").unlink()
    server.break_off = 3
    with pytest.raises(ConnectionError, match="broke before the end"):
        fetch(f"{server.url}/weights.h5", SHA, tmp_path)
    left = (tmp_path / "weights.h5.part").stat().st_size
    assert 0 < left < len(CONTENT)
    assert fetch(f"{server.url}/weights.h5", SHA, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={left}-"


def test_another_content_is_refused_and_goes(server, tmp_path):
    with pytest.raises(ValueError, match="expected the published file, with the SHA256"):
        fetch(f"{server.url}/weights.h5", "0" * 64, tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "weights.h5").write_bytes(b"damaged in the cache")
    assert fetch(f"{server.url}/weights.h5", MD5, tmp_path).read_bytes() == CONTENT
    (tmp_path / "weights.h5").unlink()
    (tmp_path / "weights.h5.part").write_bytes(CONTENT + b"more")  # of another version
    assert fetch(f"{server.url}/weights.h5", MD5, tmp_path).read_bytes() == CONTENT


def test_no_network_says_what_to_do(server, tmp_path):
    with pytest.raises(
        ConnectionError, match=r"weights.h5 cannot be fetched.*put the file at .*JLAYERS_WEIGHTS"
    ):
        fetch("http://127.0.0.1:9/weights.h5", MD5, tmp_path)
    with pytest.raises(ConnectionError, match="Not Found"):
        fetch(f"{server.url}/other.h5", MD5, tmp_path)


def test_a_mirror_or_a_folder(server, tmp_path, monkeypatch):
    monkeypatch.setenv("JLAYERS_WEIGHTS", server.url + "/")
    address = "http://nowhere.invalid/deep/weights.h5"
    assert fetch(address, MD5, tmp_path / "cache").read_bytes() == CONTENT
    monkeypatch.setenv("JLAYERS_WEIGHTS", str(tmp_path / "folder"))
    with pytest.raises(FileNotFoundError, match=r"folder has no file weights.h5: put it there"):
        fetch(address, MD5, tmp_path / "cache")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "weights.h5").write_bytes(CONTENT[1:])
    with pytest.raises(ValueError, match="expected the published file"):
        fetch(address, MD5, tmp_path / "cache")
    (tmp_path / "folder" / "weights.h5").write_bytes(CONTENT)
    assert fetch(address, MD5).parent.name == "folder"


@pytest.mark.parametrize("to", ["base", "base/**", "**"])
def test_imagenet_is_the_file_of_the_application(to, server, tmp_path, monkeypatch):
    base = jl.applications.SqueezeNet(include_top=False, input_shape=(32, 32, 3), name="base")
    model = jl.Sequential(base, jl.GlobalAveragePooling2D(), name="whole")
    params, _ = jax.eval_shape(lambda key: base.init(key, (1, 32, 32, 3)), jax.random.key(0))
    params = jax.tree.map(lambda spec: np.full(spec.shape, 3, spec.dtype), params)
    jl.save_weights(tmp_path / "small", params)
    content = (tmp_path / "small").read_bytes()
    server.files["/small"] = content
    file = WeightsFile(f"{server.url}/small", hashlib.sha256(content).hexdigest())
    module = sys.modules[WeightsFile.__module__]
    monkeypatch.setattr(module, "weights_file", lambda model: file if model.name == "base" else None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    loaded, _ = jl.load_weights(model, "imagenet", (1, 32, 32, 3), to=to)
    assert (loaded["base"]["conv1"]["kernel"] == 3).all()
    assert (tmp_path / "cache" / "jlayers" / "weights" / "small").is_file()


def test_imagenet_needs_an_application():
    model = jl.Sequential(jl.Input((3,)), jl.Dense(2, name="head"))
    with pytest.raises(ValueError, match=r"expected an application.*pass a file of weights"):
        jl.load_weights(model, "imagenet")
    base = jl.applications.SqueezeNet(include_top=False, input_shape=(32, 32, 3), name="base")
    model = jl.Sequential(base, jl.GlobalAveragePooling2D(), jl.Dense(2, name="head"))
    with pytest.raises(ValueError, match=r"at 'head', .*write jl.Weights\('imagenet', to='base'\)"):
        jl.load_weights(model, "imagenet", (1, 32, 32, 3), to="head")
    with pytest.raises(TypeError, match=r"jl.load_weights\(model, \[jl.Weights\(source, to=layer\)\]"):
        jl.fit(model, np.zeros((1, 32, 32, 3)), weights={"base": (1, 2)})
