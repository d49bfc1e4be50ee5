"""Opens a report in headless Chromium and checks that the page is what its tables say.

    report_page_test.py FOLDER [--screenshots FOLDER]

FOLDER holds what cresco/report/testing/page_fixture.cpp wrote: report.html, made from demo/, and large.html, a
dictionary of 24,576 features, made from large/. Only Python's standard library is used: the browser is driven over its DevTools pipe. Exit code 77: there is no Chromium here.
"""

import argparse
import base64
import csv
import fcntl
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
TIMEOUT_SECONDS = 60


class Browser:
    """Chromium with a profile of its own, spoken to over file descriptors 3 and 4."""

    def __init__(self, program, profile):
        # Above 10, so that no end is one of the numbers that the browser expects.
        to_read, self.write_end = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in os.pipe()]
        self.read_end, to_write = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in os.pipe()]

        def give_pipes():
            os.dup2(to_read, 3)
            os.dup2(to_write, 4)

        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", "--disable-extensions", "--disable-background-networking",
             "--disable-component-update", "--remote-debugging-pipe", f"--user-data-dir={profile}",
             "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            close_fds=False, preexec_fn=give_pipes, start_new_session=True)
        os.close(to_read)
        os.close(to_write)
        self.pending = b""
        self.events = []
        self.last_id = 0
        self.session = None

    def close(self):
        for end in (self.write_end, self.read_end):
            os.close(end)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)  # its own session: only what this test started
            self.process.wait()

    def message(self, deadline):
        while b"\0" not in self.pending:
            ready, _, _ = select.select([self.read_end], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(self.read_end, 1 << 20) if ready else b""
            if not chunk:
                raise RuntimeError("the browser does not answer")
            self.pending += chunk
        text, self.pending = self.pending.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        self.last_id += 1
        request = {"id": self.last_id, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.write_end, json.dumps(request).encode() + b"\0")
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            answer = self.message(deadline)
            if answer.get("id") == self.last_id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.note_event(answer)

    def note_event(self, event):
        self.events.append(event)
        # A dialog would stop everything; that there was one is found in the events.
        if event.get("method") == "Page.javascriptDialogOpening":
            self.last_id += 1
            os.write(self.write_end, json.dumps({
                "id": self.last_id, "method": "Page.handleJavaScriptDialog",
                "params": {"accept": False}, "sessionId": self.session}).encode() + b"\0")

    def attach(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def open(self, url, ready):
        self.call("Page.navigate", url=url)
        self.wait(f"{url} is ready", ready)

    def wait(self, what, condition):
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not self.evaluate(condition):
            if time.monotonic() > deadline:
                raise RuntimeError(f"not after {TIMEOUT_SECONDS} s: {what}")
            time.sleep(0.05)

    def resize(self, width, height=900):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setScrollbarsHidden", hidden=True)

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))


class Checks:
    def __init__(self):
        self.num_checked = 0
        self.failures = []

    def equal(self, what, found, expected):
        self.num_checked += 1
        if found != expected:
            self.failures.append(f"{what}: found {found!r}, expected {expected!r}")

    def true(self, what, found):
        self.equal(what, bool(found), True)


def rows_of(path):
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        return list(csv.DictReader(line.replace("\0", "?") for line in file))


def count_with(rows, column):
    return sum(1 for row in rows if row.get(column) not in (None, ""))


def check_marks(browser, check, demo):
    """Every row of a table is one mark of its figure."""
    series = browser.evaluate(
        """Object.fromEntries([...document.querySelectorAll('figure[data-figure]')].map((figure) =>
             [figure.dataset.figure, [...figure.querySelectorAll('.wide .series')].map((group) =>
               ({name: group.dataset.series, source: group.dataset.source, points: Number(group.dataset.points),
                 marks: group.querySelectorAll('.mark').length}))]))""")
    metrics = [json.loads(line) for line in (demo / "run/metrics.jsonl").read_text().splitlines()]
    training = (demo / "dictionary/metrics.jsonl").read_text().splitlines()
    sweep = rows_of(demo / "sweep/sweep.csv")
    quality = rows_of(demo / "quality/quality_per_snapshot.csv")
    heldout = rows_of(demo / "quality/heldout.csv")
    simpler = rows_of(demo / "quality/linear_baselines.csv")
    density = rows_of(demo / "lifecycle/firing_density.csv")
    fidelity = rows_of(demo / "quality/readout_functional_fidelity.csv")
    strata = [row for row in rows_of(demo / "quality/strata_summary.csv") if row["scheme"] == "freq_decile"]
    population = rows_of(demo / "lifecycle/population.csv")
    weights = rows_of(demo / "spectra/weight_spectra.csv")
    planted = rows_of(demo / "planted.csv")
    bins = rows_of(demo / "match/match_histogram.csv")
    expected = {
        "loss": [sum("train/loss" in line for line in metrics), sum("val/loss" in line for line in metrics)],
        "learning_rate": [sum("optim/lr" in line for line in metrics)],
        "grad_norm": [sum("optim/grad_norm" in line for line in metrics)],
        "dictionary_loss": [len(training)] * 3,
        "dictionary_explained_variance": [len(training)],
        "dictionary_l1_coefficient": [len(training)],
        "sweep": [sum(row["d_sae"] == size and row["l0"] != "" for row in sweep) for size in ("200", "400")],
        "explained_variance": [len(quality), len(heldout)] + [sum(row["rank"] == rank and row["step"] != "pooled" for row in simpler)
                                                              for rank in ("16", "64")],
        "l0": [len(quality), len(heldout)],
        "dead_rate": [len(quality)],
        "fidelity_nll": [len(fidelity)] * 2,
        "fidelity_kl": [len(fidelity)],
        "fidelity_top1": [len(fidelity)],
        "fidelity_kl_by_frequency": [sum(row["step"] == step for row in strata) for step in ("0", "8", "64", "512", "5000")],
        "fidelity_top1_by_frequency": [sum(row["step"] == step for row in strata) for step in ("0", "8", "64", "512", "5000")],
        "firing_density": [sum(row["step"] == step for row in density) for step in ("", "0", "8", "64", "512", "5000")],
        "population": [count_with(population, column) for column in ("alive", "born", "died")],
        "stable_rank": [len(weights)],
        "effective_rank": [len(weights)],
        "match_histogram": [count_with(bins, column) for column in ("features", "null")],
        "planted": [sum(row["found"] == "1" for row in planted), sum(row["found"] == "0" for row in planted)],
    }
    for figure, counts in expected.items():
        drawn = [one for one in series.get(figure, []) if not one["name"].startswith("front")]
        check.equal(f"marks of {figure}", [one["marks"] for one in drawn], counts)
        check.equal(f"points of {figure}", [one["points"] for one in drawn], counts)
    values = rows_of(demo / "spectra/singular_values.csv")
    check.equal("marks of singular_values", sum(one["marks"] for one in series["singular_values"]), len(values))
    check.equal("curves of singular_values", len(series["singular_values"]), len({row["step"] for row in values}))

    def count(selector):
        return browser.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length")

    check.equal("baselines of the dictionary", count("[data-figure=explained_variance] .wide .level"),
                sum(row["step"] == "pooled" for row in simpler))
    check.equal("baselines", count("[data-figure=loss] .wide .level"), len(rows_of(demo / "baselines.csv")))
    check.equal("snapshot lines", count("[data-figure=loss] .wide .stops .stop"),
                len(list((demo / "run/snapshots").iterdir())))
    check.equal("passages", count("[data-figure=continuations] .mark"),
                len(rows_of(demo / "generate/continuations.csv")))
    check.equal("rows of pca", count("[data-figure=pca] tbody tr"), len(rows_of(demo / "quality/pca.csv")))
    metrics = rows_of(demo / "match/match_summary.csv")
    check.equal("numbers of the match", count("[data-figure=match_summary] tbody tr, [data-figure=match_chance] tbody tr"),
                len(metrics))
    check.equal("pairs of dictionaries", count("[data-figure=match_pairs] tbody tr"), len(rows_of(demo / "match/pairs.csv")))
    check.equal("lines of the null", count("[data-figure=match_histogram] .wide .stops .stop"),
                sum(row["metric"] in ("null_p95", "null_p99") for row in metrics))
    cosines = sorted(float(row["cosine"]) for row in rows_of(demo / "match/matches.csv") if row["cosine"])
    for figure, expected in (("matches_best", cosines[::-1][:12]), ("matches_worst", cosines[:12])):
        shown = browser.evaluate(f"[...document.querySelectorAll('[data-figure={figure}] tbody tr')]"
                                 ".map((row) => Number(row.children[2].textContent))")
        check.equal(f"cosines of {figure}", shown, [float(f"{cosine:.4g}") for cosine in expected])
    check.equal("rows of the pooled numbers", count("[data-figure=quality_pooled] tbody tr"),
                len(rows_of(demo / "quality/quality_pooled.csv")))
    heat = browser.evaluate("""(() => { const figure = document.querySelector('figure.heat-map');
        const data = JSON.parse(figure.querySelector('script').textContent);
        return [Number(figure.dataset.rows), Number(figure.dataset.cols), atob(data.values).length]; })()""")
    num_features, num_steps = len(rows_of(demo / "lifecycle/features.csv")), len(rows_of(demo / "lifecycle/steps.csv"))
    check.equal("cells of the heat map", heat, [num_features, num_steps, num_features * num_steps])


READY = "document.documentElement?.dataset.ready === 'yes'"
CARD = "document.querySelector('.card').dataset.feature"


def search(browser, text):
    """How many features are found once the atlas is there."""
    return browser.evaluate(f"""new Promise((done) => {{
        const atlas = document.querySelector('.atlas'), box = document.querySelector('.search');
        delete atlas.dataset.matches; box.value = {json.dumps(text)};
        box.dispatchEvent(new Event('input', {{bubbles: true}}));
        const look = () => atlas.dataset.matches === undefined ? setTimeout(look, 5) : done(Number(atlas.dataset.matches));
        look(); }})""")


def set_control(browser, selector, value):
    """How many features are found with this control set."""
    browser.evaluate(f"""(() => {{ const control = document.querySelector({json.dumps(selector)});
        if (control.type === 'checkbox') control.checked = {json.dumps(value)}; else control.value = {json.dumps(value)};
        control.dispatchEvent(new Event('input', {{bubbles: true}})); }})()""")
    return browser.evaluate("Number(document.querySelector('.atlas').dataset.matches)")


def press(browser, key):
    browser.evaluate(f"""document.querySelector('.list').dispatchEvent(
        new KeyboardEvent('keydown', {{key: {json.dumps(key)}, bubbles: true, cancelable: true}}))""")


def text_of(browser, selector):
    return browser.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.textContent)")


def check_atlas(browser, check, demo):
    features = rows_of(demo / "lifecycle/features.csv")
    promoted = rows_of(demo / "lifecycle/promoted_tokens.csv")
    suppressed = rows_of(demo / "lifecycle/suppressed_tokens.csv")
    check.equal("features without a search", search(browser, ""), len(features))
    check.true("only rows in sight are built", 0 < len(text_of(browser, ".row")) < 40 < len(features))

    def having(rows, fits):
        return {row["feature"] for row in rows if fits(row["token"])}

    check.equal("features that promote 'king'", search(browser, "KING"), len(having(promoted, lambda t: "king" in t)))
    check.equal("features that promote ' king' exactly", search(browser, '" king"'),
                len(having(promoted, lambda t: t == " king")))
    check.equal("features that promote 'king' exactly", search(browser, '"king"'), 0)
    search(browser, " lord")
    check.equal("features that suppress a token", set_control(browser, ".side", "suppressed"),
                len(having(suppressed, lambda t: " lord" in t)))
    check.equal("features that do either", set_control(browser, ".side", "both"),
                len(having(promoted + suppressed, lambda t: " lord" in t)))
    set_control(browser, ".side", "promoted")
    check.equal("a search for nothing there", search(browser, "no such token"), 0)
    check.equal("rows of a search for nothing there", text_of(browser, ".row"), [])

    # A token that is markup stays text, in the list and on the card.
    hostile = {"<script>alert(1)": "<script>alert(1)</script>", "onerror=alert(6)": "</script><img src=x onerror=alert(6)>",
               "onerror=alert(2)": '"><img src=x onerror=alert(2)>', "\\u202eright": "\\u202eright to left"}
    for wanted, token in hostile.items():
        check.equal(f"features that promote {wanted}", search(browser, wanted), 1)
        for where in (".row .token", ".card .token bdi"):
            check.true(f"{token} is text in {where}", token in text_of(browser, where))
    check.equal("elements inside tokens", browser.evaluate("document.querySelectorAll('.atlas bdi *').length"), 0)
    check.equal("images", browser.evaluate("document.images.length"), 0)

    # The card says what the tables say.
    check.equal("a search by number", search(browser, "#123"), 1)
    check.equal("the card of that number", browser.evaluate(CARD), "123")
    for side, rows, sign in (("Promotes", promoted, 1), ("Suppresses", suppressed, -1)):
        mine = [row for row in rows if row["feature"] == "123"]
        steps = sorted({int(row["step"]) for row in mine})
        shown = browser.evaluate(f"""[...document.querySelectorAll('.card td[data-side={side}]')].map((cell) =>
            [...cell.querySelectorAll('.token')].map((one) => [one.querySelector('bdi').textContent,
              one.classList.contains('below'), Number(one.querySelector('small').textContent)]))""")
        expected = [[row for row in mine if int(row["step"]) == step] for step in steps]
        check.equal(f"tokens of feature 123: {side}", [[one[:2] for one in cell] for cell in shown],
                    [[[row["token"], sign * float(row["score"]) <= sign * float(row["floor"])] for row in cell] for cell in expected])
        check.true(f"their scores, to three digits: {side}", all(
            abs(one[2] / float(row["score"]) - 1) < 0.006 for cell, rows in zip(shown, expected) for one, row in zip(cell, rows)))
    neighbours = [row for row in rows_of(demo / "lifecycle/neighbours.csv") if row["feature"] == "123"]
    check.equal("neighbours", list(zip(text_of(browser, ".neighbours a"), text_of(browser, ".neighbours .cosine"))),
                [(f"Feature {row['neighbour']}", f"cos {float(row['cosine']):.3f}") for row in neighbours])
    facts = dict(zip(text_of(browser, ".life-facts dt"), text_of(browser, ".life-facts dd")))
    check.equal("peak on the card", facts["peak"].replace(",", ""), f"step {features[123]['peak_step']}")
    check.equal("curves", browser.evaluate("document.querySelectorAll('.card .curve svg').length"), 2)

    # Orders and filters.
    search(browser, "")
    set_control(browser, ".sort", "born_step")
    order = browser.evaluate("[...document.querySelectorAll('.row')].map((row) => Number(row.querySelector('.id').textContent))")
    born = {int(row["feature"]): float(row["born_step"] or "inf") for row in features}
    check.equal("rows sorted by birth", [born[f] for f in order], sorted(born.values())[:len(order)])
    check.equal("alive features", set_control(browser, ".alive-only", True), sum(row["alive"] == "1" for row in features))
    set_control(browser, ".alive-only", False)
    profile = browser.evaluate("document.querySelector('.profile').options[1].textContent")
    check.equal(f"features whose profile is {profile}", set_control(browser, ".profile", "1"),
                sum(row["profile"] == profile for row in features))
    set_control(browser, ".profile", "")
    set_control(browser, ".range .from", "100")
    check.equal("features born in a range", set_control(browser, ".range .to", "1e3"),
                sum(100 <= value <= 1000 for value in born.values()))
    set_control(browser, ".range .from", "")
    set_control(browser, ".range .to", "")

    # The keyboard: down, end, and the row is in sight.
    set_control(browser, ".sort", "feature")
    press(browser, "Home")
    press(browser, "ArrowDown")
    check.equal("the card after one step down", browser.evaluate(CARD), "1")
    press(browser, "End")
    check.equal("the card at the end", browser.evaluate(CARD), str(len(features) - 1))
    check.true("the last row is in sight", browser.evaluate("""(() => { const list = document.querySelector('.list').getBoundingClientRect(),
        row = document.querySelector('.row[aria-selected=true]').getBoundingClientRect();
        return row.top >= list.top - 1 && row.bottom <= list.bottom + 1; })()"""))
    check.equal("the address names it", browser.evaluate("location.hash"), f"#feature-{len(features) - 1}")

    # Links between features, whatever the filters hide.
    search(browser, "king")
    browser.evaluate("document.querySelector('.neighbours a').click()")
    check.equal("the card of a neighbour", browser.evaluate(f"new Promise((done) => setTimeout(() => done('#feature-' + {CARD}), 100))"),
                browser.evaluate("location.hash"))
    search(browser, "")


def check_link(browser, check, url):
    """A page opened at a feature shows it, in sight; printed, it shows the card and not the list."""
    browser.open("about:blank", "true")
    browser.open(f"{url}#feature-77", f"{READY} && {CARD} === '77'")
    browser.wait("the linked card is in sight", """(() => { const box = document.querySelector('.card').getBoundingClientRect();
        return box.top < innerHeight && box.bottom > 0; })()""")  # the page scrolls there smoothly
    browser.call("Emulation.setEmulatedMedia", media="print")
    check.equal("what is printed", browser.evaluate(
        "['.card', '.list', '.controls'].map((one) => document.querySelector(one).getClientRects().length > 0)"), [True, False, False])
    browser.call("Emulation.setEmulatedMedia", media="")


def check_fallback(browser, check, url, demo):
    """The same atlas without the browser's own decompression."""
    script = browser.call("Page.addScriptToEvaluateOnNewDocument", source="delete window.DecompressionStream")["identifier"]
    browser.open("about:blank", "true")
    browser.open(url, READY)
    check.true("there is no decompression", browser.evaluate("!('DecompressionStream' in window)"))
    check.equal("features that promote 'king', unpacked by the page", search(browser, "king"),
                len({row["feature"] for row in rows_of(demo / "lifecycle/promoted_tokens.csv") if "king" in row["token"]}))
    browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script)


def check_large(browser, check, page):
    """A dictionary of the released size is found through in no time; how long it took is printed, not judged."""
    url, num_features = page.resolve().as_uri(), 24576
    browser.open("about:blank", "true")
    browser.open(url, READY)
    ready = browser.evaluate("performance.now()")
    check.equal("features that promote the planted token", search(browser, "zebrafinch"), 1)
    found = browser.evaluate("performance.now()")
    check.equal("its card", browser.evaluate(CARD), "12345")
    again = browser.evaluate("performance.now()")
    check.true("many features share a syllable", search(browser, "ab") > 1000)
    again = browser.evaluate("performance.now()") - again
    check.equal("all of them", search(browser, ""), num_features)
    check.true("few are elements", browser.evaluate("document.querySelectorAll('.row').length") < 40)
    size = page.stat().st_size
    print(f"report_page_test: {num_features} features in {size / 1e6:.1f} MB, {size / num_features:.0f} bytes each; ready after "
          f"{ready:.0f} ms, first search found after {found:.0f} ms, another search took {again:.0f} ms")
    check_quiet(browser, check, url)


def check_hover(browser, check):
    """The pointer over a figure shows values; the linear axes keep every mark."""
    def tip_over(selector, right, down):
        return browser.evaluate(f"""(() => {{ const drawing = document.querySelector({json.dumps(selector)});
            drawing.scrollIntoView({{behavior: 'instant', block: 'center'}});
            const box = drawing.getBoundingClientRect();
            drawing.dispatchEvent(new PointerEvent('pointermove', {{bubbles: true,
              clientX: box.left + {right} * box.width, clientY: box.top + {down} * box.height}}));
            const tip = document.querySelector('.tip'); return tip.hidden ? '' : tip.textContent; }})()""")

    mark = """(() => { const m = document.querySelector('[data-figure=explained_variance] .wide .mark');
        const v = m.ownerSVGElement.viewBox.baseVal;
        return [m.cx.baseVal.value / v.width, m.cy.baseVal.value / v.height]; })()"""
    tip = tip_over("[data-figure=explained_variance] svg.wide", *browser.evaluate(mark))
    check.true(f"values of a mark ({tip})", "snapshots trained on" in tip and "training step: 0" in tip)
    member = mark.replace("explained_variance", "sweep")
    tip = tip_over("[data-figure=sweep] svg.wide", *browser.evaluate(member))
    check.true(f"values of a member ({tip})", "l1_coefficient=0.1,d_sae=200" in tip and "l0 (active" in tip)
    tip = tip_over("figure.heat-map svg.wide", 0.5, 0.5)
    check.true(f"values of a cell ({tip})", "feature " in tip and "step " in tip and "largest norm" in tip)
    marks = "document.querySelectorAll('[data-figure=loss] .wide .mark').length"
    before = browser.evaluate(marks)
    browser.evaluate("document.querySelector('[data-figure=loss] .linear').click()")
    check.equal("marks on linear axes", browser.evaluate(marks), before)
    check.true("linear axes are linear", browser.evaluate(
        "document.querySelector('[data-figure=loss] svg.wide').dataset.x.startsWith('linear')"))
    browser.evaluate("document.querySelector('[data-figure=loss] .linear').click()")


def check_figures_speak(browser, check):
    silent = browser.evaluate("""[...document.querySelectorAll('figure svg.wide, figure svg.narrow')].filter((svg) =>
        svg.getAttribute('role') !== 'img' || !svg.getAttribute('aria-label')).length""")
    check.equal("drawings without words", silent, 0)
    without = browser.evaluate("""[...document.querySelectorAll('figure.chart, figure.heat-map')].filter((figure) =>
        !figure.querySelector('h3') || !figure.querySelector('.axis-x') || !figure.querySelector('.axis-y') ||
        !figure.querySelector('.legend') || !figure.querySelector('details.data')).map((f) => f.dataset.figure)""")
    check.equal("figures without title, axes, legend or data", without, [])
    touching = browser.evaluate("""[...document.querySelectorAll('figure svg')].filter((svg) => svg.getBoundingClientRect().width)
        .flatMap((svg) => { const boxes = [...svg.querySelectorAll('text')].map((t) => [t.textContent, t.getBoundingClientRect()]);
          return boxes.flatMap(([a, x], i) => boxes.slice(i + 1).filter(([b, y]) => x.left < y.right && y.left < x.right &&
            x.top + 3 < y.bottom && y.top + 3 < x.bottom).map(([b]) => a + ' touches ' + b)); })""")
    check.equal("labels that touch", touching, [])
    clipped = browser.evaluate("""[...document.querySelectorAll('figure svg text')].filter((text) => {
        const inner = text.getBoundingClientRect(), outer = text.ownerSVGElement.getBoundingClientRect();
        return inner.width && (inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.bottom > outer.bottom + 1);
        }).map((text) => text.textContent)""")
    check.equal("labels that are cut off", clipped, [])


def check_width(browser, check, width):
    browser.resize(width)
    overflow = browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    check.true(f"no sideways scrolling at {width} px ({overflow} px too wide)", overflow <= 0)


def check_quiet(browser, check, url):
    """Nothing was asked of the network, nothing was complained about, nothing popped up."""
    requests = [event["params"]["request"]["url"] for event in browser.events
                if event.get("method") == "Network.requestWillBeSent"]
    check.equal("requests", [r[:80] for r in requests
                             if r.split("#")[0] != url and not r.startswith(("data:", "about:"))], [])
    kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Page.javascriptDialogOpening")
    check.equal("complaints", [event for event in browser.events if event.get("method") in kinds], [])


def check_without_scripts(browser, check, url):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(url + "#off", "document.readyState === 'complete'")
    browser.call("Page.reload")
    time.sleep(0.5)
    check.true("figures without scripts", browser.evaluate("document.querySelectorAll('figure svg.wide .mark').length > 1000"))
    check.true("features without scripts", browser.evaluate("document.querySelectorAll('.atlas tbody tr').length > 10"))
    browser.call("Emulation.setScriptExecutionDisabled", value=False)


def take_screenshots(browser, folder, url):
    folder.mkdir(parents=True, exist_ok=True)
    for width in (1600, 1400, 390, 360):
        for theme in ("light", "dark"):
            browser.resize(width)
            browser.open("about:blank", "true")
            browser.open(f"{url}#theme={theme}", READY)
            browser.screenshot(folder / f"{width}_{theme}.png")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--screenshots", type=pathlib.Path)
    options = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        print("report_page_test: skipped, there is no chromium here (apt-get install chromium)")
        return SKIPPED

    demo, url = options.folder / "demo", (options.folder / "report.html").resolve().as_uri()
    check = Checks()
    with tempfile.TemporaryDirectory(prefix="cresco-chromium-", ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            browser.attach()
            browser.resize(1400)
            browser.open(url, READY)
            check_marks(browser, check, demo)
            check_atlas(browser, check, demo)
            check_hover(browser, check)
            for width in (1600, 1400, 900, 390, 360):
                check_width(browser, check, width)
                check_figures_speak(browser, check)
            check.equal("images from outside", browser.evaluate("document.images.length"), 0)
            check.equal("scripts", browser.evaluate(
                "document.querySelectorAll('script:not([type])').length"), 1)
            check_link(browser, check, url)
            check_fallback(browser, check, url, demo)
            check_quiet(browser, check, url)
            browser.events.clear()
            check_large(browser, check, options.folder / "large.html")
            check_without_scripts(browser, check, url)
            if options.screenshots:
                take_screenshots(browser, options.screenshots, url)
        finally:
            browser.close()

    for failure in check.failures:
        print(f"report_page_test: {failure}")
    print(f"report_page_test: {check.num_checked} checks, {len(check.failures)} failed")
    return 1 if check.failures else 0


if __name__ == "__main__":
    sys.exit(main())
