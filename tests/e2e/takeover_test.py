"""The pager is expendable: it is killed again and again, at random moments, under a load that verifies every byte; the
supervisor is killed, and the VM gets another. A stand-in for QEMU (tests/stress/guest_stand_in.cc) makes the load: it
faults at the speed of the machine, which a guest under TCG does not. Nothing is left behind (the harness checks that)."""

import contextlib
import json
import os
import random
import signal
import time

from harness import Donor, EndToEndTest, is_running, wait_until
from stand_in import STAND_IN, Run, pauses

KILLS = 50
MEMORY_LOST = 4


def has_socket(pid):
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:") for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:  # a descriptor that was closed meanwhile
        return False


class TakeoverTest(EndToEndTest):
    def kill_pagers(self, run, kills):
        seed = int.from_bytes(os.urandom(4), "little")
        print(f"seed {seed}")
        chance = random.Random(seed)
        killed, last = [], None
        while len(killed) < kills:
            time.sleep(chance.choice((0.0, 0.02, 0.1, 0.3)) * chance.random() * 2)
            if run.process.poll() is not None:
                self.fail(f"hecaton ended with {run.process.returncode}\n{run.story()}")
            pid = run.find("pager")
            if pid is None or pid == last:  # the last one may still be on its way out
                continue
            last = pid
            killed.append(time.monotonic())
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                killed.pop()
        return killed

    def assert_all_right(self, run, restarts):
        run.wait_until_it_goes_on()
        status, found = run.end()
        self.assertEqual(0, status, run.story())
        self.assertEqual(0, found["wrong"], run.story())
        report = json.loads(run.report_path.read_text())
        self.assertEqual(0, report["lost_pages"], report)
        self.assertGreaterEqual(report["pager_restarts"], restarts, report)
        self.assertLessEqual(report["resident_peak_bytes"], report["local_limit_bytes"], report)
        return found, report

    def test_a_pager_that_is_killed_again_and_again_loses_nothing(self):
        run = Run(self, options=("--most-pager-deaths", "1000"))
        run.wait_until_paging()
        killed = self.kill_pagers(run, KILLS)
        found, report = self.assert_all_right(run, 1)
        self.assertGreaterEqual(run.errors().count("starting a new one"), KILLS, "pagers died without a word")
        waited = pauses(killed, found["waits"])
        print(f"{KILLS} kills, {found['operations']} accesses, 0 wrong; the longest access at each kill: "
              f"median {waited[len(waited) // 2]:.0f} ms, most {waited[-1]:.0f} ms; {report['takeover_ms']}")

    def test_the_same_with_four_shards_and_two_donors(self):
        donors = [Donor(self, size="200M"), Donor(self, size="200M")]
        run = Run(self, memory="128M", options=["--most-pager-deaths", "1000", "--shards", "4",
                                                *(f"--node={donor.address}" for donor in donors)])
        run.wait_until_paging()
        self.kill_pagers(run, 10)
        self.assert_all_right(run, 1)
        self.assertGreaterEqual(run.errors().count("starting a new one"), 10, "pagers died without a word")

    def test_a_pager_that_hangs_is_replaced(self):
        run = Run(self)
        run.wait_until_paging()
        hung = run.pager()
        os.kill(hung, signal.SIGSTOP)
        wait_until("the end of the hung pager", lambda: not is_running(hung), 60)
        self.assert_all_right(run, 1)

    def test_a_pager_that_keeps_dying_ends_the_run_with_words(self):
        run = Run(self)
        run.wait_until_paging()
        deadline = time.monotonic() + 60
        while run.process.poll() is None and time.monotonic() < deadline:
            pid = run.find("pager")
            if pid:
                with contextlib.suppress(ProcessLookupError):  # the last one was still on its way out
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        self.assertEqual(MEMORY_LOST, run.process.poll(), run.story())
        self.assertRegex(run.errors(), r"its pager ended \d+ times within 60 s")

    def test_a_killed_supervisor_leaves_a_vm_that_resume_pager_picks_up(self):
        run = Run(self)
        run.wait_until_paging()
        run.process.kill()
        run.process.wait()
        run.wait_until_it_goes_on()
        run.resume()
        wait_until("the new supervisor", lambda: "has a supervisor again" in run.errors(), 60)
        os.kill(run.pager(), signal.SIGKILL)
        wait_until("a new pager", lambda: "goes on with a new pager" in run.errors(), 60)
        self.assert_all_right(run, 1)

    def test_resume_pager_starts_a_pager_if_that_was_killed_too(self):
        run = Run(self)
        run.wait_until_paging()
        run.process.kill()
        run.process.wait()
        os.kill(run.pager(), signal.SIGKILL)
        wait_until("the end of the pager", lambda: run.find("pager") is None, 30)
        run.resume()
        wait_until("a new pager", lambda: "goes on with a new pager" in run.errors(), 60)
        self.assert_all_right(run, 1)

    def test_resume_pager_starts_a_pager_if_the_old_one_dies_instead_of_answering(self):
        run = Run(self)
        run.wait_until_paging()
        run.process.kill()
        run.process.wait()
        pager = run.pager()
        os.kill(pager, signal.SIGSTOP)
        run.resume()
        wait_until("the question to the pager", lambda: has_socket(run.process.pid), 30)
        os.kill(pager, signal.SIGKILL)
        wait_until("a new pager", lambda: "goes on with a new pager" in run.errors(), 60)
        self.assert_all_right(run, 1)

    def test_resume_pager_says_why_it_has_nothing_to_do(self):
        run = Run(self)
        run.wait_until_paging()
        status, said = self.hecaton("resume-pager", run.name)
        self.assertEqual(2, status)
        self.assertIn("has a supervisor", said)
        status, said = self.hecaton("resume-pager", self.mark + "-nobody")
        self.assertEqual(2, status)
        self.assertIn("no VM", said)
        run.end()

    def test_a_name_is_taken_as_long_as_its_vm_lives(self):
        run = Run(self)
        run.wait_until_paging()
        second = ("run", "--name", run.name, "-m", "64M", "--accel", "tcg", "--qemu", str(STAND_IN), "--")
        status, said = self.hecaton(*second)
        self.assertEqual(2, status, said)
        self.assertRegex(said, r"is running.*--name")
        run.process.kill()
        run.process.wait()
        status, said = self.hecaton(*second)
        self.assertEqual(2, status, said)
        self.assertIn("resume-pager", said)
        os.kill(run.stand_in(), signal.SIGKILL)

    def test_the_end_of_an_orphaned_guest_takes_everything_along(self):
        run = Run(self)
        run.wait_until_paging()
        run.process.kill()
        run.process.wait()
        os.kill(run.stand_in(), signal.SIGKILL)

    def test_what_was_killed_as_a_whole_is_noticed_and_removed(self):
        run = Run(self)
        run.wait_until_paging()
        for pid in (run.process.pid, run.pager(), run.stand_in()):
            os.kill(pid, signal.SIGKILL)
        run.process.wait()
        wait_until("the last process to end", lambda: not self.processes(), 20)
        status, said = self.hecaton("status")
        self.assertEqual((0, "no VM is running here for this user\n"), (status, said))
