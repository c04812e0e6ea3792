#include "qemu/mode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

namespace hecaton {
namespace {

using testing::HasSubstr;

constexpr QemuAccels kBoth{true, true};

KvmProbe no_kvm() {
  return {};
}
KvmProbe closed_kvm(int error) {
  KvmProbe probe;
  probe.present = true;
  probe.os_error = error;
  return probe;
}
KvmProbe open_kvm(double guest, double native, bool fast) {
  KvmProbe probe;
  probe.present = probe.opens = true;
  probe.api_version = 12;
  probe.guest_loops_per_us = guest;
  probe.native_loops_per_us = native;
  probe.fast = fast;
  return probe;
}
KvmProbe fast_kvm() {
  return open_kvm(1990, 2000, true);
}
KvmProbe slow_kvm() {
  return open_kvm(0.83, 2000, false);
}

template <typename Choice>
void expect(const Decision<Choice>& decision, Choice choice, const char* words) {
  EXPECT_TRUE(decision.ok()) << decision.reason;
  EXPECT_EQ(choice, decision.choice);
  EXPECT_THAT(decision.reason, HasSubstr(words));
}

template <typename Choice>
void expect_failure(const Decision<Choice>& decision, int exit_code, const char* words) {
  EXPECT_EQ(exit_code, decision.exit_code);
  EXPECT_THAT(decision.reason, HasSubstr(words));
}

TEST(ModeDecision, IsMemoryWithoutGiantvm) {
  expect(decide_mode("auto", {}), Mode::kMemory, "no GiantVM");
}

TEST(ModeDecision, IsKernelWhereGiantvmIs) {
  expect(decide_mode("auto", {true, false}), Mode::kKernel, "/dev/giantvm");
  expect(decide_mode("auto", {false, true}), Mode::kKernel, "extension");
  expect(decide_mode("kernel", {true, true}), Mode::kKernel, "/dev/giantvm");
}

TEST(ModeDecision, IsMemoryWhenAskedForEvenWhereGiantvmIs) {
  expect(decide_mode("memory", {true, true}), Mode::kMemory, "asked for");
}

TEST(ModeDecision, RefusesKernelModeWithoutTheModule) {
  expect_failure(decide_mode("kernel", {}), 3, "--mode memory");
}

TEST(ModeDecision, RefusesAggregateModeInThisVersion) {
  expect_failure(decide_mode("aggregate", {true, true}), 3, "use --mode memory");
}

TEST(ModeDecision, RefusesUnknownModesByName) {
  expect_failure(decide_mode("magic", {}), 2, "'magic'");
}

TEST(AccelDecision, TakesKvmThatIsFast) {
  expect(decide_accel("auto", fast_kvm(), kBoth), Accel::kKvm, "fast");
  expect(decide_accel("kvm", fast_kvm(), kBoth), Accel::kKvm, "asked for");
}

TEST(AccelDecision, TakesTcgWhereKvmIsSlowAndSaysHowSlow) {
  expect(decide_accel("auto", slow_kvm(), kBoth), Accel::kTcg, "0.83 times a microsecond, natively 2000");
}

TEST(AccelDecision, TakesTcgWhereTheProbeGuestDidNotRun) {
  expect(decide_accel("auto", open_kvm(0, 2000, false), kBoth), Accel::kTcg, "does not run");
}

TEST(AccelDecision, TakesTcgWithoutKvmAndSaysWhatIsMissing) {
  expect(decide_accel("auto", no_kvm(), kBoth), Accel::kTcg, "no /dev/kvm");
  expect(decide_accel("auto", closed_kvm(EACCES), kBoth), Accel::kTcg, "Permission denied");
  expect(decide_accel("auto", closed_kvm(0), kBoth), Accel::kTcg, "API version");
  expect(decide_accel("auto", fast_kvm(), {false, true}), Accel::kTcg, "without KVM");
}

TEST(AccelDecision, TakesSlowKvmOnlyWhenAskedFor) {
  expect(decide_accel("kvm", slow_kvm(), kBoth), Accel::kKvm, "slow here");
}

TEST(AccelDecision, RefusesKvmThatIsNotThere) {
  expect_failure(decide_accel("kvm", no_kvm(), kBoth), 3, "no /dev/kvm");
  expect_failure(decide_accel("kvm", closed_kvm(EACCES), kBoth), 3, "group kvm");
  expect_failure(decide_accel("kvm", fast_kvm(), {false, true}), 3, "--qemu");
}

TEST(AccelDecision, TakesTcgWhenAskedForEvenWhereKvmIsFast) {
  expect(decide_accel("tcg", fast_kvm(), kBoth), Accel::kTcg, "asked for");
}

TEST(AccelDecision, RefusesWhenQemuHasNothingThatWorks) {
  expect_failure(decide_accel("tcg", fast_kvm(), {true, false}), 3, "without TCG");
  expect_failure(decide_accel("auto", slow_kvm(), {true, false}), 3, "--accel kvm");
  expect_failure(decide_accel("auto", no_kvm(), {true, false}), 3, "no /dev/kvm");
}

TEST(AccelDecision, RefusesUnknownAcceleratorsByName) {
  expect_failure(decide_accel("hvf", fast_kvm(), kBoth), 2, "'hvf'");
}

TEST(QemuAccels, AreReadFromWhatQemuPrints) {
  QemuAccels both = parse_accels("Accelerators supported in QEMU binary:\ntcg\nxen\nkvm\n");
  EXPECT_TRUE(both.kvm && both.tcg);
  QemuAccels tcg = parse_accels("Accelerators supported in QEMU binary:\r\ntcg");
  EXPECT_TRUE(!tcg.kvm && tcg.tcg);
  QemuAccels none = parse_accels("");
  EXPECT_TRUE(!none.kvm && !none.tcg);
}

}  // namespace
}  // namespace hecaton
