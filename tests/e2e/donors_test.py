"""Guests and donors in other processes: named on the command line, in a file, shared, too small, not there."""

import os
import signal

from harness import HECATOND, Donor, EndToEndTest, Guest, closed_port, wait_until

LOAD = "memory_check --mib 150 --passes random,rewrite"


class DonorsTest(EndToEndTest):
    def assert_spread_over(self, guest, donors):
        nodes = guest.report()["nodes"]
        self.assertEqual(sorted(donor.address for donor in donors),
                         sorted(node["url"].removeprefix("hecaton://") for node in nodes))
        for node in nodes:
            self.assertGreater(node["bytes"], 0, f"this donor got nothing: {node}")

    def test_two_named_in_a_nodes_file_share_the_memory(self):
        donors = [Donor(self), Donor(self)]
        self.write_nodes_file("# our two machines", "", *[donor.address for donor in donors])
        guest = Guest(self, run=LOAD)
        self.assert_verified(guest, 150)
        self.assert_paged(guest)
        self.assert_spread_over(guest, donors)

    def test_three_named_in_a_nodes_file_share_the_memory(self):
        donors = [Donor(self), Donor(self), Donor(self)]
        self.write_nodes_file(*[f"hecaton://{donor.address}  # donor" for donor in donors])
        guest = Guest(self, run=LOAD)
        self.assert_verified(guest, 150)
        self.assert_spread_over(guest, donors)

    def test_two_named_by_options_share_the_memory(self):
        donors = [Donor(self), Donor(self)]
        guest = Guest(self, run=LOAD, options=[f"--node={donor.address}" for donor in donors])
        self.assert_verified(guest, 150)
        self.assert_spread_over(guest, donors)

    def test_one_under_two_names_is_refused(self):
        donor = Donor(self)
        port = donor.address.rsplit(":", 1)[1]
        guest = Guest(self, run="true", options=("--node", donor.address, "--node", f"localhost:{port}"))
        self.assertEqual(3, guest.finish(30), guest.story())
        self.assertRegex(guest.errors(), "same hecatond")

    def test_one_serves_two_guests_at_once(self):
        donor = Donor(self)
        first = Guest(self, run=f"{LOAD} --seed 1", options=("--node", donor.address))
        second = Guest(self, run=f"{LOAD} --seed 2", options=("--node", donor.address))
        for guest in (first, second):
            self.assert_verified(guest, 150)
            self.assert_paged(guest)
        self.assertIsNone(donor.process.poll(), "the donor serves on after its guests have gone")

    def test_one_serves_guest_after_guest_within_its_size(self):
        donor = Donor(self, size="300M")  # too small for two guests' memory: the first one's is given back
        for seed in (1, 2):
            guest = Guest(self, run=f"memory_check --mib 150 --passes random --seed {seed}",
                          options=("--node", donor.address))
            self.assert_verified(guest, 150)

    def test_one_keeps_the_memory_of_a_run_that_was_killed_and_says_so(self):
        donor = Donor(self, size="300M", options=("--grace", "600"))
        killed = Guest(self, run=f"{LOAD} --forever", options=("--node", donor.address))
        killed.wait_for("GUEST-FILLED")
        for pid in (killed.process.pid, killed.part("pager"), killed.part("qemu")):
            os.kill(pid, signal.SIGKILL)
        wait_until("the run to be gone", lambda: len(self.processes()) == 1, 20)
        guest = Guest(self, run="true", options=("--node", donor.address))
        self.assertEqual(3, guest.finish(30), guest.story())
        self.assertRegex(guest.errors(), r"256 MiB more are held for up to \d+ s")
        self.hecaton("status")  # removes what the killed run could not

    def test_one_on_a_disk_keeps_the_memory(self):
        backing = self.directory / "backing"
        backing.mkdir()
        donor = Donor(self, options=("--backing", str(backing)))
        guest = Guest(self, run=LOAD, options=("--node", donor.address))
        self.assert_verified(guest, 150)
        self.assert_paged(guest)
        self.assertEqual([], list(backing.iterdir()))

    def test_one_that_is_too_small_is_refused_with_the_reason(self):
        donor = Donor(self, size="64M")
        guest = Guest(self, run=LOAD, options=("--node", donor.address))
        status = guest.finish()
        self.assertIn(status, (3, 4), guest.story())
        self.assertIn(donor.address, guest.errors())
        self.assertRegex(guest.errors(), r"64 MiB.*must fit")
        self.assertNotIn("GUEST-VERIFIED", guest.serial())
        self.assertIsNone(donor.process.poll(), "a full donor goes on serving")

    def test_one_that_does_not_answer_is_named(self):
        address = f"127.0.0.1:{closed_port(self)}"
        guest = Guest(self, options=("--node", address))
        self.assertIn(guest.finish(30), (2, 3, 4), guest.story())
        self.assertIn(address, guest.errors())
        self.assertFalse(guest.report_path.exists(), "a run that did not start leaves no empty report")

    def test_one_off_loopback_needs_the_word_insecure_on_the_host(self):
        guest = Guest(self, options=("--node", "192.0.2.1:9999"))
        self.assertIn(guest.finish(30), (2, 3), guest.story())
        self.assertIn("--insecure", guest.errors())

    def test_one_serves_off_loopback_only_when_told_that_it_is_insecure(self):
        status, said = self.hecaton("--size", "64M", "--listen", "0.0.0.0:0", program=HECATOND)
        self.assertIn(status, (2, 3), said)
        self.assertIn("--insecure", said)

    def test_one_stops_gracefully_when_asked(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            donor = Donor(self, size="64M")
            self.assertEqual(0, donor.kill(number), donor.log())

    def test_one_refuses_bad_arguments_with_the_reason(self):
        for arguments, reason in (
                (["--size", "lots"], "lots"), (["--size", "0"], "size"), ([], "size"),
                (["--size", "64M", "--listen", "127.0.0.1:99999"], "99999"),
                (["--size", "64M", "--listen", "nowhere.invalid:1"], "nowhere.invalid"),
                (["--size", "64M", "--frobnicate"], "frobnicate")):
            with self.subTest(arguments=arguments):
                status, said = self.hecaton(*arguments, program=HECATOND)
                self.assertIn(status, (2, 3), said)
                self.assertIn(reason, said)

    def test_one_names_the_port_that_is_taken(self):
        donor = Donor(self, size="64M")
        status, said = self.hecaton("--size", "64M", "--listen", donor.address, program=HECATOND)
        self.assertNotEqual(0, status, said)
        self.assertIn(donor.address, said)
