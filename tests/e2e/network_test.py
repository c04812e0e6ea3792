"""Host and donor as two machines: each in a network namespace of its own, with a link between them."""

import subprocess

from harness import HECATOND, Donor, EndToEndTest, Guest
from namespaces import Namespaces

DONOR_ADDRESS = Namespaces.address()


class NetworkTest(EndToEndTest):
    def setUp(self):
        super().setUp()
        self.network = Namespaces(self)
        self.host, self.donor = self.network.host, self.network.donors[0]

    def tearDown(self):
        if hasattr(self, "network"):
            self.network.delete()  # what is left after this, Hecaton left
        super().tearDown()

    def start_donor(self):
        return Donor(self, options=("--insecure",), listen=DONOR_ADDRESS, within=self.network.within(self.donor))

    def start_guest(self, run, options=("--insecure",)):
        return Guest(self, run=run, memory="256M", local="64M", options=("--node", DONOR_ADDRESS, *options),
                     within=self.network.within(self.host))

    def test_brings_memory_from_another_machine(self):
        self.start_donor()
        guest = self.start_guest("memory_check --mib 160 --passes random")
        self.assert_verified(guest, 160)
        self.assertEqual(DONOR_ADDRESS, guest.report()["nodes"][0]["url"])

    def test_with_a_token_is_encrypted_and_needs_no_other_word(self):
        token_file = self.directory / "token"
        donor = Donor(self, options=("--token-file", str(token_file)), listen=DONOR_ADDRESS,
                      within=self.network.within(self.donor))
        self.assertIn(f"@{DONOR_ADDRESS}", donor.log())
        guest = self.start_guest("memory_check --mib 160 --passes random",
                                 options=("--token-file", str(token_file)))
        self.assert_verified(guest, 160)

    def test_without_a_token_is_refused_unless_both_sides_say_insecure(self):
        refused = subprocess.run([*self.network.within(self.donor), str(HECATOND), "--size", "1G", "--listen", DONOR_ADDRESS],
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
        self.network.set_link(0, "down")
        self.assertEqual(4, guest.finish(60), guest.story())
        self.assertIn(DONOR_ADDRESS, guest.errors())
        self.assertNotIn("GUEST-WRONG", guest.serial())

    def test_to_a_machine_that_is_not_there_is_told_within_seconds(self):
        guest = self.start_guest("true")
        self.assertEqual(3, guest.finish(30), guest.story())
        self.assertIn(DONOR_ADDRESS, guest.errors())
