"""A `hecaton run` whose QEMU is a stand-in (tests/stress/guest_stand_in.cc): it faults at the speed of the machine, which a
guest under TCG does not, and verifies every byte."""

import json
import os
import re
import signal
import subprocess

from harness import BUILD, HECATON, role_of, wait_until

STAND_IN = BUILD / "bin" / "guest_stand_in"


class Run:
    """A `hecaton run` of the stand-in."""

    def __init__(self, test, options=(), memory="64M", local="16M", within=()):
        self.test = test
        self.within = within
        self.name = f"{test.mark}-s{len(test.guests)}"
        self.output_path = test.directory / f"{self.name}.out"
        self.error_path = test.directory / f"{self.name}.err"
        self.report_path = test.directory / f"{self.name}.json"
        test.guests.append(self)
        self.process = self.start("run", "--name", self.name, "-m", memory, "--local", local, "--accel", "tcg", "--qemu",
                                  str(STAND_IN), "--report", str(self.report_path), *options, "--")

    def start(self, *arguments):
        with open(self.output_path, "a") as output, open(self.error_path, "a") as errors:
            return subprocess.Popen([*self.within, str(HECATON), *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
                                    env=self.test.environment, cwd=self.test.directory, start_new_session=True)

    def resume(self):
        old = self.process
        self.process = self.start("resume-pager", self.name)
        self.test.sessions.add(old.pid)

    def find(self, role):
        for pid in self.test.processes():
            if role_of(pid) == role and f"--name\0{self.name}\0" in self.command_of(pid):
                return pid
        return None

    @staticmethod
    def command_of(pid):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                return file.read()
        except OSError:
            return ""

    def pager(self):
        return wait_until("a pager", lambda: self.find("pager"), 60)

    def stand_in(self):
        def find():
            for pid in self.test.processes():
                if role_of(pid) == "guest_stand_in":
                    return pid
            return None
        return wait_until("the stand-in", find, 60)

    def errors(self):
        return self.error_path.read_text() + self.output_path.read_text()

    def story(self):
        return f"--- {self.name} said:\n{self.errors()[-3000:]}"

    def wait_until_paging(self):
        def paging():
            if self.process.poll() is not None:
                raise AssertionError(f"hecaton ended with {self.process.returncode}\n{self.story()}")
            return self.status().get("evicted_pages", 0) > 1000
        wait_until("evictions", paging, 120)

    def status(self):
        done = subprocess.run([str(HECATON), "status", self.name, "--json"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, env=self.test.environment, timeout=60)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def wait_until_it_goes_on(self):
        """Faults are served: more than when this was called."""
        before = self.status().get("faults", 0)
        wait_until("faults that are served", lambda: self.status().get("faults", 0) > before, 60)

    def end(self, timeout=120):
        """Ends the load in good order: (exit status of hecaton, what the stand-in found)."""
        os.kill(self.stand_in(), signal.SIGTERM)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"hecaton does not end\n{self.story()}") from None
        found = re.search(r'^\{"operations".*$', self.output_path.read_text(), re.MULTILINE)
        return status, json.loads(found.group(0)) if found else None


def pauses(kills, waits):
    """For each kill the longest access that it can have made wait, in ms."""
    return sorted(max((ms for end, ms in waits if end > kill and end - ms / 1000 < kill + 0.02), default=0.0)
                  for kill in kills)
