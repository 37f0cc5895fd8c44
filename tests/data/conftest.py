"""Small files in the published formats, and a web server on this machine that offers them."""

import functools
import hashlib
import http.server
import pickle
import tarfile
import threading

import numpy as np
import pytest
import scipy.io
from idx_files import write_idx

from densenet_cli.data.cifar import Cifar10
from densenet_cli.data.mnist import FashionMnist, Mnist
from densenet_cli.data.svhn import Svhn


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty folder in the place of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.requests.append(self.path)
        super().do_GET()


@pytest.fixture
def server(tmp_path):
    """Offers the files in `server.folder` at `server.url`; notes the `server.requests`."""
    folder = tmp_path / "server"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.folder, server.url = folder, f"http://127.0.0.1:{server.server_port}"
    server.requests = []
    # The default waits up to half a second at each shutdown.
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def cifar_batch(images, seed):
    """As in the official release: a pickle of protocol 2 with rows of bytes and a list."""
    chance = np.random.RandomState(seed)
    pixels = chance.randint(0, 256, (images, 3072)).astype(np.uint8)
    return {"data": pixels, "labels": [row % 10 for row in range(images)]}


@pytest.fixture
def cifar_root(tmp_path):
    """A folder with a CIFAR-10 of 5 x 20 + 10 images."""
    folder = tmp_path / "root" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    contents = {f"data_batch_{part}": cifar_batch(20, part) for part in range(1, 6)}
    contents["test_batch"] = cifar_batch(10, 6)
    contents["batches.meta"] = {"label_names": [f"class{label}" for label in range(10)]}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return folder.parent


@pytest.fixture
def cifar_release(cifar_root, server, monkeypatch):
    """The files of `cifar_root` become the official ones; the server offers their archive."""
    folder = cifar_root / "cifar-10-batches-py"
    archive = server.folder / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "cifar-10-batches-py")

    class Release(Cifar10.release):
        url = f"{server.url}/{archive.name}"
        tgz_md5 = md5(archive)
        train_list = [[name, md5(folder / name)] for name, _ in Cifar10.release.train_list]  # noqa: RUF012
        test_list = [["test_batch", md5(folder / "test_batch")]]  # noqa: RUF012
        meta = {**Cifar10.release.meta, "md5": md5(folder / "batches.meta")}  # noqa: RUF012

    monkeypatch.setattr(Cifar10, "release", Release)
    return archive


@pytest.fixture
def svhn_release(server, monkeypatch):
    """The server offers an SVHN of 30 + 50 extra + 20 test images, which become the official ones.

    The first pixel of an image tells its split (1, 2, 3) and its place there.
    """
    parts = {}
    for number, (split, images) in enumerate({"train": 30, "extra": 50, "test": 20}.items()):
        pixels = np.random.RandomState(number).randint(0, 256, (32, 32, 3, images))
        pixels[0, 0, 0], pixels[0, 0, 1] = number + 1, np.arange(images)
        pixels[2, 5, 2] = 77  # row 2, column 5, blue
        labels = np.arange(images)[:, None] % 10 + 1
        path = server.folder / f"{split}_32x32.mat"
        content = {"X": pixels.astype(np.uint8), "y": labels.astype(np.uint8)}
        scipy.io.savemat(path, content, do_compression=True)
        parts[split] = [f"{server.url}/{path.name}", path.name, md5(path)]
    monkeypatch.setattr(Svhn, "parts", parts)
    return server.folder


@pytest.fixture
def mnist_release(server, monkeypatch):
    """The server offers an MNIST of 60 + 20 images, which become the official ones, of both data sets.

    The first pixel of an image tells its place in its split.
    """
    resources = []
    for split, images in {"train": 60, "t10k": 20}.items():
        pixels = np.random.RandomState(images).randint(0, 256, (images, 28, 28)).astype(np.uint8)
        pixels[:, 0, 0], pixels[:, 3, 7] = np.arange(images), 77
        labels = (np.arange(images) % 10).astype(np.uint8)
        for name, values in (("images-idx3-ubyte", pixels), ("labels-idx1-ubyte", labels)):
            path = server.folder / f"{split}-{name}.gz"
            write_idx(path, values)
            resources.append((path.name, md5(path)))
    for data in (Mnist, FashionMnist):
        release = type(data.release.__name__, (data.release,), {})
        release.mirrors, release.resources = [f"{server.url}/"], resources
        monkeypatch.setattr(data, "release", release)
    return server.folder
