"""Donors fail under a guest that verifies its memory, which is protected: the guest does not notice."""

import signal

from harness import Donor, EndToEndTest, Guest

MIB = 100
LOAD = f"memory_check --mib {MIB} --passes random,rewrite"


class ProtectTest(EndToEndTest):
    def guest_with(self, donors, *options):
        guest = Guest(self, run=LOAD, options=[*options, *[f"--node={donor.address}" for donor in donors]])
        guest.wait_for("GUEST-FILLED")
        return guest

    def assert_unharmed(self, guest):
        self.assert_verified(guest, MIB)
        self.assertEqual(0, guest.report()["lost_pages"])

    def test_by_a_mirror_is_the_default_with_two_donors(self):
        donors = [Donor(self), Donor(self)]
        guest = self.guest_with(donors)
        donors[1].kill()
        self.assert_unharmed(guest)
        self.assertEqual("mirror", guest.report()["protection"])
        self.assertIn(f"donor {donors[1].address} is lost", guest.errors())

    def test_by_a_mirror_comes_back_at_a_third_donor_which_then_may_be_the_only_one(self):
        donors = [Donor(self) for _ in range(3)]
        guest = self.guest_with(donors)
        donors[0].kill()
        guest.wait_for("protected again", said_by=guest.errors)
        donors[1].kill()
        self.assert_unharmed(guest)
        self.assertGreater(guest.report()["reprotected_bytes"], 0)

    def test_by_a_mirror_survives_a_donor_that_hangs(self):
        donors = [Donor(self), Donor(self)]
        guest = self.guest_with(donors)
        donors[0].process.send_signal(signal.SIGSTOP)
        try:
            self.assert_unharmed(guest)
        finally:
            donors[0].process.send_signal(signal.SIGCONT)

    def test_by_the_disk_is_the_default_with_one_donor(self):
        donor = Donor(self)
        guest = self.guest_with([donor])
        donor.kill()
        self.assert_unharmed(guest)
        self.assertEqual("spill", guest.report()["protection"])

    def test_by_a_mirror_needs_two_donors(self):
        donor = Donor(self)
        guest = Guest(self, options=("--node", donor.address, "--protect", "mirror"))
        self.assertEqual(2, guest.finish(30), guest.story())
        self.assertIn("needs two donors", guest.errors())

    def test_falls_back_to_the_disk_when_two_donors_have_no_room_for_a_mirror(self):
        donors = [Donor(self, size="150M"), Donor(self, size="150M")]
        guest = self.guest_with(donors)
        self.assert_unharmed(guest)
        self.assertEqual("spill", guest.report()["protection"])
