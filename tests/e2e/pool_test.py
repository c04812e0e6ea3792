"""The donors of a VM that runs: listed, added, drained, removed, under a load that verifies every byte."""

import json
import os
import signal

from harness import Donor, EndToEndTest, wait_until
from stand_in import Run


class PoolTest(EndToEndTest):
    def guest_with(self, *donors, options=()):
        guest = Run(self, memory="96M", local="24M",
                    options=[*options, *[f"--node={donor.address}" for donor in donors]])
        guest.wait_until_paging()
        return guest

    def pool(self, *arguments):
        status, said = self.hecaton("pool", *arguments)
        self.assertEqual(0, status, said)
        return said

    def nodes(self, guest):
        listed = json.loads(self.pool("list", guest.name, "--json"))
        return {node["url"].removeprefix("hecaton://"): node for node in listed["nodes"]}

    def assert_refused(self, why, *arguments):
        status, said = self.hecaton("pool", *arguments)
        self.assertNotEqual(0, status, said)
        self.assertRegex(said, why)

    def end(self, guest):
        guest.wait_until_it_goes_on()
        status, found = guest.end()
        self.assertEqual(0, status, guest.story())
        self.assertEqual(0, found["wrong"], guest.story())
        self.assertEqual(0, json.loads(guest.report_path.read_text())["lost_pages"])

    def test_moves_to_a_donor_that_is_added_and_leaves_one_that_is_drained(self):
        first, second, third = Donor(self), Donor(self), Donor(self)
        guest = self.guest_with(first, second)
        self.pool("add", guest.name, third.address)
        self.assertEqual("live", self.nodes(guest)[third.address]["state"])
        self.pool("drain", guest.name, first.address)
        wait_until("the donor to be drained", lambda: self.nodes(guest)[first.address]["state"] == "drained", 120)
        self.assertGreater(self.nodes(guest)[third.address]["bytes"], 0)
        self.pool("remove", guest.name, first.address)
        self.assertNotIn(first.address, self.nodes(guest))
        first.kill()
        second.kill()  # what is at the third one is all there is
        self.end(guest)
        self.assertIn(f"donor {first.address} is drained", guest.errors())
        self.assertNotIn(f"donor {first.address} is lost", guest.errors())

    def test_is_the_same_after_the_pager_has_died(self):
        first, second, third = Donor(self), Donor(self), Donor(self)
        guest = self.guest_with(first, second)
        self.pool("add", guest.name, third.address)
        self.pool("drain", guest.name, first.address)
        wait_until("the donor to be drained", lambda: self.nodes(guest)[first.address]["state"] == "drained", 120)
        self.kill_pager(guest)
        nodes = self.nodes(guest)
        self.assertEqual("live", nodes[third.address]["state"])
        self.assertEqual("drained", nodes[first.address]["state"])
        self.pool("remove", guest.name, first.address)
        self.kill_pager(guest)
        self.assertNotIn(first.address, self.nodes(guest))
        self.end(guest)

    def kill_pager(self, guest):
        count = guest.errors().count("goes on with a new pager")
        os.kill(guest.pager(), signal.SIGKILL)
        wait_until("a new pager", lambda: guest.errors().count("goes on with a new pager") > count, 30)

    def test_says_why_it_does_not_change(self):
        first, second = Donor(self), Donor(self)
        guest = self.guest_with(first, options=("--protect", "none"))
        self.assert_refused("in the pool already", "add", guest.name, first.address)
        self.assert_refused("is the only one", "drain", guest.name, first.address)
        self.assert_refused("is the only one", "remove", guest.name, first.address, "--force")
        self.assert_refused("is not in the pool", "drain", guest.name, second.address)
        self.assert_refused("still holds .*drain it first", "remove", guest.name, first.address)
        self.assert_refused("hecatond", "add", guest.name, "127.0.0.1:1")
        self.assert_refused("no donor's URL", "add", guest.name, "there:is:none")
        self.assert_refused("no VM 'nobody'", "list", "nobody")
        self.assert_refused("--help", "add", guest.name)
        self.end(guest)

    def test_has_no_donor_twice_by_two_names(self):
        first, second = Donor(self), Donor(self)
        guest = self.guest_with(first, second)
        self.assert_refused("same hecatond", "add", guest.name, first.address.replace("127.0.0.1", "localhost"))
        self.end(guest)
