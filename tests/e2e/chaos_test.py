"""Donors, links and pagers fail at random moments under a load that verifies every byte, its memory mirrored at three
donors, each behind a link of its own: nothing is wrong, nothing is lost, and the load goes on. A second donor fails only
once all is protected again; a pager may fail at any time.

HECATON_CHAOS_KILLS: how many failures (30). HECATON_CHAOS_SEED: replays the choice, not the moments."""

import collections
import os
import random
import signal
import time

from harness import Donor, EndToEndTest, wait_until
from namespaces import Namespaces
from stand_in import Run, pauses

KILLS = int(os.environ.get("HECATON_CHAOS_KILLS", "30"))
DONORS = 3


class ChaosTest(EndToEndTest):
    def setUp(self):
        super().setUp()
        self.network = Namespaces(self, DONORS)
        self.token_file = self.directory / "token"
        self.donors_at = [self.start_donor(number) for number in range(DONORS)]
        self.failures = collections.defaultdict(list)  # moments, by kind

    def tearDown(self):
        if hasattr(self, "network"):
            self.network.delete()
        super().tearDown()

    def start_donor(self, number):
        return Donor(self, size="200M", options=("--token-file", str(self.token_file)),
                     listen=Namespaces.address(number), within=self.network.within(self.network.donors[number]))

    def kill_donor(self, number):
        self.donors_at[number].kill()
        time.sleep(self.chance.random() * 0.3)
        self.donors_at[number] = self.start_donor(number)

    def hang_donor(self, number):
        self.donors_at[number].process.send_signal(signal.SIGSTOP)
        time.sleep(self.chance.random() * 1.5)
        self.donors_at[number].process.send_signal(signal.SIGCONT)

    def cut_link(self, number):
        self.network.set_link(number, "down")
        time.sleep(self.chance.random() * 1.5)
        self.network.set_link(number, "up")

    def kill_pager(self):
        pid = self.vm.find("pager")
        if pid is None or pid == self.last_pager:
            return False
        self.last_pager = pid
        self.failures["pager"].append(time.monotonic())
        os.kill(pid, signal.SIGKILL)
        return True

    def is_protected(self):
        self.assert_alive()
        status = self.vm.status()
        return (status.get("exposed_bytes") == 0 and status.get("protection") == "mirror" and
                sum(node["state"] in ("live", "full") for node in status["nodes"] if "disk" not in node["url"]) == DONORS)

    def wait_until_protected(self):
        try:
            wait_until("all to be protected again", self.is_protected, 60)
        except TimeoutError:
            self.fail(f"not protected again after 60 s: {self.vm.status()}\n{self.vm.story()}")

    def assert_alive(self):
        if self.vm.process.poll() is not None:
            self.fail(f"hecaton ended with {self.vm.process.returncode}\n{self.vm.story()}")

    def fail_somewhere(self):
        """Makes one thing fail, or two at once: a pager may die while a donor fails."""
        kind = self.chance.choice(("pager", "pager", "donor", "hang", "link", "link"))
        if kind == "pager":
            return int(self.kill_pager())
        self.wait_until_protected()
        number = self.chance.randrange(DONORS)
        self.failures[kind].append(time.monotonic())
        {"donor": self.kill_donor, "hang": self.hang_donor, "link": self.cut_link}[kind](number)
        return 1

    def test_of_donors_links_and_pagers_loses_nothing(self):
        seed = int(os.environ.get("HECATON_CHAOS_SEED", int.from_bytes(os.urandom(4), "little")))
        print(f"seed {seed}")
        self.chance, self.last_pager = random.Random(seed), None
        self.vm = Run(self, memory="96M", local="24M", within=self.network.within(self.network.host),
                      options=("--most-pager-deaths", "100000", "--token-file", str(self.token_file),
                               *(f"--node={Namespaces.address(number)}" for number in range(DONORS))))
        self.vm.wait_until_paging()
        failed = 0
        while failed < KILLS:
            self.assert_alive()
            failed += self.fail_somewhere()
            time.sleep(self.chance.choice((0, 0.1, 0.5)) * self.chance.random())
        self.wait_until_protected()
        self.vm.wait_until_it_goes_on()
        status, found = self.vm.end()
        self.assertEqual(0, status, self.vm.story())
        self.assertEqual(0, found["wrong"], self.vm.story())
        print(f"{failed} failures, {found['operations']} accesses, 0 wrong")
        for kind, moments in sorted(self.failures.items()):
            waited = pauses(moments, found["waits"])
            print(f"{kind}: {len(waited)}, the longest access at each, ms: median {waited[len(waited) // 2]:.0f}, "
                  f"p99 {waited[len(waited) * 99 // 100]:.0f}, most {waited[-1]:.0f}")
