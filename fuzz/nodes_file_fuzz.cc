// parse_nodes_file: each line is a node, a problem of its own, or nothing; problems name a line that is there.
#include <algorithm>

#include "fuzz.h"
#include "wire/node_url.h"

using namespace hecaton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text = fuzz::text_of(data, size);
  std::vector<NodesFileProblem> problems;
  std::vector<NodeUrl> nodes = parse_nodes_file(text, &problems);
  size_t lines = static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  HEC_CHECK(nodes.size() + problems.size() <= lines);
  for (const NodesFileProblem& problem : problems) {
    HEC_CHECK(problem.line >= 1 && problem.line <= lines && problem.what != nullptr);
  }
  return 0;
}
