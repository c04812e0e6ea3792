"""`hecaton bench all`: it measures everything, nothing comes back wrong, and every figure that is promised is there."""

import html.parser
import json
import os
import signal
import subprocess

from harness import HECATON, EndToEndTest, parent_of, wait_until

LIMIT = {"limit": {"uffd_us", "tcp_us"}}
PREFETCH = {"prefetch": {"issued", "used", "late"}}
PROMISED = {
    "fault": ({"p50_us", "p90_us", "p99_us", "ratio", "faults_remote", "table_bytes_per_page"}, LIMIT),
    "scan": ({"gbps", "tcp_gbps", "ratio"},
             PREFETCH | {"patterns": {"forward", "stride2", "stride3", "stride16", "backward"}}),
    "churn": ({"pages_per_s", "write_amplification", "p99_us", "faults_stalled"}, LIMIT),
    "zipf": (set(), LIMIT | {"slowdown": {"100", "50", "25", "10"}}),
    "sort": (set(), {"slowdown": {"50", "25"}, "limit": {"tcp_gbps"}}),
    "pagerank": (set(), {"slowdown": {"50", "25"}, "limit": {"tcp_gbps"}}),
    "nodes": (set(), LIMIT),
    "pingpong": ({"p50_us", "p90_us", "p99_us", "ratio", "first_touch_us", "stream_gbps"},
                 {"limit": {"message_us", "page_us", "uffd_us", "sum_us"}, "invalidate": {"1", "3", "ratio"},
                  "upgrade": {"p50_us", "count", "pages_sent"}}),
}


class Page(html.parser.HTMLParser):
    """Counts elements, and notes those that are not closed as they were opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.count, self.astray = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.astray.append(tag)


class BenchTest(EndToEndTest):
    def assert_promised(self, name, figures):
        plain, groups = PROMISED[name]
        self.assertLessEqual({*plain, *groups, "wrong", "how", "version"}, set(figures), name)
        for group, keys in groups.items():
            self.assertLessEqual(keys, set(figures[group]), f"{name}: {group}")
        for key in plain - {"faults_stalled", "write_amplification"}:
            self.assertGreater(figures[key], 0, f"{name}: {key}")
        self.assertEqual(0, figures["wrong"], name)

    def test_all_measures_everything_and_nothing_comes_back_wrong(self):
        status, said = self.hecaton("bench", "all", "--quick", "--json", "--html", "page.html", timeout=200)
        self.assertEqual(0, status, said)
        figures = json.loads(said)
        for name in PROMISED:
            self.assert_promised(name, figures[name])
        for pattern in figures["scan"]["patterns"].values():
            self.assertLessEqual({"gbps", "tcp_gbps", "ratio", "prefetch"}, set(pattern))
        for share in figures["zipf"]["local"]:
            self.assertLessEqual({"slowdown", "ops_per_s", "miss_ratio", "floor"}, set(share))
        self.assertEqual([1, 10, 100], [pool["donors"] for pool in figures["nodes"]["pools"]])
        self.assertEqual([], figures["nodes"]["skipped"])
        for pool in figures["nodes"]["pools"]:
            self.assertLessEqual({"p50_us", "ratio_to_one", "more_us", "tcp_us", "tcp_ratio_to_one", "tcp_more_us", "stages"},
                                 set(pool))
            self.assertGreater(pool["tcp_us"], 0)
        self.assert_whole_page((self.directory / "page.html").read_text())

    def assert_whole_page(self, text):
        page = Page(text)
        self.assertEqual(([], []), (page.open, page.astray), "elements that are not closed as they were opened")
        self.assertEqual(len(PROMISED), page.count["section"])
        self.assertGreaterEqual(page.count["svg"], len(PROMISED))
        self.assertNotRegex(text, "(?i)https?:|src=|@import|<script|nan|inf\\b")

    def test_a_region_with_too_little_remote_is_refused(self):
        status, said = self.hecaton("bench", "fault", "--size", "64M", "--local", "60M")
        self.assertEqual(2, status, said)
        self.assertIn("--local", said)

    def test_what_is_not_understood_is_named(self):
        for arguments, words in (
                ((), "which one.*fault.*all"), (("speed",), "no 'speed'.*fault.*all"),
                (("fault", "--frobnicate"), "hecaton bench fault: .*frobnicate"),
                (("fault", "--rounds", "few"), "hecaton bench fault: --rounds.*few"),
                (("pingpong", "--rounds", "1000000"), "hecaton bench pingpong: --rounds.*100000"),
                (("pingpong", "--seal"), "hecaton bench pingpong: .*--seal"),
                (("fault", "--html", ""), "--html.*missing"), (("fault", "--size", "900T"), "'900T'.*16T")):
            with self.subTest(arguments=arguments):
                status, said = self.hecaton("bench", *arguments)
                self.assertEqual(2, status, said)
                self.assertRegex(said, words)

    def test_a_region_that_this_machine_cannot_hold_is_refused_before_it_is_filled(self):
        status, said = self.hecaton("bench", "fault", "--quick", "--size", "15T", timeout=30)
        self.assertEqual(3, status, said)
        self.assertRegex(said, "15 TiB.*available.*--size.*--node")

    def test_a_page_that_cannot_be_written_is_refused_before_anything_is_measured(self):
        status, said = self.hecaton("bench", "all", "--html", "no-such-folder/page.html", timeout=10)
        self.assertEqual(2, status, said)
        self.assertIn("no-such-folder", said)

    def test_what_cannot_be_measured_is_told_and_the_others_are_shown(self):
        status, said = self.hecaton("bench", "all", "--quick", "--json", "--html", "page.html", "--node",
                                    "hecaton://127.0.0.1:1", timeout=200)  # nobody listens there
        self.assertEqual(3, status, said)
        figures = json.loads(said[said.index("{\n"):])
        self.assertEqual({"fault", "scan", "churn", "zipf", "sort", "pagerank"}, set(figures["failed"]))
        for name, problem in figures["failed"].items():
            self.assertIn("donor 127.0.0.1:1", problem)
            self.assertIn(f"hecaton bench {name}: {problem}", said)
        self.assertGreater(figures["pingpong"]["p50_us"], 0)
        self.assertIn("pingpong", (self.directory / "page.html").read_text())

    def test_a_node_that_is_killed_is_named(self):
        bench = subprocess.Popen([HECATON, "bench", "pingpong", "--rounds", "20000"], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.environment)
        self.addCleanup(bench.kill)
        node = wait_until("a node", lambda: [pid for pid in self.processes() if parent_of(pid) == bench.pid], 60)[0]
        os.kill(node, signal.SIGKILL)
        said = bench.communicate(timeout=60)[0].decode()
        self.assertEqual(3, bench.returncode, said)
        self.assertRegex(said, r"hecaton bench pingpong: .*node \d ended.*signal 9")

    def test_every_benchmark_explains_itself(self):
        for name in (*PROMISED, "all"):
            status, said = self.hecaton("bench", name, "--help")
            self.assertEqual(0, status, said)
            self.assertIn("--json", said)
