"""Very many: descriptors in QEMU, donors at a pager."""

import os
import shutil
import signal
import subprocess

from harness import HECATON, MIB, EndToEndTest, Guest, raise_descriptor_limit, wait_until

FD_SETSIZE = 1024
DESCRIPTORS = 3000
DONORS = 10_000
# Of a process of donors: a listener and a demand connection each, and the other connections of the pager.
DONORS_IN_A_PROCESS = 5000
DESCRIPTORS_FOR_DONORS = 13_000


class ManyDescriptorsTest(EndToEndTest):
    """The design that Hecaton replaces put a socket for each donor into QEMU. With more than FD_SETSIZE of them, QEMU's
    select() on a TPM's socket wrote past its end. Hecaton's sockets are in the pager; and a QEMU that has thousands of
    descriptors all the same, its user's own, must serve its TPM."""

    GET_RANDOM = r"\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x08"
    # A success, of 20 bytes, with 8 random ones; the kernel's own driver has asked before and got as far as /dev/tpm0.
    ANSWER = r"TPM-SAYS 800100000014000000000008[0-9a-f]{16}\s"

    def start_tpm(self):
        state = self.directory / "tpm"
        state.mkdir()
        control = state / "control"
        tpm = subprocess.Popen(
            ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl", f"type=unixio,path={control}",
             "--terminate"], stdin=subprocess.DEVNULL, env=self.environment)
        self.addCleanup(tpm.wait)
        self.addCleanup(tpm.kill)
        wait_until("the TPM's socket", control.exists, 20)
        return ("-chardev", f"socket,id=tpm,path={control}", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
                "-device", "tpm-tis,tpmdev=tpm0")

    def open_many(self):
        descriptors = [os.open(os.devnull, os.O_RDONLY) for _ in range(DESCRIPTORS)]
        for descriptor in descriptors:
            self.addCleanup(os.close, descriptor)
        return descriptors

    def test_beyond_what_select_can_hold_leave_a_tpm_working(self):
        if not shutil.which("swtpm"):
            self.skipTest("swtpm is not installed: run scripts/setup test")
        if raise_descriptor_limit(DESCRIPTORS + 1000) < DESCRIPTORS + 1000:
            self.skipTest(f"the hard limit of open files (ulimit -Hn) is below {DESCRIPTORS + 1000}")
        ask = (f"exec 3<>/dev/tpm0; echo -ne '{self.GET_RANDOM}' >&3; echo TPM-SAYS $(busybox dd bs=64 count=1 <&3 "
               "2>/dev/null | busybox od -An -v -tx1 | busybox tr -d ' \\n'); exec 3>&-")
        guest = Guest(self, run=f"{ask}; memory_check --mib 100 --passes random,rewrite; {ask}",
                      qemu=self.start_tpm(), descriptors=self.open_many())
        guest.wait_for("GUEST-FILLED")
        self.assert_descriptors_are_high(guest.part("qemu"))
        self.assertEqual(0, guest.finish(), guest.story())
        self.assertIn("GUEST-VERIFIED 100 MiB", guest.serial(), guest.story())
        for said in (guest.serial(), guest.serial().split("GUEST-VERIFIED")[1]):
            self.assertRegex(said, self.ANSWER, guest.story())

    def assert_descriptors_are_high(self, qemu):
        """QEMU has ours, and its own sockets lie above them: without that the test would show nothing."""
        folder = f"/proc/{qemu}/fd"
        sockets = [int(number) for number in os.listdir(folder)
                   if os.readlink(f"{folder}/{number}").startswith("socket:")]
        self.assertGreater(len(os.listdir(folder)), DESCRIPTORS)
        self.assertGreater(max(sockets), FD_SETSIZE, sockets)


class DonorsInAProcess:
    """`count` donors, which are gone with their process."""

    def __init__(self, test, count):
        self.process = subprocess.Popen([str(HECATON), "internal-donors", str(count), str(4 * MIB)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=test.environment,
                                        start_new_session=True)
        test.donors.append(self)
        self.addresses = [f"127.0.0.1:{int(port)}" for port in self.process.stdout.readline().split()]
        self.process.stdout.close()
        test.assertEqual(count, len(self.addresses))

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        return self.process.wait(30)


class ManyDonorsTest(EndToEndTest):
    def test_ten_thousand_serve_a_guest(self):
        if raise_descriptor_limit(DESCRIPTORS_FOR_DONORS) < DESCRIPTORS_FOR_DONORS:
            self.skipTest(f"the hard limit of open files (ulimit -Hn) is below {DESCRIPTORS_FOR_DONORS}")
        while sum(len(donors.addresses) for donors in self.donors) < DONORS:
            DonorsInAProcess(self, DONORS_IN_A_PROCESS)
        self.write_nodes_file(*[address for donors in self.donors for address in donors.addresses])
        # An extent and more for each donor. The guest's kernel uses the first of them: enough to put pages at hundreds
        # of donors, and few enough to be quick.
        guest = Guest(self, run="memory_check --mib 300 --passes random,rewrite", memory="12G", local="128M",
                      append="mem=480M")
        guest.wait_for("GUEST-FILLED")
        self.assertGreaterEqual(self.connections_of(guest.part("pager")), DONORS)
        self.assertLess(len(os.listdir(f"/proc/{guest.part('qemu')}/fd")), 200, "QEMU has none of them")
        self.assert_verified(guest, 300)
        report = self.assert_paged(guest, 128 * MIB)
        self.assertEqual(DONORS, len(report["nodes"]))
        self.assertEqual({"live"}, {node["state"] for node in report["nodes"]})
        self.assertGreater(sum(node["bytes"] > 0 for node in report["nodes"]), 200)
        for donors in self.donors:
            self.assertIsNone(donors.process.poll(), "the donors serve on")

    def connections_of(self, pager):
        folder = f"/proc/{pager}/fd"
        return sum(os.readlink(f"{folder}/{number}").startswith("socket:") for number in os.listdir(folder))
