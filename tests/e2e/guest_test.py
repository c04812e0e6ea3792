"""Guests whose RAM does not fit: what they wrote is what they read."""

from harness import EndToEndTest, Guest, MIB, Qmp, wait_until

REPORT_KEYS = {
    "mode": str, "accel": str, "guest_ram_bytes": int, "local_limit_bytes": int, "resident_bytes": int,
    "resident_peak_bytes": int, "remote_bytes": int, "faults": int, "faults_zero": int, "faults_remote": int,
    "prefetched_pages": int, "prefetch_used_pages": int, "prefetch_late_faults": int, "prefetch_pauses": int,
    "prefetch_paused": bool, "compression": str, "compressed_pages": int, "wire_bytes_written": int,
    "sealed": bool, "bad_seals": int,
    "evicted_pages": int, "written_back_pages": int, "shards": int,
    "fault_us": dict, "nodes": list, "lost_pages": int, "version": str}


class GuestTest(EndToEndTest):
    def test_the_checker_itself_notices_a_flipped_bit(self):
        guest = Guest(self, run="memory_check --mib 64 --passes random --corrupt 777")
        self.assertEqual(0, guest.finish(), guest.story())
        self.assertIn("GUEST-WRONG page 777 ", guest.serial())
        self.assertNotIn("GUEST-VERIFIED", guest.serial())

    def test_keeps_its_memory_at_an_embedded_donor(self):
        guest = Guest(self, run="memory_check --mib 160 --threads 2")
        self.assert_verified(guest, 160)
        self.assert_paged(guest)

    def test_with_an_eighth_of_its_memory_local_keeps_it_all(self):
        guest = Guest(self, run="memory_check --mib 160 --passes random,rewrite", local="32M")
        self.assert_verified(guest, 160)
        self.assert_paged(guest, 32 * MIB)

    def test_with_two_processors_keeps_its_memory(self):
        guest = Guest(self, run="memory_check --mib 160 --threads 4", qemu=("-smp", "2"))
        self.assert_verified(guest, 160)
        self.assert_paged(guest)

    def test_with_four_shards_keeps_its_memory(self):
        guest = Guest(self, run="memory_check --mib 160 --threads 2 --passes random,rewrite",
                      qemu=("-smp", "2"), options=("--shards", "4"))
        self.assert_verified(guest, 160)
        self.assertEqual(4, self.assert_paged(guest)["shards"])

    def test_on_q35_keeps_its_memory(self):
        guest = Guest(self, run="memory_check --mib 160 --passes rewrite", qemu=("-machine", "q35"))
        self.assert_verified(guest, 160)
        self.assert_paged(guest)

    def test_takes_its_budget_as_a_share(self):
        guest = Guest(self, run="memory_check --mib 100 --passes random", local="25%")
        self.assert_verified(guest, 100)
        self.assert_paged(guest)

    def test_report_has_every_key_and_sane_values(self):
        guest = Guest(self, run="memory_check --mib 150 --passes rewrite")
        self.assert_verified(guest, 150)
        report = self.assert_paged(guest)
        for key, kind in REPORT_KEYS.items():
            self.assertIn(key, report)
            self.assertIsInstance(report[key], kind, key)
        self.assertEqual("memory", report["mode"])
        self.assertEqual("tcg", report["accel"])
        self.assertEqual(256 * MIB, report["guest_ram_bytes"])
        self.assertGreaterEqual(report["faults"], report["faults_remote"] + report["faults_zero"])
        self.assertGreaterEqual(report["prefetched_pages"], report["prefetch_used_pages"])
        self.assertGreaterEqual(report["evicted_pages"], report["written_back_pages"])
        latency = report["fault_us"]
        self.assertTrue(0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"], latency)
        self.assertEqual(1, len(report["nodes"]))
        self.assertEqual({"url", "state", "bytes"}, set(report["nodes"][0]))

    def test_exit_status_is_that_of_qemu(self):
        guest = Guest(self, append="hecaton.qemu_exit=16",
                      qemu=("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"))
        self.assertEqual(33, guest.finish(), guest.story())

    def test_exit_status_is_that_of_a_qemu_that_refuses_its_arguments(self):
        guest = Guest(self, qemu=("-device", "no-such-device"))
        self.assertEqual(1, guest.finish(), guest.story())
        self.assertIn("no-such-device", guest.errors())

    def test_live_line_and_closing_table_name_mode_and_accelerator(self):
        guest = Guest(self, run="memory_check --mib 100 --passes random", options=("--live",))
        self.assert_verified(guest, 100)
        said = guest.errors()
        for word in ("memory", "tcg", "resident", "remote", "p50", "p99"):
            self.assertIn(word, said.lower(), said)


class DeviceTest(EndToEndTest):
    def test_live_line_is_no_wider_than_the_terminal(self):
        import fcntl, os, pty, struct, subprocess, termios
        from harness import HECATON
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
        process = subprocess.Popen(
            [HECATON, "run", "-m", "64M", "--accel", "tcg", "--live", "--", "-nodefaults", "-display", "none"],
            stdin=subprocess.DEVNULL, stderr=theirs, env=self.environment, cwd=self.directory)
        os.close(theirs)
        said = b""
        while said.count(b"| resident") < 2:
            said += os.read(ours, 4096)
        process.terminate()
        self.assertEqual(0, process.wait(30))
        os.close(ours)
        for line in said.decode().split("\r\033[K")[1:-1]:
            self.assertLess(len(line), 40, line)

    def test_disk_with_cache_none_keeps_its_data_while_memory_is_paged(self):
        disk = self.directory / "disk.raw"
        with open(disk, "wb") as image:
            image.truncate(192 * MIB)
        copy = ("mke2fs /dev/vda >/dev/null 2>&1 && mount -t ext4 /dev/vda /mnt && mount -t tmpfs tmp /tmp && "
                "dd if=/dev/urandom of=/tmp/a bs=1M count=48 2>/dev/null && "
                "(memory_check --mib 240 --passes rewrite,random --rounds 2 & "
                "for n in 1 2 3; do dd if=/tmp/a of=/mnt/a$n bs=64k oflag=direct 2>/dev/null; done; sync; "
                "echo 3 >/proc/sys/vm/drop_caches; "
                "for n in 1 2 3; do dd if=/mnt/a$n of=/tmp/b bs=64k iflag=direct 2>/dev/null; "
                "cmp /tmp/a /tmp/b && echo DISK-SAME $n; done; wait)")
        guest = Guest(self, run=copy, memory="512M", local="128M",
                      append="hecaton.modules=virtio_pci,virtio_blk,ext4",
                      qemu=("-drive", f"file={disk},format=raw,if=virtio,cache=none"))
        self.assert_verified(guest, 240)
        self.assert_paged(guest, 128 * MIB)
        for number in (1, 2, 3):
            self.assertIn(f"DISK-SAME {number}", guest.serial(), guest.story())
        said = [line for line in guest.errors().splitlines() if "O_DIRECT" in line]
        self.assertEqual(1, len(said), f"O_DIRECT is to be mentioned once\n{guest.errors()}")

    def test_balloon_takes_memory_and_gives_it_back(self):
        monitor = self.directory / "qmp"
        run = ("memory_check --mib 150 --passes random && echo GUEST-WANTS-BALLOON && "
               "until [ $(grep -o 'balloon_deflate [0-9]*' /proc/vmstat | busybox cut -d' ' -f2) -gt 20000 ]; "
               "do usleep 100000; done; memory_check --mib 160 --seed 2 --passes rewrite")
        run = run.replace("$(grep", "$(busybox grep").replace("do usleep", "do busybox usleep")
        guest = Guest(self, run=run, append="hecaton.modules=virtio_pci,virtio_balloon",
                      qemu=("-device", "virtio-balloon-pci,free-page-reporting=on",
                            "-qmp", f"unix:{monitor},server=on,wait=off"))
        guest.wait_for("GUEST-WANTS-BALLOON")
        qmp = Qmp(monitor)
        self.addCleanup(qmp.close)
        for target in (128 * MIB, 256 * MIB):
            qmp.execute("balloon", value=target)
            wait_until("the balloon", lambda: qmp.execute("query-balloon")["actual"] == target, 60)
        self.assert_verified(guest, 160)
        self.assert_paged(guest)
