// Files that hold secrets: tokens and keys.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace hecaton {

// The content of a small regular file that only its owner can read, and whose owner is this user or root. On error
// `problem` says what is wrong with it and the command that mends it. Error: kNotFound if it is not there; kPermission
// if others could read it; others.
Result<std::string> read_private_file(const std::string& path, std::string* problem);

// Empty if the file is for nobody but this user and root; else what is wrong, and the command that mends it.
std::string why_not_private(int fd, const std::string& path);

// Makes the file, for this user only. Error: kBusy if it is there.
Result<void> create_private_file(const std::string& path, std::string_view content, std::string* problem);

}  // namespace hecaton
