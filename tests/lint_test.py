"""cresco lint: exit codes, JSON, two trajectories, --out, and the warnings of other verbs."""
import json
import os
import shutil

from program import ProgramTest, run, run_json


class Lint(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.run_folder = cls.shared / "run"
        run("pretrain", cls.recipe, "--out", cls.run_folder)
        cls.other = cls.shared / "other"
        run("pretrain", cls.recipe, "--out", cls.other, "--set", "data.seed=99")

    def setUp(self):
        super().setUp()
        self.copy = self.folder / "run"
        shutil.copytree(self.run_folder, self.copy)

    def weights(self, step):
        return self.copy / "snapshots" / f"step{step}" / "model.safetensors"

    def lint_fails(self, *arguments):
        done = run("lint", *arguments, "--json", "--quiet", check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        report = json.loads(done.stdout)
        self.assertFalse(report["ok"])
        return report

    def test_a_clean_run(self):
        report = run_json("lint", self.run_folder)
        self.assertTrue(report["ok"])
        self.assertEqual([f for f in report["findings"] if f["level"] != "note"], [])
        self.assertEqual(report["steps"], list(range(0, 41, 4)))
        self.assertGreater(report["bytes_per_second"], 0)

    def test_findings_stand_on_stdout_and_the_exit_code_is_1(self):
        shutil.copy(self.weights(32), self.weights(12))
        with open(self.weights(20), "r+b") as file:
            file.truncate(2000)
        report = self.lint_fails(self.copy)
        for finding in report["findings"]:
            self.assertEqual(list(finding), ["code", "level", "step", "tensor", "message"])
        errors = [(f["code"], f["step"]) for f in report["findings"] if f["level"] == "error"]
        self.assertEqual(errors, [("identical-snapshots", 12), ("unreadable", 20)])
        text = run("lint", self.copy, check=False).stdout.decode()
        self.assertIn("error          12  identical-snapshots", text)

    def test_a_warning_alone_is_no_failure(self):
        shutil.rmtree(self.weights(20).parent)
        report = run_json("lint", self.copy)
        self.assertEqual([(f["code"], f["level"], f["step"]) for f in report["findings"]],
                         [("step-gap", "warning", 20)])
        report = self.lint_fails(self.copy, "--preset", "0:40:4")
        self.assertEqual([(f["code"], f["step"]) for f in report["findings"]], [("missing-step", 20)])
        self.assertTrue(run_json("lint", self.copy, "--steps", "0:16:4")["ok"])

    def test_two_trajectories(self):
        same = run_json("lint", self.run_folder, self.copy)["comparison"]
        self.assertTrue(same["same_run"])
        report = run_json("lint", self.run_folder, self.other)
        comparison = report["comparison"]
        self.assertEqual((comparison["same_run"], comparison["same_initialisation"], comparison["same_data_order"]),
                         (False, True, False))
        # The first update has rate 0, and snapshots come every four.
        self.assertEqual(comparison["diverge_after_step"], 0)
        self.assertIn("diverge", [f["code"] for f in report["findings"]])
        shutil.copy(self.other / "snapshots" / "step24" / "model.safetensors", self.weights(24))
        report = self.lint_fails(self.copy, self.other)
        self.assertIn(("identical-after-divergence", 24), [(f["code"], f["step"]) for f in report["findings"]])

    def test_out_and_the_warnings_of_other_verbs(self):
        shutil.copy(self.weights(32), self.weights(12))
        found = self.folder / "found"
        self.lint_fails(self.copy, "--out", found)
        kept = json.loads((found / "lint.json").read_text())
        self.assertEqual(kept["findings"][0]["code"], "identical-snapshots")
        self.assertEqual(json.loads((found / "manifest.json").read_text())["verb"], "lint")

        def notes(*arguments):
            return run(*arguments).stderr.decode()
        extract = ["extract", self.copy, "--matrix", "W_U"]
        self.assertNotIn("lint", notes(*extract, "--out", self.folder / "a.safetensors"))
        said = notes(*extract, "--lint", found, "--out", self.folder / "b.safetensors")
        self.assertIn("warning: lint found 1 error at steps 12", said)
        said = notes(*extract, "--lint", found, "--steps", "0,4", "--out", self.folder / "c.safetensors")
        self.assertNotIn("warning", said)
        os.link(found / "lint.json", self.copy / "lint.json")
        for verb in (["generate", self.copy, "--prompt", "the", "--steps", "12"],
                     ["score", self.copy, "--corpus", self.corpus, "--steps", "12", "--windows", "2"],
                     ["spectra", self.copy, "--weights", "--steps", "12"]):
            self.assertIn("identical-snapshots", notes(*verb), verb)

    def test_wrong_commands(self):
        self.assert_fails(2, "lint", self.run_folder, self.other, self.copy, says="one trajectory or two")
        self.assert_fails(2, "lint", self.run_folder, "--preset", "phytia", says="phytia")
        self.assert_fails(1, "lint", self.folder / "nothing", says="no such file or folder")
