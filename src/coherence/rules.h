// The two state machines as tables. The rules themselves are in node_rules.inc and home_rules.inc: read those.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace hecaton::coherence {

enum class NodeState : uint8_t {
  kInvalid,
  kUntouched,
  kShared,
  kClean,
  kExclusive,
  kAsksRead,
  kAsksWrite,
  kAsksUpgrade,
  kGathers,
  kLost,
};
inline constexpr size_t kNodeStates = 10;
const char* name_of(NodeState state);

enum class NodeEvent : uint8_t {
  kReadFault,
  kWriteFault,
  kFetchShared,      // the home: send a copy
  kFetchExclusive,   // the home: send the page
  kInvalidate,       // the home: forget your copy
  kUpgrade,          // the home: write; nobody else has a copy
  kUpgradeThenWait,  // the same, once others have forgotten theirs
  kCopy,             // a copy came
  kPageToRead,       // the page came, though it was to be read only
  kPage,             // the page came, and nobody else has a copy
  kPageThenWait,     // the same, once others have forgotten theirs
  kCopyOfHome,       // a copy, a page to be read, a page: from the home, which counts it as done
  kPageToReadOfHome,
  kPageOfHome,
  kForgotten,      // one of them has
  kLastForgotten,  // the last of them has
  kLost,           // the home, or the loss of it: the newest bytes are gone
};
inline constexpr size_t kNodeEvents = 17;
const char* name_of(NodeEvent event);

enum class NodeStep : uint8_t {
  kNone,
  kAskRead,
  kAskWrite,
  kMakeZero,
  kKeep,
  kMapRead,
  kMapWrite,
  kProtect,
  kZap,
  kDrop,
  kSendCopy,
  kSendPage,
  kConfirm,
  kSendDone,
  kFail,
};

enum class HomeState : uint8_t { kExclusive, kShared, kReading, kMoving, kLost };
inline constexpr size_t kHomeStates = 5;
const char* name_of(HomeState state);

enum class HomeEvent : uint8_t { kRead, kMigrantRead, kWrite, kUpgrade, kBehind, kDone, kDoneOfSome };
inline constexpr size_t kHomeEvents = 7;
const char* name_of(HomeEvent event);

enum class HomeStep : uint8_t {
  kNone,
  kFetchShared,
  kFetchToRead,
  kFetchExclusive,
  kInvalidate,
  kGrantUpgrade,
  kQueue,
  kServeNext,
  kTellLost,
};

struct NodeRule {
  NodeState from;
  NodeEvent on;
  NodeState next;
  std::array<NodeStep, 3> steps;
};
struct HomeRule {
  HomeState from;
  HomeEvent on;
  HomeState next;
  std::array<HomeStep, 2> steps;
};

inline constexpr NodeRule kNodeRules[] = {
#define NODE_RULE(from, on, next, first, second, third) \
  {NodeState::k##from,                                  \
   NodeEvent::k##on,                                    \
   NodeState::k##next,                                  \
   {NodeStep::k##first, NodeStep::k##second, NodeStep::k##third}},
#include "coherence/node_rules.inc"
#undef NODE_RULE
};

inline constexpr HomeRule kHomeRules[] = {
#define HOME_RULE(from, on, next, first, second) \
  {HomeState::k##from, HomeEvent::k##on, HomeState::k##next, {HomeStep::k##first, HomeStep::k##second}},
#include "coherence/home_rules.inc"
#undef HOME_RULE
};

// The rule for a state and an event; null if there is none.
const NodeRule* find_rule(NodeState state, NodeEvent event);
const HomeRule* find_rule(HomeState state, HomeEvent event);

}  // namespace hecaton::coherence
