// Result<T>: a value or an Error. Small, no allocation, so that it can be used on the fault path.
//
// An Error is a code, the errno behind it (0 if none) and a static context string that names the operation. Text with
// names and numbers in it belongs to the caller who knows them: see describe().
#pragma once

#include <cerrno>
#include <cstdint>
#include <new>
#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace hecaton {

enum class ErrorCode : uint8_t {
  kInvalidArgument = 1,  // the caller's or user's input is wrong
  kNotFound,             // the named thing is not there
  kUnavailable,          // a peer or service cannot be reached
  kUnsupported,          // this machine, kernel or version cannot do it
  kPermission,           // not allowed to
  kProtocol,             // a peer broke the protocol
  kFull,                 // no room left
  kBusy,                 // somebody else has it
  kTimeout,              // the deadline passed
  kClosed,               // the other end is gone
  kCorrupt,              // bytes are not the ones that were written
  kUntrusted,            // a peer could not prove who it is, or we could not; the context is for the user
  kSystem,               // a system call failed; see os_error
};

const char* name_of(ErrorCode code);

struct Error {
  ErrorCode code;
  int os_error = 0;
  const char* context = "";  // static storage only

  // "context: strerror (code)". Allocates: for messages, not for the fault path.
  std::string describe() const;
};

// The current errno as an Error.
inline Error system_error(const char* context, ErrorCode code = ErrorCode::kSystem) {
  return Error{code, errno, context};
}

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, error) {}

  bool ok() const { return state_.index() == 0; }
  const Error& error() const {
    HEC_CHECK(!ok());
    return *std::get_if<1>(&state_);
  }
  T& value() & {
    HEC_CHECK(ok());
    return *std::get_if<0>(&state_);
  }
  const T& value() const& {
    HEC_CHECK(ok());
    return *std::get_if<0>(&state_);
  }
  T&& value() && {
    HEC_CHECK(ok());
    return std::move(*std::get_if<0>(&state_));
  }
  T* operator->() { return &value(); }
  T& operator*() & { return value(); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(error), ok_(false) {}

  bool ok() const { return ok_; }
  const Error& error() const {
    HEC_CHECK(!ok_);
    return error_;
  }
  void value() const { HEC_CHECK(ok_); }

 private:
  Error error_{ErrorCode::kInvalidArgument, 0, ""};
  bool ok_ = true;
};

// The value of EXPR, or return its error from the calling function.
#define HEC_TRY(expr)                                  \
  __extension__({                                      \
    auto hec_result_ = (expr);                         \
    if (!hec_result_.ok()) return hec_result_.error(); \
    std::move(hec_result_).value();                    \
  })

}  // namespace hecaton
