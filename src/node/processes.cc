#include "node/processes.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

#include "base/check.h"

namespace hecaton::node {
namespace {

bool read_step(int line, char wanted) {
  char got = 0;
  return read(line, &got, 1) == 1 && got == wanted;
}
bool write_step(int line, char step) {
  return send(line, &step, 1, MSG_NOSIGNAL) == 1;
}

constexpr int64_t kEndsTogetherMs = 5000;

// Which of a node's errors say that no node can run on this machine, or not for this user.
bool cannot_run_here(const Error& error) {
  return error.code == ErrorCode::kUnsupported || error.code == ErrorCode::kPermission;
}

[[noreturn]] void give_up(size_t number, Shared::OfNode& mine, const Error& error, std::string problem) {
  if (problem.empty()) problem = error.describe();
  std::snprintf(mine.why.data(), mine.why.size(), "%s", problem.c_str());
  std::fprintf(stderr, "node %zu: %s\n", number, problem.c_str());
  _exit(cannot_run_here(error) ? kExitSkipped : 1);
}

// A node's process, from fork to end. Threads that sleep in guest memory end with it.
[[noreturn]] void live(NodeConfig config, TcpListener listener, int line, Shared& shared, const Processes::Body& body) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const size_t number = config.self.value;
  Shared::OfNode& mine = shared.nodes[number];
  std::atomic<bool> ending{false};
  config.on_stop = [&](const StopReason& reason) {
    std::snprintf(mine.why.data(), mine.why.size(), "%s", reason.describe().c_str());
    mine.stopped_ns.store(monotonic_ns());
    if (!ending.load()) _exit(kExitStopped);
  };
  std::string problem;
  Result<std::unique_ptr<Node>> started = Node::start(config, std::move(listener), &problem);
  if (!started.ok()) give_up(number, mine, started.error(), problem);
  Node& node = **started;
  if (!write_step(line, 'r') || !read_step(line, 'g')) _exit(1);
  Result<uint64_t> result = body(node, number);
  if (!result.ok()) give_up(number, mine, result.error(), "");
  mine.result.store(*result);
  if (!write_step(line, 'd')) _exit(1);
  char step = 0;
  while (read(line, &step, 1) == 1 && step == 'l') {
    std::memcpy(shared.memory.data(), node.memory(), std::min(sizeof shared.memory, node.bytes()));
    if (!write_step(line, 'l')) _exit(1);
  }
  // Step e: the end of any of them is what is expected from here on. Once that holds for all, they end.
  ending.store(true);
  mine.stats = node.stats();
  if (!write_step(line, 'e') || !read_step(line, 'x')) _exit(1);
  node.stop();
  _exit(0);
}

}  // namespace

Result<std::unique_ptr<Processes>> Processes::start(NodeConfig config, const Body& body, std::string* problem) {
  std::unique_ptr<Processes> all(new Processes);
  std::string why;
  const Result<void> connected = all->connect(std::move(config), body, &why);
  if (connected.ok()) return all;
  if (problem) *problem = why.empty() ? connected.error().describe() : why;
  return connected.error();
}

Result<void> Processes::connect(NodeConfig config, const Body& body, std::string* problem) {
  const size_t nodes = config.pages.size();
  HEC_CHECK(nodes <= kMostProcesses);
  void* shared = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return system_error("memory for results");
  shared_ = new (shared) Shared;
  std::vector<TcpListener> listeners;
  for (size_t i = 0; i < nodes; ++i) {
    listeners.push_back(HEC_TRY(TcpListener::listen(NodeUrl{.token = {}, .host = "127.0.0.1", .port = 0})));
    config.nodes.push_back(listeners.back().address());
  }
  for (size_t i = 0; i < nodes; ++i) HEC_TRY(fork_node(config, i, listeners, body));
  // Each has its own. With copies here, the port of a dead node would take connections that nobody answers.
  listeners.clear();
  if (hear_all('r', Deadline::after_ms(config.start_ms))) return {};
  return not_connected(problem);
}

Result<void> Processes::fork_node(NodeConfig& config, size_t number, std::vector<TcpListener>& listeners,
                                  const Body& body) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return system_error("socketpair");
  Child child;
  child.line.reset(ends[0]);
  OwnedFd theirs(ends[1]);
  config.self = NodeId(number);
  child.pid = fork();
  if (child.pid < 0) return system_error("fork");
  if (child.pid == 0) {
    for (Child& other : children_) other.line.reset();
    child.line.reset();
    TcpListener own = std::move(listeners[number]);
    listeners.clear();
    live(config, std::move(own), theirs.get(), *shared_, body);
  }
  children_.push_back(std::move(child));
  return {};
}

Error Processes::not_connected(std::string* problem) {
  for (size_t i = 0; i < children_.size(); ++i) {
    const std::string end = end_of(i);
    if (end.empty()) continue;
    *problem = fmt::format("node {} ended before all nodes were connected: {}", i, end);
    return Error{skipped(Deadline::after_ms(0)) ? ErrorCode::kUnsupported : ErrorCode::kClosed, 0,
                 "a node ended before all nodes were connected"};
  }
  return Error{ErrorCode::kTimeout, 0, "the nodes did not connect"};
}

Processes::~Processes() {
  for (size_t i = 0; i < children_.size(); ++i) {
    if (children_[i].status != -1) continue;
    kill(i);
    waitpid(children_[i].pid, nullptr, 0);
  }
  if (shared_) munmap(shared_, sizeof(Shared));
}

bool Processes::hear(Child& child, char step, Deadline by) {
  pollfd waiting{child.line.get(), POLLIN, 0};
  return ::poll(&waiting, 1, by.remaining_ms()) == 1 && read_step(child.line.get(), step);
}

bool Processes::hear_all(char step, Deadline by) {
  std::array<bool, kMostProcesses> said{};
  std::array<pollfd, kMostProcesses> lines{};
  for (size_t missing = children_.size(); missing > 0;) {
    for (size_t i = 0; i < children_.size(); ++i) lines[i] = {children_[i].line.get(), POLLIN, 0};
    const int ready = ::poll(lines.data(), children_.size(), by.remaining_ms());
    if (ready < 0 ? errno != EINTR : ready == 0 && by.passed()) return false;
    for (size_t i = 0; ready > 0 && i < children_.size(); ++i) {
      if (lines[i].revents == 0) continue;
      // Whoever has said it waits for our answer: what its line has to tell is its end.
      if (said[i] || !read_step(children_[i].line.get(), step)) return false;
      said[i] = true;
      --missing;
    }
  }
  return true;
}

void Processes::say(Child& child, char step) {
  (void)write_step(child.line.get(), step);
}

void Processes::go() {
  for (Child& child : children_) say(child, 'g');
}

bool Processes::all_done(Deadline by) {
  return hear_all('d', by);
}

bool Processes::look_and_end(Deadline by) {
  say(children_[0], 'l');
  if (!hear(children_[0], 'l', by)) return false;
  for (Child& child : children_) {
    say(child, 'e');
    if (!hear(child, 'e', by)) return false;
  }
  for (Child& child : children_) say(child, 'x');
  bool well = true;
  for (size_t i = 0; i < children_.size(); ++i) well = status_of(i, by) == 0 && well;
  return well;
}

void Processes::kill(size_t node) {
  ::kill(children_[node].pid, SIGKILL);
}

int Processes::status_of(size_t node, Deadline by) {
  Child& child = children_[node];
  // Its end of the line closes with it.
  while (child.status == -1) {
    pollfd waiting{child.line.get(), POLLIN, 0};
    if (::poll(&waiting, 1, by.remaining_ms()) != 1) return -1;
    char step;
    if (read(child.line.get(), &step, 1) > 0) continue;
    int status = 0;
    if (waitpid(child.pid, &status, 0) == child.pid) child.status = status;
  }
  return child.status;
}

bool Processes::skipped(Deadline by) {
  for (size_t i = 0; i < children_.size(); ++i) {
    const int status = status_of(i, by);
    if (status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == kExitSkipped) return true;
  }
  return false;
}

std::string Processes::end_of(size_t node) {
  const int status = status_of(node, Deadline::after_ms(0));
  if (status == -1) return "";
  if (WIFSIGNALED(status)) return fmt::format("signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
  const char* why = shared_->nodes[node].why.data();
  return *why != '\0' ? why : fmt::format("exit status {}", WEXITSTATUS(status));
}

std::string Processes::ends() {
  std::string text;
  bool any = false;
  for (size_t i = 0; i < children_.size(); ++i) any = status_of(i, Deadline::after_ms(0)) != -1 || any;
  // One end causes the others, and may be seen after them: of a process that is killed, connections may close first.
  const auto by = Deadline::after_ms(kEndsTogetherMs);
  for (size_t i = 0; any && i < children_.size(); ++i) (void)status_of(i, by);
  for (size_t i = 0; i < children_.size(); ++i) {
    const std::string end = end_of(i);
    if (!end.empty()) text += fmt::format("{}node {} ended: {}", text.empty() ? "" : "; ", i, end);
  }
  return text;
}

}  // namespace hecaton::node
