"""Files that somebody made to do harm, or that are damaged: refused in words, soon, in little memory."""

import io
import os
import pickle
import struct
import time
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from test_interop_torch import Built, dumped, stream_layout, tensor, zip_layout

from jlayers.interop import pickles, read, read_keras, read_npz, read_safetensors, read_torch

FLAT = {"0": np.arange(12, dtype=np.float32)}
MOST_SECONDS, MOST_BYTES = 5, 100 * 2**20  # 64 MiB of them are the bombs that the tests make


@pytest.fixture(autouse=True)
def bounded():
    """Nothing here may take long, or much memory."""
    tracemalloc.start()
    begun = time.perf_counter()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MOST_BYTES
    assert time.perf_counter() - begun < MOST_SECONDS


# --------------------------------------------------------------------------------------------- pickles


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("inside", ["alone", "dict", "zip", "stream"])
def test_a_pickle_with_a_call_runs_nothing(protocol, inside, tmp_path):
    marker, path = tmp_path / "executed", tmp_path / "weights"
    call = Call(os.system, f"touch {marker}")
    content = pickle.dumps(call if inside == "alone" else {"w": np.ones(2), "x": call}, protocol)
    if inside == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", content)
    elif inside == "stream":
        path.write_bytes(dumped(0x1950A86A20F9469CFC6C) + dumped(1001) + dumped({}) + content)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a pickle that calls (posix|nt|os).system, which could run code"):
        read_torch(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "function", [eval, exec, open, __import__, getattr, np.load, io.BytesIO, pickle.loads, bytearray, type]
)
def test_other_calls_are_refused_too(function, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(pickle.dumps(Call(function, "1"), 4))
    with pytest.raises(ValueError, match="a pickle that calls"):
        read(path)


def test_a_whole_model_says_what_to_do(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"\x80\x02ctorch.nn.modules.linear\nLinear\n)R.")
    with pytest.raises(ValueError, match="save the state_dict of the model, not the model"):
        read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", dumped({}))
        archive.writestr("net/code/__torch__.py", "")
    with pytest.raises(ValueError, match="a TorchScript program; save weights instead"):
        read(path)


PICKLES = {
    "inst": b"(S'x'\nios\nsystem\n.",
    "obj": b"\x80\x02(cos\nsystem\nU\x01xo.",
    "newobj": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "extension": b"\x80\x02\x82\x01.",
    "long memo": b"\x80\x02]r\xff\xff\xff\x7f.",
    "long text": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fx.",
    "long bytes": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.",
    "long number": b"\x80\x02\x8b\xff\xff\xff\x7fx.",
    "no end": b"\x80\x02]",
    "nothing": b"\x80",
    "no stack": b"\x80\x02.",
    "deep": b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",
    "doubled": b"\x80\x02]" + b"]q\x00(h\x00h\x00e" * 40 + b".",
    "loop": b"\x80\x02}q\x00(X\x01\x00\x00\x00ah\x00u.",
    "reference": b"\x80\x02U\x01xQ.",
    "array without bytes": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R.",
    "argument that is not a function": b"\x80\x02cnumpy\nndarray\n)R.",
    "call of a text": b"\x80\x02U\x01x)R.",
    "attributes of a function": b"\x80\x02c_codecs\nencode\n}U\x01xK\x01sb.",
    "attributes of a dtype of torch": b"\x80\x02ctorch\nFloatStorage\n}U\x05dtypeK\x01sb.",
    "tuples in tuples as a key": b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.",
    "lists in lists as a reference": b"\x80\x02" + b"]q\x00(h\x00h\x00e" * 60 + b"Q.",
    "lists in lists as a code": b"\x80\x02cnumpy\ndtype\n]" + b"]q\x00(h\x00h\x00e" * 60 + b"\x85R.",
    "mark as a value": b"\x80\x02}U\x01x(s.",
    "number of a million digits": b"\x80\x02}\x8b\x40\x42\x0f\x00" + b"\x7f" * 1_000_000 + b"K\x01s.",
    "one text as bytes, many times": b"\x80\x02]X\x00\x00\x10\x00" + b"a" * 2**20 + b"q\x000"
    + b"c_codecs\nencode\nh\x00\x85Ra" * 3000 + b".",
    "a long name for many": b"\x80\x02}X\x00\x00\x10\x00" + b"a" * 2**20
    + b"](" + b"cnumpy.core.multiarray\n_reconstruct\n)R" * 3000 + b"es.",
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_that_are_made_by_hand(name, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(PICKLES[name])
    with pytest.raises(ValueError, match=str(path)):
        read_torch(path)


def test_a_dict_that_is_copied_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "_MOST_STEPS", 10_000)
    numbers = b"".join(b"J" + struct.pack("<i", number) + b"N" for number in range(999))
    copies = b"ccollections\nOrderedDict\nh\x00\x85Ra" * 300
    path = tmp_path / "weights"
    path.write_bytes(b"\x80\x02]}q\x00(" + numbers + b"u0" + copies + b".")
    with pytest.raises(ValueError, match="a pickle of more than 10,000 steps"):
        read(path)


def test_arrays_of_objects(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(pickle.dumps({"w": np.array([{}, []], dtype=object)}))
    with pytest.raises(ValueError, match="an array of 'O8', not of numbers"):
        read(path)
    np.savez(tmp_path / "w.npz", w=np.array([{}, []], dtype=object))
    with pytest.raises(ValueError, match="the array 'w' is damaged"):
        read(tmp_path / "w.npz")


LIES = {
    "beyond": tensor("0", FLAT["0"], (3, 5), (5, 1)),
    "behind": tensor("0", FLAT["0"], (3, 4), (4, 1), offset=1),
    "before": tensor("0", FLAT["0"], (3,), (1,), offset=-1),
    "backwards": tensor("0", FLAT["0"], (3,), (-1,), offset=5),
    "spread": tensor("0", FLAT["0"], (2**20, 2**20), (0, 0)),
    "ranks": tensor("0", FLAT["0"], (1,) * 100, (1,) * 100),
    "other ranks": tensor("0", FLAT["0"], (3,), (1, 1)),
    "text": tensor("0", FLAT["0"], ("3",), (1,)),
    "more": tensor("0", np.zeros(2**20, np.float32), (2**20,), (1,)),
    "missing": tensor("1", FLAT["0"], (3,), (1,)),
    "a size that changes": Built(tensor("0", FLAT["0"], (3,), (1,)), {"size": (2**20,), "stride": (1,)}),
    "a storage that grows": Built(tensor("0", FLAT["0"], (3,), (1,)).arguments[0], {"count": 2**30}),
    "many axes": tensor("0", FLAT["0"], (1,) * 9999, (1,) * 9999),
    "long axes": tensor("0", FLAT["0"], (2**64, 1), (0, 0)),
}


@pytest.mark.parametrize("write", [zip_layout, stream_layout])
@pytest.mark.parametrize("name", LIES)
def test_tensors_that_lie(write, name, tmp_path):
    path = write(tmp_path / "weights", {"w": LIES[name]}, FLAT)
    with pytest.raises(ValueError, match=str(path)):
        read(path)


# -------------------------------------------------------------------------------------------- zip files


def bomb(path, name, declared):
    """A member of 64 MiB of zeros, of which the table of the file says another size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(name, bytes(64 << 20))
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", declared)
    path.write_bytes(content)
    return path


def packed_zeros(path, name, size):
    """A member of so many zeros, which take a thousandth of that in the file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as file:
        for _ in range(0, size, 2**20):
            file.write(bytes(2**20))
    return path


@pytest.mark.parametrize("name", ["w.npy", "archive/data.pkl", "model.weights.h5"])
def test_what_is_packed_well_is_refused_before_it_is_unpacked(name, tmp_path):
    path = packed_zeros(tmp_path / "weights", name, 96 << 20)
    tracemalloc.reset_peak()
    for reader in (read, read_npz, read_torch, read_keras):
        with pytest.raises(
            ValueError, match=f"{name}' of shape .100663296,. asks for 100,663,296 bytes, in a"
        ):
            reader(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20


@pytest.mark.parametrize("declared", [100, 2**31])
@pytest.mark.parametrize("name", ["w.npy", "archive/data.pkl", "model.weights.h5"])
def test_zip_bombs(declared, name, tmp_path):
    path = bomb(tmp_path / "weights", name, declared)
    for reader in (read, read_npz, read_torch, read_keras):
        with pytest.raises(ValueError, match=str(path)):
            reader(path)


def test_zip_files_that_lie(tmp_path):
    path = tmp_path / "weights"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("w.npy", b"2")
    with pytest.raises(ValueError, match="received two with one name"):
        read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../w.txt", b"1")
    with pytest.raises(ValueError, match=r"received '../../w.txt'"):
        read(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", header.getvalue() + bytes(100))
    with pytest.raises(ValueError, match="does not fit 100 bytes"):
        read(path)


# ------------------------------------------------------------------------------------------------ HDF5


def hdf5(path, make):
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/dense/vars")
        make(file, group, path)
    return path


def external_storage(file, group, path):
    (path.parent / "secret").write_bytes(bytes(64))
    group.create_dataset("0", (4,), "f4", external=[(str(path.parent / "secret"), 0, 16)])


def virtual(file, group, path):
    with h5py.File(path.parent / "secret", "w") as other:
        other["x"] = np.ones(4)
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource(str(path.parent / "secret"), "x", shape=(4,))
    group.create_virtual_dataset("0", layout)


def external_link(file, group, path):
    with h5py.File(path.parent / "secret", "w") as other:
        other["x"] = np.ones(4)
    group["0"] = h5py.ExternalLink(str(path.parent / "secret"), "x")


def soft_link(file, group, path):
    file["x"] = np.ones(4)
    group["0"] = h5py.SoftLink("/x")


def endless(file, group, path):
    file["layers/dense/again"] = file["layers"]


def compressed_bomb(file, group, path):
    group.create_dataset("0", (2**15, 2**15), "f4", chunks=(2**11, 2**11), compression="gzip", fillvalue=0)


def packed_well(file, group, path):
    """A chunk of zeros, and 128 MiB that are declared beside it."""
    data = group.create_dataset("0", (2**13, 2**12), "f4", chunks=(2**10, 2**12), compression="gzip")
    data[:1] = 0


def huge(file, group, path):
    group.create_dataset("0", (2**20, 2**20), "f4")


def declared(file, group, path):
    group.create_dataset("0", (2**22,), "f4")  # 16 MiB of which nothing is there


def link_to_a_pipe(file, group, path):
    """Opening it would wait for ever."""
    os.mkfifo(path.parent / "pipe")
    file["layers/other"] = h5py.ExternalLink(str(path.parent / "pipe"), "/")


def variables_behind_a_link(file, group, path):
    os.mkfifo(path.parent / "pipe")
    file.create_group("layers/other")["vars"] = h5py.ExternalLink(str(path.parent / "pipe"), "/")


def links_in_a_circle(file, group, path):
    file["layers/a"], file["layers/b"] = h5py.SoftLink("/layers/b"), h5py.SoftLink("/layers/a")


def huge_chunk(file, group, path):
    group.create_dataset("0", (4,), "f4", maxshape=(None,), chunks=(2**29,), compression="gzip")


def filled_by_nothing(file, group, path):
    group.create_dataset("0", (2**12, 2**11), "f4", chunks=(2**10, 2**11), compression="gzip")


def data_in_place_of_variables(file, group, path):
    file.create_group("layers/other").create_dataset("vars", (2**40,), "f4")


def texts(file, group, path):
    group["0"] = "text"


def objects(file, group, path):
    group.create_dataset("0", (2,), h5py.ref_dtype)


def plain_data(file, group, path):
    file["x"] = np.ones(3)


HDF5 = {
    external_storage: "lies in another file",
    virtual: "lies in another file",
    external_link: "received a link to another file",
    soft_link: "received a soft link",
    endless: "groups without end",
    compressed_bomb: "asks for 4,294,967,296 bytes",
    packed_well: r"of shape \(8192, 4096\) asks for 134,217,728 bytes",
    huge: "asks for 4,398,046,511,104 bytes",
    declared: "declares 16,777,216 bytes and holds 0",
    link_to_a_pipe: "received a link to another file",
    variables_behind_a_link: "received a link to another file",
    links_in_a_circle: "received a soft link",
    huge_chunk: r"of shape \(536870912,\) asks for 2,147,483,648 bytes",
    filled_by_nothing: "declares 33,554,432 bytes and holds 0",
    data_in_place_of_variables: "expected a group at '/layers/other/vars'",
    texts: "expected numbers",
    objects: "expected numbers",
    plain_data: "expected Keras's groups",
}


@pytest.mark.parametrize("make", HDF5, ids=lambda make: make.__name__)
def test_hdf5_that_lies(make, tmp_path):
    path = hdf5(tmp_path / "weights", make)
    with pytest.raises(ValueError, match=HDF5[make]):
        read(path)


def test_hdf5_with_another_filter(tmp_path):
    """Filters beyond HDF5's own are found as libraries of the system: none is looked for."""
    path = tmp_path / "weights"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/dense/vars")
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((4,))
        plan.set_filter(305, h5py.h5z.FLAG_OPTIONAL)
        h5py.h5d.create(group.id, b"0", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((4,)), plan)
    with pytest.raises(ValueError, match="uses the filter 305, expected gzip or none"):
        read(path)


def test_lists_of_names_that_lie(tmp_path):
    path = tmp_path / "weights"
    for layer, weight in (("../x", "w"), ("a", "../../x"), ("a", "missing"), ("missing", "w")):
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = [layer]
            file.create_group("a").attrs["weight_names"] = [weight]
            file["x"] = np.ones(3)
        with pytest.raises(ValueError, match="is listed as an array and missing"):
            read(path)


# ------------------------------------------------------------------------------------------ safetensors


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        safetensors('{"w":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4]}}', bytes(4)),
        safetensors('{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4000000000000]}}', bytes(4)),
        safetensors('{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', bytes(4)),
        safetensors('{"w":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        safetensors('{"w":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,4]}}', bytes(4)),
        safetensors('{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}', bytes(4)),
        safetensors('{"w":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}', bytes(4)),
        safetensors(
            '{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
            '"v":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
            bytes(12),
        ),
        safetensors('{"w":{"dtype":"F32","shape":[' + "0," * 99 + '1],"data_offsets":[0,0]}}'),
        safetensors('{"w":{"dtype":"F32","shape":[0,9223372036854775807,8],"data_offsets":[0,0]}}'),
        safetensors("{" * 10_000),
        struct.pack("<Q", 2**62) + b"{}",
        b"\x08\x00\x00",
    ],
)
def test_headers_that_lie(content, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(content)
    for reader in (read, read_safetensors):
        with pytest.raises(ValueError, match=str(path)):
            reader(path)
