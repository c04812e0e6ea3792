"""Host and donor as two machines: each in a network namespace of its own, with a link between them."""

import os
import subprocess

from harness import HECATOND, Donor, EndToEndTest, Guest

DONOR_ADDRESS = "10.213.77.2:9999"


class NetworkTest(EndToEndTest):
    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest("network namespaces need root")
        self.host, self.donor = self.mark + "h", self.mark + "d"
        self.addCleanup(self.delete_namespaces)
        for name in (self.host, self.donor):
            self.ip("netns", "add", name)
        # Made inside the namespaces: the machine that runs the test sees nothing of it.
        self.ip("-n", self.host, "link", "add", "link0", "type", "veth", "peer", "name", "link0", "netns", self.donor)
        for name, address in ((self.host, "10.213.77.1/30"), (self.donor, "10.213.77.2/30")):
            self.ip("-n", name, "address", "add", address, "dev", "link0")
            self.ip("-n", name, "link", "set", "lo", "up")
            self.ip("-n", name, "link", "set", "link0", "up")

    def tearDown(self):
        self.delete_namespaces()  # what is left after this, Hecaton left
        super().tearDown()

    def delete_namespaces(self):
        for name in (self.host, self.donor):
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, timeout=30)

    def ip(self, *arguments):
        subprocess.run(["ip", *arguments], check=True, timeout=30)

    def within(self, name):
        return ("ip", "netns", "exec", name)

    def start_donor(self):
        return Donor(self, options=("--insecure",), listen=DONOR_ADDRESS, within=self.within(self.donor))

    def start_guest(self, run, options=("--insecure",)):
        return Guest(self, run=run, memory="256M", local="64M", options=("--node", DONOR_ADDRESS, *options),
                     within=self.within(self.host))

    def test_brings_memory_from_another_machine(self):
        self.start_donor()
        guest = self.start_guest("memory_check --mib 160 --passes random")
        self.assert_verified(guest, 160)
        self.assertEqual(DONOR_ADDRESS, guest.report()["nodes"][0]["url"])

    def test_with_a_token_is_encrypted_and_needs_no_other_word(self):
        token_file = self.directory / "token"
        donor = Donor(self, options=("--token-file", str(token_file)), listen=DONOR_ADDRESS,
                      within=self.within(self.donor))
        self.assertIn(f"@{DONOR_ADDRESS}", donor.log())
        guest = self.start_guest("memory_check --mib 160 --passes random",
                                 options=("--token-file", str(token_file)))
        self.assert_verified(guest, 160)

    def test_without_a_token_is_refused_unless_both_sides_say_insecure(self):
        refused = subprocess.run([*self.within(self.donor), str(HECATOND), "--size", "1G", "--listen", DONOR_ADDRESS],
                                 capture_output=True, text=True, timeout=30)
        self.assertEqual(2, refused.returncode)
        self.assertIn("--insecure", refused.stderr)
        self.start_donor()
        guest = self.start_guest("true", options=())
        self.assertEqual(3, guest.finish(30), guest.story())
        self.assertIn("--insecure", guest.errors())

    def test_that_breaks_stops_the_guest(self):
        self.start_donor()
        guest = self.start_guest("memory_check --mib 160 --passes random --forever",
                                 options=("--insecure", "--protect=none"))
        guest.wait_for("GUEST-FILLED")
        self.ip("-n", self.donor, "link", "set", "link0", "down")
        self.assertEqual(4, guest.finish(60), guest.story())
        self.assertIn(DONOR_ADDRESS, guest.errors())
        self.assertNotIn("GUEST-WRONG", guest.serial())

    def test_to_a_machine_that_is_not_there_is_told_within_seconds(self):
        guest = self.start_guest("true")
        self.assertEqual(3, guest.finish(30), guest.story())
        self.assertIn(DONOR_ADDRESS, guest.errors())
