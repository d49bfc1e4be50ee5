#!/usr/bin/env python3
"""Makes tests/data/torch: small files of PyTorch and NumPy, and what stands in them (expected.json).

    python3 tools/make_format_samples.py

Made with torch 2.11.0 and numpy 2.4.6. The numbers are fixed, so the files change only with those versions.
"""
import collections
import json
import pathlib

import numpy
import torch

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/data/torch"

NAMES = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16",
         torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
         torch.uint8: "U8", torch.uint16: "U16", torch.uint32: "U32", torch.uint64: "U64",
         torch.bool: "BOOL", torch.complex64: "C64", torch.float8_e4m3fn: "F8_E4M3",
         torch.float8_e5m2: "F8_E5M2", torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
         torch.float8_e5m2fnuz: "F8_E5M2FNUZ", torch.float8_e8m0fnu: "F8_E8M0"}
NUMPY_NAMES = {"f4": "F32", "f8": "F64", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16",
               "i1": "I8", "u8": "U64", "u4": "U32", "u2": "U16", "u1": "U8", "b1": "BOOL",
               "c8": "C64"}


class Foreign:
    """A class that no reader knows."""
    def __init__(self, weight):
        self.weight = weight


def tensor_entry(tensor):
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "hex": flat.numpy().tobytes().hex()}


def tensors_in(value, path=""):
    if isinstance(value, torch.Tensor):
        if not (value.is_sparse or value.is_quantized or value.is_neg() or value.dtype == torch.complex128):
            yield path, tensor_entry(value)
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else []
    for key, item in items:
        yield from tensors_in(item, f"{path}.{key}" if path else str(key))


def views():
    a = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    long = torch.arange(20, dtype=torch.float32)
    return {
        "a": a, "tied": a, "transposed": a.t(), "row": a[1], "column": a[:, 1], "every_third": long[1::3],
        "square": long[:16].reshape(4, 4).t()[1:3, 2:], "expanded": torch.tensor([1.5, -2.0]).reshape(2, 1).expand(2, 3),
        "scalar": torch.tensor(7.25), "empty": torch.zeros(0, 4), "parameter": torch.nn.Parameter(a + 1),
        "permuted": torch.arange(24, dtype=torch.int32).reshape(2, 3, 4).permute(2, 0, 1),
    }


def types():
    made = {}
    for dtype, name in NAMES.items():
        values = torch.tensor([0, 1, 2, 1, 0, 1])
        made[name] = values.to(torch.float32).to(dtype) if dtype.is_floating_point else values.to(dtype)
    return made


def nano_gpt():
    weight = torch.arange(8, dtype=torch.float32).reshape(4, 2)
    model = collections.OrderedDict([("transformer.wte.weight", weight), ("transformer.ln_f.weight", torch.ones(2)),
                                     ("lm_head.weight", weight)])
    return {"model": model, "optimizer": {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.full((4, 2), 0.5)}},
                                          "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.95), "params": [0]}]},
            "model_args": {"n_layer": 1, "n_head": 1, "n_embd": 2, "block_size": 8, "bias": False, "vocab_size": 4,
                           "dropout": 0.0},
            "iter_num": 250, "best_val_loss": numpy.float64(3.25), "config": {"out_dir": "out", "compile": True}}


def deep_speed():
    return {"module": {"embed.weight": torch.arange(4, dtype=torch.bfloat16).reshape(2, 2),
                       "layers": [{"w": torch.tensor([1, 2], dtype=torch.int64)}, {"w": torch.tensor([True, False])}]},
            "buffer_names": ["mask"], "optimizer": None, "lr_scheduler": None, "dtype": torch.bfloat16,
            "shape": torch.Size([2, 2]), "device": torch.device("cuda", 1), "sparse_tensor_module_names": {"a"},
            "global_steps": 40, "large": 2**100, "negative": -5, "past_32_bits": 2**40, "mp_world_size": 1,
            "bytes": b"\x00\xff", "frozen": frozenset([1, 2])}


def foreign():
    return {"weight": torch.tensor([1.0, 2.0]), "object": Foreign(torch.tensor([3.0])),
            "sparse": torch.tensor([[0.0, 1.0]]).to_sparse(),
            "quantized": torch.quantize_per_tensor(torch.tensor([0.5]), 0.1, 0, torch.qint8),
            "double_complex": torch.tensor([1 + 2j], dtype=torch.complex128),
            "negated": torch.tensor([1 + 2j], dtype=torch.complex64).conj().imag}


def save(name, value, **options):
    torch.save(value, OUT / name, **options)
    EXPECTED[name] = dict(tensors_in(value))


EXPECTED = {}
OUT.mkdir(parents=True, exist_ok=True)
save("views.pt", views())
save("types.pt", types())
save("nano_gpt.pt", nano_gpt())
save("deep_speed.pt", deep_speed())
save("tensor.pt", torch.arange(3, dtype=torch.float16))
save("protocol_4.pt", deep_speed(), pickle_protocol=4)
save("foreign.pt", foreign())
save("views_stream.pt", views(), _use_new_zipfile_serialization=False)
save("nano_gpt_stream.pt", nano_gpt(), _use_new_zipfile_serialization=False)

ARRAYS = {f"{kind}": numpy.array([0, 1, 2, 1, 0, 1]).astype(kind).reshape(2, 3) for kind in NUMPY_NAMES}
ARRAYS["columns"] = numpy.asfortranarray(ARRAYS["f4"])
ARRAYS["scalar"] = numpy.array(2.5)
ARRAYS["empty"] = numpy.zeros((0, 3), dtype="f4")
numpy.savez(OUT / "stored.npz", **ARRAYS)
numpy.savez_compressed(OUT / "deflated.npz", **ARRAYS)
for name in ("stored.npz", "deflated.npz"):
    EXPECTED[name] = {key: {"dtype": NUMPY_NAMES[array.dtype.str[1:]], "shape": list(array.shape),
                            "hex": array.tobytes(order="C").hex()} for key, array in ARRAYS.items()}
(OUT / "expected.json").write_text(json.dumps(EXPECTED, indent=1, sort_keys=True) + "\n")
print({path.name: path.stat().st_size for path in sorted(OUT.iterdir())})
