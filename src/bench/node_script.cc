#include "bench/node_script.h"

#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <new>

#include "base/clock.h"
#include "bench/options.h"
#include "node/processes.h"
#include "os/memory.h"
#include "os/scheduling.h"

namespace hecaton::bench {
namespace {

// A step takes tens of microseconds; beside busy programs, a slice or two of the scheduler.
constexpr int64_t kTookTooLongMs = 120'000, kStepTookTooLongMs = 10;
// As short as can be: who has the page is done with it, as the script has it.
constexpr int64_t kHoldNs = 1;
// A node that ends is known by its connections; one that is only kept from running for a while is to go on.
constexpr int64_t kSilenceMs = 10'000;

// In memory that all nodes share, with how long each step took behind it.
struct Board {
  std::atomic<uint64_t> turn{0};
};

// Whose turn it is, on the board; and a signal for each node that sleeps until it is its own.
class Turns {
 public:
  static Result<Turns> create(size_t nodes, Board& board) {
    Turns turns(board);
    turns.sleeps_ = nodes > usable_processors().size();
    for (size_t i = 0; i < nodes; ++i) {
      turns.signals_.emplace_back(eventfd(0, EFD_CLOEXEC));
      if (!turns.signals_.back().valid()) return system_error("eventfd");
    }
    return turns;
  }
  void wait_for(uint64_t turn, size_t node) {
    uint64_t count;
    while (board_->turn.load() != turn) {
      if (!sleeps_) {
        sched_yield();
      } else if (read(signals_[node].get(), &count, sizeof count) < 0 && errno != EINTR) {
        return;
      }
    }
  }
  void begin(uint64_t turn, size_t node, size_t last) {
    board_->turn.store(turn);
    const uint64_t one = 1;
    if (sleeps_ && node != last) (void)!write(signals_[node].get(), &one, sizeof one);
  }

 private:
  explicit Turns(Board& board) : board_(&board) {}
  Board* board_;
  std::vector<OwnedFd> signals_;
  bool sleeps_ = false;
};

// Each write puts the number of its step there, counted from 1; what each read must find.
std::vector<uint64_t> expected_of(const NodeScript& script) {
  uint64_t pages = 0;
  for (uint64_t count : script.pages) pages += count;
  std::vector<uint64_t> last(pages, 0), expected;
  for (size_t i = 0; i < script.steps.size(); ++i) {
    const NodeStep& step = script.steps[i];
    expected.push_back(last[step.page]);
    if (step.writes) last[step.page] = i + 1;
  }
  return expected;
}

// One node's part. The number of its reads that were wrong.
uint64_t play(const NodeScript& script, const std::vector<uint64_t>& expected, std::byte* memory, size_t number,
              Turns& turns, int64_t* took_ns) {
  const std::vector<unsigned> processors = usable_processors();
  if (!processors.empty()) (void)run_only_on(processors[number % processors.size()]);
  uint64_t wrong = 0;
  for (size_t i = 0; i < script.steps.size(); ++i) {
    const NodeStep& step = script.steps[i];
    if (step.node != number) continue;
    turns.wait_for(i, number);
    volatile uint64_t* word = reinterpret_cast<volatile uint64_t*>(memory + step.page * kPageBytes);
    const int64_t start_ns = monotonic_ns();
    if (step.writes) {
      *word = i + 1;
    } else if (*word != expected[i]) {
      ++wrong;
    }
    took_ns[i] = monotonic_ns() - start_ns;
    turns.begin(i + 1, i + 1 < script.steps.size() ? script.steps[i + 1].node : number, number);
  }
  return wrong;
}

Error did_not_end(node::Processes& nodes, std::string* problem) {
  const std::string ends = nodes.ends();
  *problem = ends.empty() ? "the nodes of the benchmark took too long" : "a node of the benchmark is lost: " + ends;
  return ends.empty() ? Error{ErrorCode::kTimeout, 0, "the nodes took too long"}
                      : Error{ErrorCode::kClosed, 0, "a node is lost"};
}

}  // namespace

Result<ScriptResult> run_script(const NodeScript& script, std::string* problem) {
  const size_t steps = script.steps.size();
  const size_t bytes = sizeof(Board) + steps * sizeof(int64_t);
  OwnedFd memfd = HEC_TRY(explained(problem, create_memfd("hecaton-bench", bytes)));
  Mapping shared = HEC_TRY(explained(problem, Mapping::shared(memfd.get(), bytes)));
  Board& board = *new (shared.data()) Board;
  int64_t* took_ns = reinterpret_cast<int64_t*>(shared.data() + sizeof(Board));
  Turns turns = HEC_TRY(explained(problem, Turns::create(script.pages.size(), board)));
  const std::vector<uint64_t> expected = expected_of(script);
  node::NodeConfig config;
  config.pages = script.pages;
  config.hold_ns = kHoldNs;
  config.silence_ms = kSilenceMs;
  const auto body = [&](node::Node& node, size_t number) -> Result<uint64_t> {
    return play(script, expected, node.memory(), number, turns, took_ns);
  };
  auto nodes = HEC_TRY(node::Processes::start(config, body, problem));
  nodes->go();
  const auto by = Deadline::after_ms(kTookTooLongMs + kStepTookTooLongMs * static_cast<int64_t>(steps));
  if (!nodes->all_done(by) || !nodes->look_and_end(Deadline::after_ms(10'000))) return did_not_end(*nodes, problem);
  ScriptResult result;
  result.took_ns.assign(took_ns, took_ns + steps);
  for (size_t i = 0; i < script.pages.size(); ++i) {
    const node::Shared::OfNode& node = nodes->shared().nodes[i];
    result.wrong += node.result.load();
    result.pages_sent += node.stats.pages_sent;
    result.bytes_sent += node.stats.bytes_sent;
    result.messages_sent += node.stats.messages_sent;
    result.upgrades += node.stats.upgrades;
  }
  return result;
}

}  // namespace hecaton::bench
