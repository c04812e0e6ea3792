#include "coherence/rules.h"

namespace hecaton::coherence {

const char* name_of(NodeState state) {
  static constexpr std::array<const char*, kNodeStates> kNames = {"Invalid",   "Untouched", "Shared",    "Clean",
                                                                  "Exclusive", "AsksRead",  "AsksWrite", "AsksUpgrade",
                                                                  "Gathers",   "Lost"};
  return kNames[static_cast<size_t>(state)];
}

const char* name_of(NodeEvent event) {
  static constexpr std::array<const char*, kNodeEvents> kNames = {
      "ReadFault",        "WriteFault", "FetchShared", "FetchExclusive", "Invalidate",   "Upgrade",
      "UpgradeThenWait",  "Copy",       "PageToRead",  "Page",           "PageThenWait", "CopyOfHome",
      "PageToReadOfHome", "PageOfHome", "Forgotten",   "LastForgotten",  "Lost"};
  return kNames[static_cast<size_t>(event)];
}

const char* name_of(HomeState state) {
  static constexpr std::array<const char*, kHomeStates> kNames = {"Exclusive", "Shared", "Reading", "Moving", "Lost"};
  return kNames[static_cast<size_t>(state)];
}

const char* name_of(HomeEvent event) {
  static constexpr std::array<const char*, kHomeEvents> kNames = {"Read",   "MigrantRead", "Write",     "Upgrade",
                                                                  "Behind", "Done",        "DoneOfSome"};
  return kNames[static_cast<size_t>(event)];
}

}  // namespace hecaton::coherence
