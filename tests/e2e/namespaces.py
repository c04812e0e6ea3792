"""Machines of a network: the host and its donors, each in a network namespace of its own, with a link between the host
and each donor. Needs root. The machine that runs the test sees nothing of it."""

import os
import subprocess


class Namespaces:
    def __init__(self, test, donors=1):
        if os.geteuid() != 0:
            test.skipTest("network namespaces need root")
        self.host = test.mark + "h"
        self.donors = [f"{test.mark}d{number}" for number in range(donors)]
        test.addCleanup(self.delete)
        for name in (self.host, *self.donors):
            self.ip("netns", "add", name)
            self.ip("-n", name, "link", "set", "lo", "up")
        for number, donor in enumerate(self.donors):
            link = f"link{number}"
            self.ip("-n", self.host, "link", "add", link, "type", "veth", "peer", "name", link, "netns", donor)
            for name, last in ((self.host, 1), (donor, 2)):
                self.ip("-n", name, "address", "add", f"10.213.{77 + number}.{last}/30", "dev", link)
                self.ip("-n", name, "link", "set", link, "up")

    def delete(self):
        for name in (self.host, *self.donors):
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, timeout=30)

    @staticmethod
    def ip(*arguments):
        subprocess.run(["ip", *arguments], check=True, timeout=30)

    @staticmethod
    def within(name):
        return ("ip", "netns", "exec", name)

    @staticmethod
    def address(donor=0):
        return f"10.213.{77 + donor}.2:9999"

    def set_link(self, donor, state):
        """up or down: nothing passes, and neither side is told."""
        self.ip("-n", self.donors[donor], "link", "set", f"link{donor}", state)
