"""What `hecaton run` refuses: each with exit status 2 (the user's mistake) or 3 (this machine's), and with words that
tell what was wrong."""

from harness import EndToEndTest

BASE = ("run", "-m", "64M", "--accel", "tcg")
DISPLAY = ("-display", "none", "-nodefaults")


class ArgumentsTest(EndToEndTest):
    def assert_refused(self, arguments, words, statuses=(2,)):
        with self.subTest(arguments=arguments):
            status, said = self.hecaton(*arguments)
            self.assertIn(status, statuses, said)
            self.assertRegex(said, words)

    def test_for_qemu_that_would_break_paging_are_refused_by_name(self):
        for refused, words in (
                (("-m", "512M"), "-m"),
                (("-object", "memory-backend-ram,id=a,size=64M"), "memory-backend"),
                (("-object", "memory-backend-file,id=a,size=64M,mem-path=/tmp/a"), "memory-backend"),
                (("-object", "memory-backend-memfd,id=a,size=64M"), "memory-backend"),
                (("-machine", "pc,memory-backend=a"), "memory-backend"),
                (("-mem-path", "/tmp/a"), "mem-path"),
                (("-mem-prealloc",), "prealloc"),
                (("-overcommit", "mem-lock=on"), "mem-lock"),
                (("-device", "vfio-pci,host=00:01.0"), "vfio-pci"),
                (("-chardev", "socket,id=c,path=/tmp/s", "-device", "vhost-user-fs-pci,chardev=c,tag=t"), "vhost-user"),
                (("-netdev", "vhost-user,id=n,chardev=c"), "vhost-user"),
                (("-incoming", "defer"), "incoming")):
            self.assert_refused((*BASE, "--", *DISPLAY, *refused), words)
            self.assert_refused((*BASE, "--", *["-" + word if word == refused[0] else word for word in refused]), words)

    def test_of_its_own_that_are_malformed_are_refused_by_name(self):
        for arguments, words in (
                (("run", "--", *DISPLAY), "-m"),
                (("run", "-m", "lots", "--", *DISPLAY), "lots"),
                (("run", "-m", "0", "--", *DISPLAY), "-m|size"),
                (("run", "-m", "99999999999999999999G", "--", *DISPLAY), "99999999999999999999G"),
                ((*BASE, "--local", "much", "--", *DISPLAY), "much"),
                ((*BASE, "--local", "0", "--", *DISPLAY), "local"),
                ((*BASE, "--local", "120%", "--", *DISPLAY), "120%|local"),
                ((*BASE, "--node", "127.0.0.1:99999", "--", *DISPLAY), "99999"),
                ((*BASE, "--node", "", "--", *DISPLAY), "node"),
                ((*BASE, "--node", "http://example.invalid", "--", *DISPLAY), "example"),
                (("run", "-m", "64M", "--accel", "hvf", "--", *DISPLAY), "hvf"),
                ((*BASE, "--mode", "magic", "--", *DISPLAY), "magic"),
                ((*BASE, "--prefetch", "maybe", "--", *DISPLAY), "maybe"),
                ((*BASE, "--shards", "some", "--", *DISPLAY), "some"),
                ((*BASE, "--shards", "0", "--", *DISPLAY), "shards"),
                ((*BASE, "--shards", "17", "--", *DISPLAY), "17"),
                ((*BASE, "--compress", "maybe", "--", *DISPLAY), "compress.*maybe"),
                ((*BASE, "--shards", "2", "--shards", "3", "--", *DISPLAY), "--shards is given more than once"),
                ((*BASE, "--name", "--", *DISPLAY), "--name wants a value"),
                ((*BASE, "--frobnicate", "--", *DISPLAY), "frobnicate"),
                (("frobnicate",), "frobnicate")):
            self.assert_refused(arguments, words)

    def test_that_are_empty_are_refused_and_never_taken_for_absent(self):
        for option in ("--nodes", "--local", "--name", "--report", "--qemu"):
            self.assert_refused((*BASE, option, "", "--", *DISPLAY), option + " is empty")

    def test_naming_an_rdma_donor_on_a_machine_without_a_device_tell_what_is_missing(self):
        import os
        if os.path.isdir("/sys/class/infiniband") and os.listdir("/sys/class/infiniband"):
            self.skipTest("this machine has an RDMA device")
        self.assert_refused((*BASE, "--node", "rdma://127.0.0.1", "--", *DISPLAY),
                            "rdma://127.0.0.1:9999.*no RDMA device.*modprobe rdma_rxe", (3,))

    def test_of_qemu_before_the_dashes_are_refused(self):
        self.assert_refused(("run", "-m", "64M", "-hda", "disk.qcow2"), "-hda.*after --")

    def test_naming_a_link_to_no_nodes_file_are_refused(self):
        (self.directory / "cluster_uffd.conf").symlink_to("nowhere")
        self.assert_refused((*BASE, "--", *DISPLAY), "cluster_uffd.conf")

    def test_without_a_place_to_say_anything_still_run(self):
        import subprocess
        from harness import HECATON
        command = [HECATON, *BASE, "--", "-version"]
        with open("/dev/full", "w") as full:
            self.assertEqual(0, subprocess.run(command, stderr=full, cwd=self.directory, timeout=60).returncode)
        closed = subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", *command], cwd=self.directory, timeout=60)
        self.assertEqual(0, closed.returncode)

    def test_whose_output_is_lost_do_not_end_well(self):
        import subprocess
        from harness import HECATON
        with open("/dev/full", "w") as full:
            self.assertEqual(1, subprocess.run([HECATON, "doctor"], stdout=full, timeout=60).returncode)

    def test_naming_a_nodes_file_that_is_malformed_are_refused_with_the_line(self):
        self.write_nodes_file("127.0.0.1:9999", "# fine", "127.0.0.1:port", "[::1")
        status, said = self.hecaton(*BASE, "--", *DISPLAY)
        self.assertEqual(2, status, said)
        self.assertRegex(said, r"cluster_uffd\.conf\D*3")
        self.assertRegex(said, r"cluster_uffd\.conf\D*4")

    def test_naming_a_nodes_file_that_is_not_there_are_refused(self):
        self.assert_refused((*BASE, "--nodes", "no-such-file", "--", *DISPLAY), "no-such-file", (2, 3))

    def test_naming_a_nodes_file_that_is_none_are_refused_in_a_few_harmless_lines(self):
        (self.directory / "disk.img").write_bytes(b"\x1b[2J\x07%\n" * 1000)
        status, said = self.hecaton(*BASE, "--nodes", "disk.img", "--", *DISPLAY)
        self.assertEqual(2, status, said)
        self.assertRegex(said, r"disk\.img:1: .*\n(.*\n)*.*and 990 more lines")
        self.assertNotRegex(said, r"[\x00-\x09\x0b-\x1f]", "what a terminal would obey")
        with open(self.directory / "disk.img", "wb") as image:
            image.truncate(1 << 40)
        self.assert_refused((*BASE, "--nodes", "disk.img", "--", *DISPLAY), "disk.img is 1 TiB large")

    def test_with_a_log_level_that_is_none_still_run_and_warn(self):
        self.environment["HECATON_LOG"] = "verbose"
        status, said = self.hecaton(*BASE, "--", "-version")
        self.assertEqual(0, status, said)
        self.assertEqual(1, said.count("HECATON_LOG=verbose is no level"), said)

    def test_asking_for_more_local_memory_than_the_machine_has_are_warned(self):
        status, said = self.hecaton("run", "-m", "16T", "--local", "15T", "--accel", "tcg", "--", "-version")
        self.assertEqual(0, status, said)
        self.assertRegex(said, "--local 15 TiB is more than the .* this machine has available")

    def test_that_qemu_does_not_know_are_told_by_qemu_alone(self):
        status, said = self.hecaton(*BASE, "--", "-frobnicate")
        self.assertEqual(1, status, said)
        self.assertIn("-frobnicate: invalid option", said)
        self.assertNotIn("the run's figures", said)

    def test_naming_a_qemu_that_is_not_there_are_refused(self):
        self.assert_refused((*BASE, "--qemu", "/no/such/qemu", "--", *DISPLAY), "/no/such/qemu", (2, 3))

    def test_naming_a_qemu_that_is_no_program_are_refused(self):
        plain = self.directory / "plain-file"
        plain.write_text("not a program\n")
        self.assert_refused((*BASE, "--qemu", str(plain), "--", *DISPLAY), "plain-file", (2, 3))

    def test_are_refused_when_no_qemu_is_installed(self):
        self.environment["PATH"] = str(self.temporary)
        self.assert_refused((*BASE, "--", *DISPLAY), "(?i)qemu", (3,))

    def test_naming_a_report_that_cannot_be_written_are_refused(self):
        self.assert_refused((*BASE, "--report", "no-such-folder/report.json", "--", *DISPLAY), "no-such-folder", (2, 3))

    def test_in_an_environment_without_its_runtime_directory_are_refused(self):
        self.environment = {**self.environment, "XDG_RUNTIME_DIR": str(self.directory / "nowhere")}
        self.assert_refused((*BASE, "--", *DISPLAY, "-S"), "XDG_RUNTIME_DIR names no directory", (3,))

    def test_asking_for_kernel_mode_without_its_module_are_refused(self):
        self.assert_refused((*BASE, "--mode", "kernel", "--", *DISPLAY), "(?i)giantvm", (2, 3))

    def test_of_every_verb_may_be_wrong_without_a_token_being_told(self):
        url = "a-token-that-nobody-sees@192.0.2.7"
        for verb in ((), ("run",), ("status", "vm"), ("resume-pager", "vm"), ("pool",), ("pool", "list", "vm"),
                     ("pool", "add", "vm", url), ("doctor",), ("bench", "fault")):
            with self.subTest(verb=verb):
                status, said = self.hecaton(*verb, url)
                self.assertEqual(2, status, said)
                self.assertNotIn("a-token-that-nobody-sees", said)

    def test_naming_a_vm_that_does_not_run_are_refused_alike_by_every_verb(self):
        for verb in (("status",), ("resume-pager",), ("pool", "list"), ("pool", "drain")):
            url = ("192.0.2.7",) if verb[-1] == "drain" else ()
            self.assert_refused((*verb, "nobody", *url), "hecaton.*no VM 'nobody'")

    def test_asking_for_help_are_answered_for_every_verb(self):
        for verb in ((), ("run",), ("status",), ("resume-pager",), ("pool",), ("pool", "add"), ("doctor",), ("bench",)):
            status, said = self.hecaton(*verb, "--help")
            self.assertEqual(0, status, said)
            self.assertIn("--help", said)
        self.assertIn("--prefetch", self.hecaton("help", "run")[1])


class DoctorTest(EndToEndTest):
    def test_names_itself_and_the_word_that_it_does_not_understand(self):
        status, said = self.hecaton("doctor", "everything")
        self.assertEqual(2, status, said)
        self.assertRegex(said, "hecaton doctor: .*everything.*--help")

    def test_is_not_held_up_by_a_nodes_file_that_is_none(self):
        import os
        os.mkfifo(self.directory / "cluster_uffd.conf")
        status, said = self.hecaton("doctor", timeout=30)
        self.assertIn(status, (0, 3), said)
        self.assertIn("cluster_uffd.conf is not a regular file", said)

    def test_tells_whether_memory_mode_can_run(self):
        status, said = self.hecaton("doctor")
        self.assertIn(status, (0, 3), said)
        self.assertIn("userfaultfd", said)

    def test_answers_in_json(self):
        import json
        status, said = self.hecaton("doctor", "--json")
        self.assertIn(status, (0, 3), said)
        self.assertTrue(json.loads(said))
