"""What the end-to-end tests stand on: a `hecaton run` with a guest in it, `hecatond` processes, and the check that a
test leaves nothing behind.

Every process a test starts carries HECATON_TEST=<unique id> in its environment, and so do its descendants: that is how
they are found again, whoever their parent is by then.
"""

import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HECATON_BUILD", ROOT / "build" / "dev"))
HECATON = BUILD / "bin" / "hecaton"
HECATOND = BUILD / "bin" / "hecatond"
KERNEL = ROOT / "build" / "guest" / "kernel" / "vmlinuz"
INITRAMFS = ROOT / "build" / "guest" / "initramfs.gz"
MARK = "HECATON_TEST"
MIB = 1024 * 1024


def wait_until(what, condition, timeout):
    """Polls until condition() is true and returns its value; TimeoutError names `what`."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(0.05)


def read_text(path):
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:
        return ""


def command_line(pid):
    return read_text(f"/proc/{pid}/cmdline").rstrip("\0").split("\0")


def parent_of(pid):
    # The name in field 2 may hold anything, spaces and brackets too: count from the last bracket.
    fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def is_running(pid):
    state = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return bool(state) and state[0] not in "ZX"


def session_of(pid):
    fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[3]) if len(fields) > 3 else 0


def marked_processes(mark, sessions=()):
    """Living processes that carry the mark, or belong to one of the sessions: without privileges, the environment of
    a process that forbids dumps cannot be read."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            marked = wanted in pathlib.Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
        except OSError:
            marked = False
        if (marked or session_of(entry) in sessions) and is_running(entry):
            found.append(int(entry))
    return found


def role_of(pid):
    """supervisor, pager, donor, qemu, or the program's name."""
    arguments = command_line(pid) + [""]
    program = os.path.basename(arguments[0])
    if arguments[1] == "internal-pager":  # started as /proc/self/exe
        return "pager"
    if program == "hecaton":
        return "supervisor" if arguments[1] in ("run", "resume-pager") else "hecaton"
    if program == "hecatond":
        return "donor"
    return "qemu" if program.startswith("qemu-system") else program


class Donor:
    """A `hecatond` of its own, on a loopback port that the kernel chose. `within`: a command that runs it elsewhere."""

    def __init__(self, test, size="1G", options=(), listen="127.0.0.1:0", within=()):
        self.log_path = test.directory / f"hecatond-{len(test.donors)}.log"
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                [*within, str(HECATOND), "--size", size, "--listen", listen, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=test.environment,
                start_new_session=True)
        test.donors.append(self)
        try:
            ready = wait_until("the donor's ready line", self._ready, 20)
        except TimeoutError as slow:
            raise AssertionError(f"{slow}; it said: {self.log()!r}") from None
        self.address = ready.group(1)

    def _ready(self):
        return re.search(r"^hecatond: lending .+ on (\S+)$", self.log(), re.MULTILINE)

    def log(self):
        return read_text(self.log_path)

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        return self.process.wait(30)


class Guest:
    """One `hecaton run`: its guest boots at once. The guest's serial console goes to a file. `within`: a command that
    runs it elsewhere. `descriptors`: numbers of ours that it inherits. `plain`: QEMU alone, without hecaton."""

    def __init__(self, test, run="", memory="256M", local="64M", options=(), qemu=(), append="", start=True, within=(),
                 descriptors=(), plain=False):
        number = len(test.guests)
        self.descriptors = descriptors
        self.test = test
        self.name = f"{test.mark}-{number}"
        self.serial_path = test.directory / f"serial-{number}.log"
        self.error_path = test.directory / f"stderr-{number}.log"
        self.output_path = test.directory / f"stdout-{number}.log"
        self.report_path = test.directory / f"report-{number}.json"
        hecaton = (str(HECATON), "run", "--name", self.name, "-m", memory, "--local", local, "--accel", "tcg",
                   "--report", str(self.report_path), *options, "--")
        self.arguments = [
            *within, *(("qemu-system-x86_64", "-m", memory) if plain else hecaton), "-nodefaults", "-display", "none",
            "-no-reboot", "-serial", f"file:{self.serial_path}", "-kernel", str(KERNEL), "-initrd", str(INITRAMFS),
            "-append", f'console=ttyS0 quiet panic=-1 {append} hecaton.run="{run}"', *qemu]
        test.guests.append(self)
        if start:
            self.start()

    def start(self):
        with open(self.error_path, "w") as errors, open(self.output_path, "w") as output:
            self.process = subprocess.Popen(
                self.arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, pass_fds=self.descriptors,
                env=self.test.environment, cwd=self.test.directory, start_new_session=True)

    def serial(self):
        return read_text(self.serial_path)

    def errors(self):
        """Everything hecaton said."""
        return read_text(self.error_path) + read_text(self.output_path)

    def report(self):
        return json.loads(self.report_path.read_text())

    def wait_for(self, text, timeout=240, said_by=None):
        said_by = said_by or self.serial

        def seen():
            if text in said_by():
                return True
            if self.process.poll() is not None:
                raise AssertionError(f"hecaton ended with {self.process.returncode} before '{text}'\n{self.story()}")
            return False
        try:
            wait_until(f"'{text}'", seen, timeout)
        except TimeoutError as slow:
            raise AssertionError(f"{slow}\n{self.story()}") from None

    def finish(self, timeout=300):
        """The exit status of `hecaton run`, as a shell would show it."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"hecaton did not end within {timeout} s\n{self.story()}") from None
        return status if status >= 0 else 128 - status

    def part(self, role):
        """The process id of the pager, the qemu or the embedded donor of this run."""
        for pid in self.test.processes():
            if parent_of(pid) == self.process.pid and role_of(pid) == role:
                return pid
        raise AssertionError(f"this run has no {role}\n{self.story()}")

    def story(self):
        """All that was said, for the message of a failed test."""
        processes = [f"{pid} {role_of(pid)}" for pid in self.test.processes()]
        return (f"--- hecaton said:\n{self.errors()[-3000:]}\n--- the guest said:\n{self.serial()[-1000:]}\n"
                f"--- processes: {processes}")


class EndToEndTest(unittest.TestCase):
    """A folder, a mark and a name for each test; at its end nothing of it may be left."""

    def setUp(self):
        for program in (HECATON, HECATOND):
            self.assertTrue(program.exists(), f"{program} is not built: run scripts/build")
        base = BUILD / "e2e"
        base.mkdir(exist_ok=True)
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{self._testMethodName[5:45]}.", dir=base))
        self.mark = "e2e" + os.urandom(5).hex()
        self.temporary = self.directory / "tmp"
        self.temporary.mkdir()
        # Short, since sockets lie in it.
        self.runtime = pathlib.Path(tempfile.mkdtemp(prefix="hec"))
        self.environment = dict(os.environ, TMPDIR=str(self.temporary), XDG_RUNTIME_DIR=str(self.runtime))
        self.environment[MARK] = self.mark
        self.guests = []
        self.donors = []
        self.sessions = set()  # of processes whose leader is replaced
        self.addCleanup(shutil.rmtree, self.runtime)
        self.addCleanup(self.end_everything)

    def tearDown(self):
        for donor in self.donors:
            if donor.process.poll() is None:
                donor.kill(signal.SIGTERM)
        self.assert_nothing_left()

    def processes(self):
        """Every living process of this test."""
        sessions = {owner.process.pid for owner in self.guests + self.donors if getattr(owner, "process", None)}
        return marked_processes(self.mark, sessions | self.sessions)

    def end_everything(self):
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for owner in self.guests + self.donors:
            if getattr(owner, "process", None):
                owner.process.wait()

    def assert_nothing_left(self):
        try:
            wait_until("the last process to end", lambda: not self.processes(), 20)
        except TimeoutError:
            left = [f"{pid} {' '.join(command_line(pid))[:150]}" for pid in self.processes()]
            self.fail("processes are left behind:\n" + "\n".join(left) + "\n" + self.stories())
        self.assertEqual([], self.files_left(), "files are left behind")
        self.assertEqual([], self.unix_sockets_left(), "sockets are left behind")

    def files_left(self):
        """Files in our TMPDIR, and anything under the usual places that carries a name of ours."""
        left = [str(path) for folder in (self.temporary, self.runtime) for path in folder.iterdir()]
        for place in ("/tmp", "/run", "/dev/shm", "/var/tmp"):
            for folder, folders, files in os.walk(place):
                if folder.count("/") - place.count("/") >= 2:
                    folders.clear()
                left += [os.path.join(folder, name) for name in files + folders if self.mark in name]
        return left

    def unix_sockets_left(self):
        return [line for line in read_text("/proc/net/unix").splitlines() if self.mark in line]

    def stories(self):
        return "\n".join(guest.story() for guest in self.guests)

    def write_nodes_file(self, *lines):
        (self.directory / "cluster_uffd.conf").write_text("".join(line + "\n" for line in lines))

    def hecaton(self, *arguments, timeout=60, program=HECATON):
        """Runs a command to its end: (exit status, all it said)."""
        done = subprocess.run([program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env=self.environment, cwd=self.directory, timeout=timeout)
        return done.returncode, done.stdout.decode(errors="replace")

    def assert_verified(self, guest, mib, status=0):
        """The guest ran to its end, found all its data, and hecaton says so too."""
        found = guest.finish()
        self.assertEqual(status, found, guest.story())
        self.assertIn(f"GUEST-VERIFIED {mib} MiB", guest.serial(), guest.story())
        self.assertNotIn("GUEST-WRONG", guest.serial(), guest.story())

    def assert_paged(self, guest, local_bytes=64 * MIB):
        """The report says that paging happened, and within the budget."""
        report = guest.report()
        self.assertEqual(local_bytes, report["local_limit_bytes"])
        self.assertLessEqual(report["resident_peak_bytes"], report["local_limit_bytes"], report)
        self.assertGreater(report["evicted_pages"], 0, report)
        self.assertGreater(report["written_back_pages"], 0, report)
        self.assertGreater(report["faults_remote"], 0, report)
        self.assertEqual(0, report["lost_pages"], report)
        return report


def closed_port(test):
    """A loopback port on which nobody listens, nor can as long as the test runs: it is taken."""
    holder = socket.socket()
    test.addCleanup(holder.close)
    holder.bind(("127.0.0.1", 0))
    return holder.getsockname()[1]


class Qmp:
    """A QMP connection to a guest's own monitor socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(path))
        self.stream = self.socket.makefile("rw")
        self.stream.readline()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command, **arguments):
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.stream.flush()
        while True:
            answer = json.loads(self.stream.readline())
            if "error" in answer:
                raise AssertionError(f"QMP {command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def close(self):
        self.stream.close()
        self.socket.close()


def raise_descriptor_limit(wanted):
    """Raises this process's limit of open files, for its children too; what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (ValueError, PermissionError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    elif soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
