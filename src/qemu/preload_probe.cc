// Test program: does what QEMU does, as its arguments say, one after the other, and prints what came of it. The test
// preloads libhecaton-qemu.so into it. Descriptor 4 is the memory file.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

extern "C" int __open64_2(const char* path, int flags);

namespace {

constexpr int kRam = 4;
unsigned char* mapped = nullptr;
size_t bytes = 0;

void say(const char* what, bool good) {
  printf("%s %s\n", what, good ? "ok" : strerrorname_np(errno));
}

void map(const char* what, int flags) {
  struct stat file;
  fstat(kRam, &file);
  bytes = static_cast<size_t>(file.st_size);
  // As QEMU: reserve first, then put the file there.
  void* reserved = mmap64(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  errno = 77;
  void* at = mmap64(reserved, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, kRam, 0);
  if (at == MAP_FAILED) return say(what, false);
  printf("%s ok%s\n", what, errno == 77 ? "" : ", errno lost");
  if (flags == MAP_SHARED) mapped = static_cast<unsigned char*>(at);
}

void try_open(const std::string& path, const char* what, int fd) {
  if (fd < 0) return say((std::string(what) + " " + path).c_str(), false);
  printf("%s %s ok%s\n", what, path.c_str(), fcntl(fd, F_GETFL) & O_DIRECT ? ", direct" : "");
  close(fd);
}

void create(const char* path) {
  umask(0);
  int fd = open64(path, O_CREAT | O_RDWR | O_DIRECT, 0640);
  struct stat file;
  if (fd < 0 || fstat(fd, &file) != 0) return say("create", false);
  printf("create %o\n", file.st_mode & 0777);
  fcntl(fd, F_SETFL, O_DIRECT | O_APPEND);
  int flags = fcntl(fd, F_GETFL);
  printf("setfl%s%s\n", flags & O_APPEND ? " append" : "", flags & O_DIRECT ? " direct" : "");
  close(fd);
}

// Sends descriptor `fd` to ourselves, and tells whether what arrived has O_DIRECT.
void share(const char* what, int fd) {
  int ends[2];
  socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
  char byte = 'x';
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  say(what, sendmsg(ends[0], &header, 0) == 1);
  close(ends[0]);
  close(ends[1]);
}

void run(const std::string& verb, const char* value) {
  if (verb == "map") map("map", MAP_SHARED);
  if (verb == "map-again") map("map-again", MAP_SHARED | MAP_NORESERVE);
  if (verb == "map-private") map("map-private", MAP_PRIVATE);
  if (verb == "read") printf("read %u\n", mapped[strtoul(value, nullptr, 0)]);
  if (verb == "write") mapped[strtoul(value, nullptr, 0)] = 0xee;
  if (verb == "huge") say("huge", madvise(mapped, bytes, MADV_HUGEPAGE) == 0);
  if (verb == "merge") say("merge", madvise(mapped, bytes, MADV_MERGEABLE) == 0);
  if (verb == "move") say("move", mremap(mapped, bytes, 2 * bytes, MREMAP_MAYMOVE) != MAP_FAILED);
  if (verb == "open") try_open(value, "open", open64(value, O_RDONLY | O_DIRECT));
  if (verb == "open_2") try_open(value, "open_2", __open64_2(value, O_RDONLY | O_DIRECT));
  if (verb == "openat") try_open(value, "openat", openat64(AT_FDCWD, value, O_RDONLY | O_DIRECT));
  if (verb == "create") create(value);
  if (verb == "direct") printf("direct %d\n", (fcntl(atoi(value), F_GETFL) & O_DIRECT) != 0);
  if (verb == "share") share("share", atoi(value));
  if (verb == "environment")
    printf("environment%s%s\n", getenv("LD_PRELOAD") ? " LD_PRELOAD" : "",
           getenv("HECATON_PRELOAD") ? " HECATON_PRELOAD" : "");
  if (verb == "cloexec") printf("cloexec %d\n", fcntl(atoi(value), F_GETFD) & FD_CLOEXEC);
  if (verb == "exec") execlp(value, value, "map", "read=0", nullptr);
  fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::string verb = argv[i];
    size_t equals = verb.find('=');
    run(verb.substr(0, equals), equals == std::string::npos ? "" : argv[i] + equals + 1);
  }
}
