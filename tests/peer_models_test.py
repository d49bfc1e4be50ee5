"""Models as transformers and PyTorch write them, against what they computed: `make test-peers`.

CRESCO_PEER_MODELS is the folder that tools/make_goldens.py --folders wrote: a folder per model, stored type and
layout, with the ids and the logits beside the weights.
"""
import os
import pathlib
import shutil
import tempfile
import unittest

from parity_test import read_npy, relative_error
from program import run

FOLDERS = sorted(path.parent for path in pathlib.Path(os.environ["CRESCO_PEER_MODELS"]).glob("*/logits.npy"))


class PeerModels(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cresco-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def test_there_are_models_of_every_family(self):
        self.assertEqual({path.name.split("_")[0] for path in FOLDERS}, {"gpt2", "neox", "olmo2"})

    def test_logits_agree(self):
        for model in FOLDERS:
            with self.subTest(model=model.name):
                out = self.folder / f"{model.name}.npy"
                run("logits", model, "--ids", model / "ids.npy", "--out", out)
                shape, ours = read_npy(out)
                golden_shape, golden = read_npy(model / "logits.npy")
                self.assertEqual(shape, golden_shape)
                self.assertLessEqual(relative_error(ours, golden), 1e-5)


if __name__ == "__main__":
    unittest.main()
