"""Each part of a run is killed in the middle of the load: the guest goes on if nothing is lost, and else stops rather than
read wrong bytes; the exit status tells what happened, and nothing is left behind (the harness checks that after every
test). takeover_test.py does worse to the pager and the supervisor."""

import os
import signal

from harness import Donor, EndToEndTest, Guest, role_of, wait_until

MEMORY_LOST = 4
LOAD = "memory_check --mib 150 --passes random,rewrite --forever"


class KillTest(EndToEndTest):
    def guest_under_load(self, **keywords):
        guest = Guest(self, run=LOAD, **keywords)
        guest.wait_for("GUEST-FILLED")
        return guest

    def kill_part(self, guest, role, number=signal.SIGKILL):
        os.kill(guest.part(role), number)
        return guest.finish(60)

    def assert_stopped(self, guest, status, words):
        self.assertEqual(MEMORY_LOST, status, guest.story())
        self.assertRegex(guest.errors(), words)
        self.assertNotIn("GUEST-WRONG", guest.serial())

    def test_of_the_pager_costs_the_guest_a_moment(self):
        guest = Guest(self, run="memory_check --mib 150 --passes random,rewrite")
        guest.wait_for("GUEST-FILLED")
        os.kill(guest.part("pager"), signal.SIGKILL)
        self.assert_verified(guest, 150)
        report = self.assert_paged(guest)
        self.assertEqual(1, report["pager_restarts"])
        self.assertGreater(report["takeover_ms"]["max"], 0)
        self.assertIn("goes on with a new pager", guest.errors())

    def test_of_the_embedded_donor_stops_the_guest(self):
        guest = self.guest_under_load()
        self.assert_stopped(guest, self.kill_part(guest, "donor"), r"(?i)lost|gone")

    def test_of_the_only_donor_stops_the_guest_and_names_it(self):
        donor = Donor(self)
        guest = self.guest_under_load(options=("--node", donor.address, "--protect", "none"))
        donor.kill()
        self.assert_stopped(guest, guest.finish(60), r"(?i)lost|gone")
        self.assertIn(donor.address, guest.errors())
        self.assertGreater(guest.report()["lost_pages"], 0, "the report tells how much is lost")

    def test_of_one_donor_of_two_stops_the_guest_and_names_it(self):
        donors = [Donor(self), Donor(self)]
        guest = self.guest_under_load(options=["--protect=none"] + [f"--node={donor.address}" for donor in donors])
        donors[1].kill()
        self.assert_stopped(guest, guest.finish(60), r"(?i)lost|gone")
        self.assertIn(donors[1].address, guest.errors())
        self.assertIsNone(donors[0].process.poll(), "the other donor is untouched")
        states = {node["url"]: node["state"] for node in guest.report()["nodes"]}
        self.assertEqual({donors[0].address: "live", donors[1].address: "lost"}, states)

    def test_of_a_donor_that_hangs_stops_the_guest(self):
        donor = Donor(self)
        guest = self.guest_under_load(options=("--node", donor.address, "--protect", "none"))
        donor.process.send_signal(signal.SIGSTOP)
        try:
            self.assert_stopped(guest, guest.finish(90), r"(?i)lost|gone|answer")
        finally:
            donor.process.send_signal(signal.SIGCONT)

    def test_of_qemu_is_told_by_the_exit_status(self):
        guest = self.guest_under_load()
        self.assertEqual(128 + signal.SIGKILL, self.kill_part(guest, "qemu"), guest.story())

    def test_of_the_supervisor_leaves_the_guest_running_until_it_ends(self):
        guest = Guest(self, run="memory_check --mib 150 --passes random,rewrite")
        guest.wait_for("GUEST-FILLED")
        guest.process.kill()
        self.assertEqual(128 + signal.SIGKILL, guest.finish(10))
        wait_until("the guest's verdict", lambda: "GUEST-VERIFIED" in guest.serial(), 120)
        self.assertNotIn("GUEST-WRONG", guest.serial())

    def test_of_the_supervisor_leaves_a_qemu_that_became_another_user_running_until_it_ends(self):
        if os.geteuid() != 0:
            self.skipTest("only root can have QEMU run as somebody else")
        guest = Guest(self, run="memory_check --mib 150 --passes random,rewrite", qemu=("-runas", "nobody"))
        guest.wait_for("GUEST-FILLED")
        guest.process.kill()
        self.assertEqual(128 + signal.SIGKILL, guest.finish(10))
        wait_until("the guest's verdict", lambda: "GUEST-VERIFIED" in guest.serial(), 120)
        self.assertNotIn("GUEST-WRONG", guest.serial())

    def test_by_an_interrupt_while_a_donor_does_not_answer_ends_the_run_at_once(self):
        donor = Donor(self)
        donor.process.send_signal(signal.SIGSTOP)
        try:
            guest = Guest(self, options=("--node", donor.address))
            wait_until("the pager", lambda: any(role_of(pid) == "pager" for pid in self.processes()), 20)
            guest.process.send_signal(signal.SIGINT)
            self.assertEqual(128 + signal.SIGINT, guest.finish(30), guest.story())
            self.assertIn("before the guest had started", guest.errors())
        finally:
            donor.process.send_signal(signal.SIGCONT)

    def test_of_supervisor_and_guest_leaves_an_external_donor_free_for_the_next(self):
        donor = Donor(self, size="300M", options=("--grace", "0"))
        guest = self.guest_under_load(options=("--node", donor.address))
        qemu = guest.part("qemu")
        guest.process.kill()
        guest.finish(10)
        os.kill(qemu, signal.SIGKILL)
        wait_until("the pager's end", lambda: not self.processes_of(guest), 20)
        following = Guest(self, run="memory_check --mib 150 --passes random", options=("--node", donor.address))
        self.assert_verified(following, 150)

    def processes_of(self, guest):
        return [pid for pid in self.processes() if role_of(pid) in ("pager", "qemu")]

    def test_of_everything_before_the_guest_is_up_leaves_nothing(self):
        guest = Guest(self, run=LOAD)
        guest.process.kill()
        guest.finish(10)

    def test_by_sigterm_ends_the_run_in_good_order(self):
        guest = self.guest_under_load()
        guest.process.send_signal(signal.SIGTERM)
        self.assertIn(guest.finish(30), (0, 128 + signal.SIGTERM), guest.story())
        self.assertTrue(guest.report_path.exists(), "an ended run still writes its report")

    def test_by_an_interrupt_from_the_terminal_ends_the_run_in_good_order(self):
        guest = self.guest_under_load()
        os.killpg(guest.process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
        self.assertIn(guest.finish(30), (0, 128 + signal.SIGINT), guest.story())
