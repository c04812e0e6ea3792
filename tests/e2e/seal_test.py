"""`--seal`: the guest keeps its memory, donors cannot read it, and one that lies about it is found out."""

import os
import re
import subprocess

from harness import BUILD, Donor, EndToEndTest, Guest, read_text, wait_until

LYING_DONOR = BUILD / "bin" / "lying_donor"
SECRET = "the-guest-wrote-this"
# Fills 32 MiB with the secret, then pushes it out with what it works on, and stays.
WRITE_AND_STAY = (f"busybox yes {SECRET} | busybox head -c 33554432 > /tmp/secret; "
                  "memory_check --mib 128 --passes random; echo GUEST-STAYS; busybox sleep 1000")


def memory_has(pid, text):
    """Whether `text` is somewhere in the memory of a process."""
    wanted = text.encode()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in read_text(f"/proc/{pid}/maps").splitlines():
            first, last = (int(number, 16) for number in line.split()[0].split("-"))
            for at in range(first, last, 1 << 20):
                try:
                    memory.seek(at)
                    if wanted in memory.read(min(1 << 20, last - at)):
                        return True
                except (OSError, ValueError, OverflowError):
                    pass
    return False


class SealTest(EndToEndTest):
    def start_liar(self, lie, after_pages):
        """The address of a donor that tells the truth at first."""
        honest = Donor(self)
        log_path = self.directory / "lying_donor.log"
        with open(log_path, "w") as log:
            self.liar = subprocess.Popen([str(LYING_DONOR), honest.address, lie, str(after_pages)],
                                         stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment)
        self.addCleanup(self.end_liar)
        ready = wait_until("the lying donor", lambda: re.search(r"listening on (\S+)", read_text(log_path)), 20)
        return ready.group(1)

    def end_liar(self):
        self.liar.kill()
        self.liar.wait()

    def tearDown(self):
        if hasattr(self, "liar"):
            self.end_liar()
        super().tearDown()

    def assert_found_out(self, lie, after_pages):
        address = self.start_liar(lie, after_pages)
        guest = Guest(self, run="memory_check --mib 150 --passes random,rewrite,random",
                      options=("--seal", "--protect", "none", "--node", address))
        self.assertEqual(4, guest.finish(), guest.story())
        self.assertIn("a donor changed or rolled back a sealed page: page at guest offset 0x", guest.errors())
        self.assertIn(f"donor {address}", guest.errors())
        self.assertNotIn("GUEST-WRONG", guest.serial())

    def test_a_donor_that_lies_is_named_and_the_copy_on_disk_is_read(self):
        address = self.start_liar("flipped", 0)
        guest = Guest(self, run="memory_check --mib 150 --passes random", options=("--seal", "--node", address))
        self.assert_verified(guest, 150)
        self.assertGreater(guest.report()["bad_seals"], 0)
        self.assertIn(f"donor {address}", guest.errors())

    def test_guest_keeps_its_memory(self):
        guest = Guest(self, run="memory_check --mib 160 --threads 2", options=("--seal", "--shards", "2"))
        self.assert_verified(guest, 160)
        report = self.assert_paged(guest)
        self.assertTrue(report["sealed"])
        self.assertEqual(0, report["bad_seals"])
        self.assertEqual(0, report["compressed_pages"])
        self.assertIn("sealed", guest.errors())

    def test_with_compression_keeps_its_memory(self):
        guest = Guest(self, run="memory_check --mib 128 --passes random,rewrite",
                      options=("--seal", "--compress", "on"))
        self.assert_verified(guest, 128)
        self.assertTrue(self.assert_paged(guest)["sealed"])

    def test_donor_has_nothing_that_the_guest_wrote(self):
        if os.geteuid() != 0:
            self.skipTest("another process's memory is read as root only")
        for options, found in (((), True), (("--seal",), False)):
            donor = Donor(self)
            guest = Guest(self, run=WRITE_AND_STAY, memory="512M", local="64M",
                          options=("--node", donor.address, "--compress", "off", *options))
            guest.wait_for("GUEST-STAYS", 120)
            self.assertEqual(found, memory_has(donor.process.pid, SECRET), f"with {options}")
            guest.process.terminate()
            guest.process.wait(30)

    def test_donor_that_gives_old_pages_is_found_out(self):
        self.assert_found_out("older", 0)

    def test_donor_that_flips_a_bit_is_found_out(self):
        self.assert_found_out("flipped", 500)
