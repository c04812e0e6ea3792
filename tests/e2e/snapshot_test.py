"""Snapshots and migration: QEMU itself reads or writes all of the guest's RAM, most of which is elsewhere."""

from harness import EndToEndTest, Guest, MIB, Qmp, wait_until

FILLED = 96
# Passes enough: whatever is done to the guest, it is not through with them.
RUN = f"memory_check --mib {FILLED} --passes random,rewrite,random,rewrite,random"
LOCAL = 48


class SnapshotTest(EndToEndTest):
    def guest(self, monitor, *qemu, plain=False):
        return Guest(self, run=RUN, memory="192M", local=f"{LOCAL}M", plain=plain,
                     qemu=("-qmp", f"unix:{self.directory / monitor},server=on,wait=off", *qemu))

    def connect(self, name):
        def attempt():
            try:
                return Qmp(self.directory / name)
            except (FileNotFoundError, ConnectionRefusedError):
                return None

        return wait_until("the monitor", attempt, 60)

    def job(self, qmp, command, **arguments):
        """Runs a QMP job to its end."""
        qmp.execute(command, **{"job-id": "job", **arguments})

        def concluded():
            job = next(job for job in qmp.execute("query-jobs") if job["id"] == "job")
            return job if job["status"] == "concluded" else None

        job = wait_until(command, concluded, 240)
        self.assertNotIn("error", job)
        qmp.execute("job-dismiss", id="job")

    def make_qcow2(self, qmp, size):
        path = str(self.directory / "snapshots.qcow2")
        self.job(qmp, "blockdev-create", options={"driver": "file", "filename": path, "size": 0})
        file = {"driver": "file", "filename": path}
        qmp.execute("blockdev-add", **file, **{"node-name": "file"})
        self.job(qmp, "blockdev-create", options={"driver": "qcow2", "file": "file", "size": size})
        qmp.execute("blockdev-add", **{"driver": "qcow2", "node-name": "snapshots", "file": "file"})
        return path

    def end(self, qmp, guest):
        qmp.execute("quit")
        qmp.close()
        self.assertEqual(0, guest.finish(), guest.story())

    def test_brings_back_what_the_memory_was(self):
        guest = self.guest("qmp")
        qmp = self.connect("qmp")
        self.addCleanup(qmp.close)
        self.make_qcow2(qmp, 64 * MIB)
        places = {"tag": "before", "vmstate": "snapshots", "devices": ["snapshots"]}
        guest.wait_for("GUEST-PROGRESS random")
        self.job(qmp, "snapshot-save", **places)
        seen = guest.serial().count("GUEST-PROGRESS")
        wait_until("a pass after the snapshot", lambda: guest.serial().count("GUEST-PROGRESS") > seen, 120)
        qmp.execute("stop")
        self.job(qmp, "snapshot-load", **places)
        qmp.execute("cont")
        self.assert_verified(guest, FILLED)
        self.assert_paged(guest, LOCAL * MIB)

    def test_of_a_plain_qemu_is_loaded_and_the_guest_migrates_to_a_plain_qemu(self):
        plain = self.guest("plain", plain=True)
        qmp = self.connect("plain")
        snapshots = self.make_qcow2(qmp, 64 * MIB)
        plain.wait_for("GUEST-PROGRESS random")
        self.job(qmp, "snapshot-save", tag="before", vmstate="snapshots", devices=["snapshots"])
        self.end(qmp, plain)
        guest = self.guest("paged", "-loadvm", "before", "-blockdev",
                           f"qcow2,node-name=snapshots,file.driver=file,file.filename={snapshots}")
        guest.wait_for("GUEST-PROGRESS")
        qmp = self.connect("paged")
        state = self.directory / "state"
        qmp.execute("stop")
        qmp.execute("migrate", uri=f"exec:cat > {state}")

        def over():
            status = qmp.execute("query-migrate")["status"]
            self.assertNotIn(status, ("failed", "cancelled"))
            return status == "completed"

        wait_until("the migration", over, 240)
        self.end(qmp, guest)
        self.assert_paged(guest, LOCAL * MIB)
        again = self.guest("again", "-incoming", f"exec:cat {state}", plain=True)
        qmp = self.connect("again")
        wait_until("the state", lambda: qmp.execute("query-status")["status"] == "paused", 120)
        qmp.execute("cont")
        qmp.close()
        self.assert_verified(again, FILLED)
        self.assertNotIn("GUEST-FILLED", guest.serial() + again.serial())  # they went on, and did not begin anew
