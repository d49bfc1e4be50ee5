"""The program's doors for other tools: logits of a snapshot against what PyTorch computed."""
import array
import ast
import json
import math
import struct
import unittest

from program import ROOT, ProgramTest, run, run_json


def read_safetensors(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        tensors[name] = (entry["dtype"], entry["shape"], data[8 + size + begin : 8 + size + end])
    return header.get("__metadata__", {}), tensors


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_npy(path, shape, values, descr="<i8", code="q"):
    header = repr({"descr": descr, "fortran_order": False, "shape": tuple(shape)}).encode()
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + array.array(code, values).tobytes())


def read_npy(path):
    data = path.read_bytes()
    size = struct.unpack("<H", data[8:10])[0]
    header = ast.literal_eval(data[10 : 10 + size].decode())
    code = {"<f4": "f", "<f8": "d", "<i8": "q", "<u4": "I"}[header["descr"]]
    return header["shape"], array.array(code, data[10 + size :])


class Parity(unittest.TestCase):
    setUp = ProgramTest.setUp

    def test_logits_are_those_of_transformers(self):
        for name in ("neox_parallel", "neox_sequential"):
            metadata, tensors = read_safetensors(ROOT / "tests" / "goldens" / f"{name}.safetensors")
            model = self.folder / name
            model.mkdir()
            # As transformers 5 names the head in memory, and once without the prefix.
            weights = {key.removeprefix("weight/").replace("embed_out", "lm_head"): value
                       for key, value in tensors.items() if key.startswith("weight/")}
            write_safetensors(model / "model.safetensors", weights)
            (model / "config.json").write_text(metadata["config"])
            (n, t) = tensors["ids"][1]
            ids = array.array("q", tensors["ids"][2])
            inputs = [ids[row * t + column] for row in range(n) for column in range(t - 1)]
            write_npy(self.folder / "ids.npy", (n, t - 1), inputs)
            out = self.folder / f"{name}.npy"
            run("logits", model, "--ids", self.folder / "ids.npy", "--out", out)
            shape, logits = read_npy(out)
            golden = array.array("d", tensors["logits"][2])
            self.assertEqual(list(shape), tensors["logits"][1])
            error = math.sqrt(sum((a - b) ** 2 for a, b in zip(logits, golden)))
            self.assertLessEqual(error / math.sqrt(sum(b * b for b in golden)), 1e-5)


class Tokens(ProgramTest):
    def test_ids_come_back_as_text(self):
        text = "the river grew\n  and    the stone — ok?\t\u00e9\n".encode()
        path = self.folder / "x.txt"
        path.write_bytes(text)
        encoded = run_json("tokenizer", "encode", "--tokenizer", self.tokenizer, path)
        self.assertEqual(len(encoded["ids"]), encoded["num_tokens"])
        ids = self.folder / "ids.npy"
        summary = run_json("tokenizer", "encode", "--tokenizer", self.tokenizer, "-", "--out", ids, input=text)
        self.assertNotIn("ids", summary)
        shape, values = read_npy(ids)
        self.assertEqual(list(values), encoded["ids"])
        self.assertEqual(run("tokenizer", "decode", "--tokenizer", self.tokenizer, ids).stdout, text)


if __name__ == "__main__":
    unittest.main()
