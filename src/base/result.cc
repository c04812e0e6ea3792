#include "base/result.h"

#include <cstring>

namespace hecaton {

const char* name_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "invalid argument";
    case ErrorCode::kNotFound:
      return "not found";
    case ErrorCode::kUnavailable:
      return "unavailable";
    case ErrorCode::kUnsupported:
      return "unsupported";
    case ErrorCode::kPermission:
      return "not permitted";
    case ErrorCode::kProtocol:
      return "protocol error";
    case ErrorCode::kFull:
      return "full";
    case ErrorCode::kBusy:
      return "busy";
    case ErrorCode::kTimeout:
      return "timed out";
    case ErrorCode::kClosed:
      return "closed";
    case ErrorCode::kCorrupt:
      return "corrupt";
    case ErrorCode::kUntrusted:
      return "not trusted";
    case ErrorCode::kSystem:
      return "system error";
  }
  return "unknown error";
}

std::string Error::describe() const {
  std::string text = context;
  if (os_error != 0) {
    char buffer[128];
    text += text.empty() ? "" : ": ";
    text += strerror_r(os_error, buffer, sizeof buffer);
  } else if (text.empty()) {
    text = name_of(code);
  }
  return text;
}

}  // namespace hecaton
