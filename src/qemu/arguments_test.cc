#include "qemu/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/units.h"

namespace hecaton {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Words = std::vector<std::string>;

std::vector<ArgumentProblem> problems_of(const Words& arguments) {
  return check_arguments(arguments);
}

void expect_refused(const Words& arguments, const char* reason) {
  for (bool double_dash : {false, true}) {
    Words words = arguments;
    if (double_dash && words[0].starts_with("-")) words[0] = "-" + words[0];
    auto problems = problems_of(words);
    ASSERT_EQ(1u, problems.size()) << testing::PrintToString(words);
    EXPECT_THAT(problems[0].argument, HasSubstr(words[0]));
    EXPECT_THAT(problems[0].argument, HasSubstr(words.back()));
    EXPECT_THAT(problems[0].reason, HasSubstr(reason)) << testing::PrintToString(words);
    EXPECT_FALSE(problems[0].instead.empty());
  }
}

void expect_accepted(const Words& arguments) {
  auto problems = problems_of(arguments);
  EXPECT_TRUE(problems.empty()) << problems[0].argument << ": " << problems[0].reason;
}

TEST(QemuArguments, ThatMakeOrKeepMemoryAreRefused) {
  expect_refused({"-m", "512M"}, "hecaton makes the guest's RAM");
  expect_refused({"-m", "size=1G,slots=2,maxmem=4G"}, "hecaton makes the guest's RAM");
  expect_refused({"-mem-path", "/dev/hugepages"}, "RAM");
  expect_refused({"-mem-prealloc"}, "resident");
  expect_refused({"-object", "memory-backend-ram,id=a,size=64M"}, "not be paged");
  expect_refused({"-object", "memory-backend-file,id=a,size=64M,mem-path=/tmp/a,prealloc=on"}, "not be paged");
  expect_refused({"-object", "qom-type=memory-backend-memfd,id=a,size=64M"}, "not be paged");
  expect_refused({"-object", R"({"qom-type":"memory-backend-memfd","id":"a","size":1})"}, "not be paged");
  expect_refused({"-object", "{'qom-type': 'memory-backend-memfd', 'id': 'a'}"}, "not be paged");
  expect_refused({"-machine", "pc,memory-backend=a"}, "not be paged");
  expect_refused({"-M", "memory-backend=a"}, "not be paged");
  expect_refused({"-machine", R"({"type":"q35","memory-backend":"a"})"}, "not be paged");
  expect_refused({"-machine", "q35,memory.size=1G"}, "RAM");
  expect_refused({"-machine", R"({"memory":{"size":1073741824}})"}, "RAM");
  expect_refused({"-numa", "node,memdev=a"}, "not be paged");
  expect_refused({"-numa", "node,mem=128M,cpus=0-1"}, "not be paged");
  expect_refused({"-overcommit", "mem-lock=on"}, "resident");
  expect_refused({"-overcommit", "cpu-pm=on,mem-lock=on-fault"}, "resident");
  expect_refused({"-realtime", "mlock=on"}, "resident");
  expect_refused({"-device", "virtio-mem-pci,memdev=a,prealloc=on"}, "resident");
}

TEST(QemuArguments, ThatLetOthersTouchMemoryAreRefused) {
  expect_refused({"-device", "vhost-user-fs-pci,chardev=c,tag=t"}, "vhost-user");
  expect_refused({"-device", "driver=vhost-user-blk-pci,chardev=c"}, "vhost-user");
  expect_refused({"-device", R"({"driver":"vhost-user-blk-pci","chardev":"c"})"}, "vhost-user");
  expect_refused({"-netdev", "vhost-user,id=n,chardev=c"}, "vhost-user");
  expect_refused({"-netdev", "type=vhost-user,id=n,chardev=c"}, "vhost-user");
  expect_refused({"-netdev", "passt,id=n,vhost-user=on"}, "vhost-user");
  expect_refused({"-nic", "vhost-user,chardev=c"}, "vhost-user");
  expect_refused({"-net", "vhost-user"}, "vhost-user");
  expect_refused({"-object", "cryptodev-vhost-user,id=c,chardev=d"}, "vhost-user");
  expect_refused({"-netdev", "vhost-vdpa,id=n,vhostdev=/dev/vhost-vdpa-0"}, "vDPA");
  expect_refused({"-device", "vhost-vdpa-device-pci,vhostdev=/dev/vhost-vdpa-0"}, "vDPA");
  expect_refused({"-device", "vhost-scsi-pci,wwpn=naa.1"}, "vhost-scsi");
  expect_refused({"-device", "vfio-pci,host=00:01.0"}, "passed-through");
  expect_refused({"-device", R"({"driver":"vfio-pci","host":"00:01.0"})"}, "passed-through");
  expect_refused({"-object", "iommufd,id=i"}, "passed-through");
  expect_refused({"-device", "vfio-user-pci,socket=/tmp/s"}, "emulates");
  expect_refused({"-device", "x-pci-proxy-dev,id=d,fd=4"}, "emulates");
  expect_refused({"-device", "scsi-generic,drive=d"}, "SCSI");
  expect_refused({"-device", "scsi-block,drive=d"}, "SCSI");
  expect_refused({"-device", "virtio-blk-pci,drive=d,scsi=on"}, "SCSI");
  expect_refused({"-device", "pvrdma,netdev=n"}, "RDMA");
  expect_refused({"-device", "virtio-gpu-gl-pci,blob=on,hostmem=1G"}, "blob");
  expect_refused({"-device", "virtio-vga,blob=true"}, "blob");
  expect_refused({"-device", R"({"driver":"virtio-vga","blob":true})"}, "blob");
  expect_refused({"-global", "virtio-gpu-device.blob=on"}, "blob");
  expect_refused({"-global", "driver=virtio-gpu-device,property=blob,value=on"}, "blob");
  expect_refused({"-set", "device.gpu.blob=on"}, "blob");
  expect_refused({"-object", "sev-guest,id=s,cbitpos=47"}, "encrypted");
  expect_refused({"-machine", "q35,confidential-guest-support=s"}, "encrypted");
}

TEST(QemuArguments, ThatLetDisksWriteBehindThePagerAreRefused) {
  expect_refused({"-drive", "file=nvme://0000:01:00.0/1,if=virtio"}, "disk");
  expect_refused({"-drive", "if=none,file.driver=nvme,file.device=0000:01:00.0"}, "disk");
  expect_refused({"-drive", R"(if=virtio,file=json:{"driver":"raw",,"file":{"driver":"nvme"}})"}, "disk");
  expect_refused({"-blockdev", "nvme,node-name=n,device=0000:01:00.0,namespace=1"}, "disk");
  expect_refused({"-blockdev", R"({"driver":"raw","file":{"driver":"nvme","device":"0000:01:00.0"}})"}, "disk");
  expect_refused({"-blockdev", "driver=virtio-blk-vhost-vdpa,node-name=n,path=/dev/vhost-vdpa-0"}, "disk");
  expect_refused({"-hda", "nvme://0000:01:00.0/1"}, "disk");
  auto problems = problems_of({"nvme://0000:01:00.0/1"});
  EXPECT_EQ(1u, problems.size());
}

TEST(QemuArguments, ThatTakeTheVmOutOfHecatonsHandsAreRefused) {
  expect_refused({"-accel", "kvm"}, "accelerator");
  expect_refused({"-enable-kvm"}, "accelerator");
  expect_refused({"-machine", "q35,accel=kvm:tcg"}, "accelerator");
  expect_refused({"-incoming", "defer"}, "migration");
  expect_refused({"-daemonize"}, "ends");
  expect_refused({"-readconfig", "vm.cfg"}, "checked");
  expect_refused({"-xen-domid", "3"}, "Xen");
  expect_refused({"-xen-attach"}, "Xen");
  expect_refused({"-M", "xenfv"}, "Xen");
}

TEST(QemuArguments, OfAnOrdinaryGuestAreAccepted) {
  expect_accepted({"-machine", "q35,kernel-irqchip=split", "-cpu", "max", "-smp", "4", "-nodefaults", "-nographic"});
  expect_accepted({"-drive", "file=disk.qcow2,if=virtio,cache=none,aio=native", "-cdrom", "debian.iso", "disk.img"});
  expect_accepted({"-blockdev", R"({"driver":"qcow2","node-name":"d","file":{"driver":"file","filename":"d.qcow2"}})"});
  expect_accepted({"-netdev", "tap,id=n,vhost=on", "-device", "virtio-net-pci,netdev=n", "-device", "vhost-vsock-pci"});
  expect_accepted({"-overcommit", "mem-lock=off,cpu-pm=on", "-realtime", "mlock=off", "-loadvm", "yesterday"});
  expect_accepted({"-device", "virtio-gpu-pci,blob=off", "-device", "virtio-balloon-pci,free-page-reporting=on"});
  expect_accepted({"-numa", "dist,src=0,dst=1,val=20", "-global", "virtio-blk-device.scsi=off", "-S"});
  expect_accepted({"-object", "iothread,id=t", "-object", R"({"qom-type":"iothread","id":"u"})", "-sandbox", "on"});
  expect_accepted({});
}

TEST(QemuArguments, ValuesAreNeverTakenForOptions) {
  expect_accepted({"-append", "-m", "-name", "-incoming", "-kernel", "-daemonize"});
  expect_accepted({"-append", "root=/dev/vda mem-lock=on -m 512M", "-serial", "-device"});
  expect_accepted({"-name", "guest,debug-threads=on", "-fw_cfg", "name=opt/a,string=-m"});
}

TEST(QemuArguments, ThatFollowSwitchesAreSeen) {
  EXPECT_EQ(1u, problems_of({"-nographic", "-m", "512M"}).size());
  EXPECT_EQ(1u, problems_of({"-S", "-s", "-m", "512M"}).size());
}

TEST(QemuArguments, ThatFollowAnUnknownOptionAreSeen) {
  EXPECT_EQ(1u, problems_of({"-some-new-switch", "-m", "512M"}).size());
  EXPECT_EQ(1u, problems_of({"-some-new-option", "value", "-m", "512M"}).size());
}

TEST(QemuArguments, ThatAreRefusedAreAllListedInOrder) {
  auto problems = problems_of({"-m", "1G", "-nographic", "-device", "vfio-pci,host=1:0.0", "--daemonize"});
  ASSERT_EQ(3u, problems.size());
  EXPECT_EQ("-m 1G", problems[0].argument);
  EXPECT_EQ("-device vfio-pci,host=1:0.0", problems[1].argument);
  EXPECT_EQ("--daemonize", problems[2].argument);
}

TEST(QemuArguments, ThatAreMalformedAreLeftToQemu) {
  expect_accepted({"-device"});
  expect_accepted({"-device", ""});
  expect_accepted({"-object", "{"});
  expect_accepted({"-object", "{\"qom-type\":"});
  expect_accepted({"-blockdev", "[]", "-drive", "file=json:", "-machine", ",,,=", "-global", "=.=", "-"});
}

TEST(QemuCommand, HasTheRamExactlyAndTheUsersArgumentsLast) {
  QemuPlan plan{"qemu", 512_MiB, 4, Accel::kTcg, {"-nographic", "-smp", "2"}};
  EXPECT_THAT(
      qemu_command(plan),
      ElementsAre("qemu", "-m", "size=536870912B", "-object",
                  "memory-backend-file,id=pc.ram,x-use-canonical-path-for-ramblock-id=off,size=536870912B,share=on,"
                  "prealloc=off,merge=off,dump=off,mem-path=/proc/self/fd/4",
                  "-machine", "memory-backend=pc.ram", "-accel", "tcg,thread=multi", "-nographic", "-smp", "2"));
}

TEST(QemuCommand, ChoosesTheHostsProcessorOnKvmUnlessTheUserChose) {
  QemuPlan plan{"qemu", 512_MiB, 4, Accel::kKvm, {}};
  EXPECT_THAT(qemu_command(plan), testing::IsSupersetOf({"kvm", "-cpu", "host,vmx=off,svm=off"}));
  plan.arguments = {"--cpu", "max,+avx"};
  EXPECT_THAT(qemu_command(plan), testing::Not(testing::Contains(HasSubstr("host"))));
  EXPECT_EQ(qemu_command(plan).back(), "max,+avx,vmx=off,svm=off");
  plan.arguments = {"-append", "-cpu"};
  EXPECT_THAT(qemu_command(plan), testing::Contains(HasSubstr("host")));
}

TEST(QemuArguments, RefuseNestedGuestsOnKvmOnly) {
  for (const char* nested : {"host,vmx=on", "EPYC,+svm", "max,svm"}) {
    const std::vector<std::string> arguments = {"-cpu", nested};
    EXPECT_EQ(check_kvm_arguments(arguments).size(), 1u) << nested;
    EXPECT_TRUE(check_arguments(arguments).empty()) << nested;
  }
  const std::vector<std::string> plain = {"-cpu", "host,vmx=off", "-append", "-cpu"};
  EXPECT_TRUE(check_kvm_arguments(plain).empty());
}

TEST(QemuCommand, LeavesThreadsToQemuWhenInstructionsAreCounted) {
  QemuPlan plan{"qemu", 512_MiB, 4, Accel::kTcg, {"-icount", "shift=auto"}};
  EXPECT_THAT(qemu_command(plan), testing::Contains("tcg"));
}

}  // namespace
}  // namespace hecaton
