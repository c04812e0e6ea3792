"""Guests over TLS: donors with tokens, and what happens where the two sides do not agree."""

import re

from harness import HECATOND, Donor, EndToEndTest, Guest, command_line, read_text

LOAD = "memory_check --mib 160 --passes random,rewrite"


class SecurityTest(EndToEndTest):
    def setUp(self):
        super().setUp()
        self.token_file = self.directory / "token"

    def donor_with_token(self, **options):
        donor = Donor(self, options=("--token-file", str(self.token_file)), **options)
        donor.url = re.search(r"^hecatond: pair with +(\S+)$", donor.log(), re.MULTILINE).group(1)
        return donor

    def token(self):
        return self.token_file.read_text().strip()

    def guest(self, *options, run=LOAD):
        return Guest(self, run=run, memory="256M", local="64M", options=options)

    def private_nodes_file(self, *lines):
        path = self.directory / "donors.conf"
        path.write_text("".join(line + "\n" for line in lines))
        path.chmod(0o600)
        return path

    def assert_token_stays_secret(self, guest):
        """While the guest runs: in no process's arguments or environment, and in nothing that was said."""
        token = self.token()
        for pid in self.processes():
            self.assertNotIn(token, " ".join(command_line(pid)))
            self.assertNotIn(token, read_text(f"/proc/{pid}/environ"))
        self.assertNotIn(token, guest.errors())

    def test_a_guest_runs_on_donors_that_want_a_token(self):
        donors = [self.donor_with_token(), self.donor_with_token()]
        self.assertIn(self.token(), donors[0].url)
        nodes = self.private_nodes_file("# two machines", *[donor.url for donor in donors])
        self.environment["HECATON_LOG"] = "debug"
        guest = self.guest("--nodes", str(nodes), run=LOAD + " --forever")
        guest.wait_for("GUEST-FILLED")
        self.assert_token_stays_secret(guest)
        guest.process.terminate()
        guest.finish()
        report = guest.report_path.read_text()
        self.assertNotIn(self.token(), report)
        self.assertGreater(guest.report()["evicted_pages"], 0)
        self.assertNotIn("GUEST-WRONG", guest.serial())

    def test_a_guest_verifies_its_memory_over_tls(self):
        donor = self.donor_with_token()
        guest = self.guest("--node", donor.address, "--token-file", str(self.token_file))
        self.assert_verified(guest, 160)
        report = self.assert_paged(guest, local_bytes=64 * 1024 * 1024)
        self.assertEqual(donor.address, report["nodes"][0]["url"].removeprefix("hecaton://"))

    def test_a_nodes_file_with_tokens_that_others_can_read_is_refused(self):
        nodes = self.private_nodes_file("hecaton://a-token-of-some-length@127.0.0.1:1")
        nodes.chmod(0o644)
        guest = self.guest("--nodes", str(nodes))
        self.assertEqual(2, guest.finish(30), guest.story())
        self.assertIn(f"chmod 600 {nodes}", guest.errors())
        self.assertNotIn("a-token-of-some-length", guest.errors())

    def test_a_nodes_file_without_tokens_may_be_read_by_all(self):
        donor = Donor(self, size="512M")
        nodes = self.private_nodes_file(donor.address)
        nodes.chmod(0o644)
        guest = self.guest("--nodes", str(nodes), run="true")
        self.assertEqual(0, guest.finish(60), guest.story())

    def test_a_wrong_token_is_told_and_not_repeated(self):
        donor = self.donor_with_token()
        guest = self.guest("--node", f"hecaton://not-the-token-of-that-donor@{donor.address}")
        self.assertEqual(3, guest.finish(30), guest.story())
        self.assertIn("does not accept this token", guest.errors())
        self.assertNotIn("not-the-token-of-that-donor", guest.errors())

    def test_a_donor_with_a_token_tells_a_host_without_that_it_wants_one(self):
        donor = self.donor_with_token()
        guest = self.guest("--node", donor.address)
        self.assertEqual(3, guest.finish(30), guest.story())
        self.assertIn("wants TLS", guest.errors())
        self.assertIn("--token-file", guest.errors())

    def test_a_host_with_a_token_is_told_that_the_donor_uses_none(self):
        donor = Donor(self, size="512M")
        guest = self.guest("--node", f"hecaton://a-token-of-some-length@{donor.address}")
        self.assertEqual(3, guest.finish(30), guest.story())
        self.assertIn("does not use TLS", guest.errors())

    def test_tokens_in_wrong_arguments_are_not_repeated(self):
        for options in (["--node", "hecaton://a-token-of-some-length@host:0"], ["hecaton://a-token-of-some-length@host"],
                        ["--node", "rdma://a-token-of-some-length@127.0.0.1"], ["--node", "short@127.0.0.1"],
                        ["--token-file", "/no/such/file", "--node", "127.0.0.1"], ["--token-file", str(self.token_file)]):
            guest = self.guest(*options)
            self.assertEqual(2, guest.finish(30), guest.story())
            self.assertNotIn("a-token-of-some-length", guest.errors())

    def test_off_loopback_hecatond_wants_a_token_or_the_word_insecure(self):
        status, said = self.hecaton("--size", "64M", "--listen", "0.0.0.0:0", program=HECATOND)
        self.assertEqual(2, status)
        self.assertIn("--token-file", said)
        self.assertIn("--insecure", said)
