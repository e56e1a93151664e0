"""Writes stem.pth: one tensor in the zip format of torch.save, without needing torch. model.pth has the same
within a checkpoint as torchvision's reference scripts write it.

    python3 tests/data/make_pth.py

stem.0.weight [8, 3, 3, 7, 7], element i is i / 1024.
"""

import argparse
import io
import pathlib
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

COUNT = 8 * 3 * 3 * 7 * 7

# Stand-ins with torch's names, so that the pickle refers to torch's own.
torch = types.ModuleType("torch")
utils = types.ModuleType("torch._utils")
torch._utils = utils


def _rebuild_tensor_v2(*args):
    raise RuntimeError("only a name in the pickle")


_rebuild_tensor_v2.__module__ = "torch._utils"
utils._rebuild_tensor_v2 = _rebuild_tensor_v2
FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
torch.FloatStorage = FloatStorage
sys.modules["torch"] = torch
sys.modules["torch._utils"] = utils


class Storage:
    pass


class Tensor:
    def __reduce__(self):
        size, stride = (8, 3, 3, 7, 7), (441, 147, 49, 7, 1)
        return _rebuild_tensor_v2, (Storage(), 0, size, stride, False, OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            return ("storage", FloatStorage, "0", "cpu", COUNT)
        return None


def write(name, content):
    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(content)
    out = pathlib.Path(__file__).with_name(f"{name}.pth")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        def put(file, data):
            archive.writestr(zipfile.ZipInfo(f"{name}/{file}", (1980, 1, 1, 0, 0, 0)), data)

        put("data.pkl", buffer.getvalue())
        put("byteorder", b"little")
        put("data/0", struct.pack(f"<{COUNT}f", *[i / 1024 for i in range(COUNT)]))
        put("version", b"3\n")


def weights():
    return OrderedDict([("stem.0.weight", Tensor())])


write("stem", weights())
checkpoint = {"model": weights(), "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
write("model", {**checkpoint, "epoch": 3, "args": argparse.Namespace(lr=0.1, device="cuda")})
