"""Runs end-to-end tests.

    run.py --list             names of all tests, one a line
    run.py [NAME...]          runs these (a prefix will do), or all

HECATON_BUILD names the build folder under test (build/dev of the project by default).
Exit status: 0, 1 a test failed, 77 every test named was skipped.
"""

import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def short_name(test):
    """guest_test.GuestTest.test_it_boots -> guest.it_boots"""
    module, _, method = test.id().split(".")
    return module.removesuffix("_test") + "." + method.removeprefix("test_")


def main(arguments):
    sys.path.insert(0, str(HERE))
    tests = list(flatten(unittest.defaultTestLoader.discover(str(HERE), pattern="*_test.py")))
    if arguments == ["--list"]:
        print("\n".join(sorted(short_name(test) for test in tests)))
        return 0
    if arguments:
        exact = [test for test in tests if short_name(test) in arguments]
        tests = exact or [test for test in tests if short_name(test).startswith(tuple(arguments))]
    if not tests:
        print("run.py: no such test; see run.py --list", file=sys.stderr)
        return 2
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(unittest.TestSuite(tests))
    if not result.wasSuccessful():
        return 1
    return 77 if len(result.skipped) == len(tests) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
