// A file that names donors, one a line: read, checked, and what is wrong with it in words.
#pragma once

#include <string>
#include <vector>

#include "wire/node_url.h"

namespace hecaton::cli {

inline constexpr const char* kDefaultNodesFile = "cluster_uffd.conf";

struct NodesFile {
  std::vector<NodeUrl> nodes;
  std::vector<std::string> problems;  // each names the file, and the line if it is one; not more than a screen of them
};
// A file that others can read or change is a problem if there are tokens in it.
NodesFile read_nodes_file(const std::string& path);

}  // namespace hecaton::cli
