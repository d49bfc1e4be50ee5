"""The whole chain at its smallest, on real text where it is installed and on the synthetic language."""
import csv
import pathlib
import shutil
import unittest

from program import ProgramTest, run, run_json


class Demo(unittest.TestCase):
    setUp = ProgramTest.setUp

    def check_chain(self, out, summary):
        page = out / "report.html"
        self.assertGreater(page.stat().st_size, 50_000)
        for folder in ("run", "dictionary", "quality", "lifecycle", "spectra", "continuations", "baselines"):
            self.assertTrue((out / folder / "manifest.json").exists(), folder)
        self.assertLess(summary["val_loss"], summary["uniform_loss"])
        steps = run_json("show", out / "run")["steps"]
        self.assertGreaterEqual(len(steps), 16)
        self.assertEqual(steps[0], 0)
        self.assertEqual(run_json("show", out / "dictionary")["kind"], "dictionary")
        self.assertEqual(run_json("show", out / "lifecycle")["kind"], "tables")

    def test_on_english(self):
        if not (shutil.which("bible") and pathlib.Path("/usr/share/wordnet/data.noun").exists()):
            self.skipTest("the packages wordnet-base and bible-kjv are not installed")
        out = self.folder / "demo"
        summary = run_json("demo", "--small", "--out", out)
        self.check_chain(out, summary)
        with (out / "continuations" / "continuations.csv").open() as file:
            self.assertEqual(len({row["step"] for row in csv.DictReader(file)}), 5)

    def test_on_the_synthetic_language(self):
        out = self.folder / "demo"
        summary = run_json("demo", "--small", "--synthetic", "--out", out)
        self.check_chain(out, summary)
        # 24 classes; those of whose words none became a token can't be looked for.
        self.assertGreaterEqual(summary["planted"], 20)
        self.assertGreaterEqual(summary["planted_found"], 4)
        self.assertIn("class 3", (out / "report.html").read_text())

    def test_on_ones_own_text_twice_the_same(self):
        text = self.folder / "mine.txt"
        text.write_text("\n".join(f"line {i}: the {i * i % 97} green bottles hang on wall {i % 13}" for i in range(6000)))
        one, two = self.folder / "one", self.folder / "two"
        for out in (one, two):
            run("demo", "--small", "--text", text, "--out", out)
        for name in ("stack.safetensors", "dictionary/demo.safetensors", "lifecycle/features.csv"):
            self.assertEqual((one / name).read_bytes(), (two / name).read_bytes(), name)


if __name__ == "__main__":
    unittest.main()
