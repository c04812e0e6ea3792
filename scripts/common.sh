# shellcheck shell=bash
# Sourced by the scripts of this folder: where things are, and how they speak. No side effects but `cd` to the root.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034  # used by those who source this
guest_dir=$root/build/guest
# shellcheck disable=SC2034
kernel_dir=$root/build/guest/kernel
caller_dir=$PWD
cd "$root"

say() { printf '%s\n' "$*"; }
warn() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
  local status=$1
  shift
  warn "$*"
  exit "$status"
}

# The comment that a script opens with.
print_help() { sed -n '2,/^[^#]/{/^# shellcheck/d;s/^# \{0,1\}//p}' "$0"; }

# A path the user gave, as seen from where he stood.
from_caller() { case $1 in /*) printf '%s\n' "$1" ;; *) printf '%s\n' "$caller_dir/$1" ;; esac; }

# run_logged LOG COMMAND...: silent while it works, the end of the log when it does not.
run_logged() {
  local log=$1 status=0
  shift
  mkdir -p "$(dirname "$log")"
  "$@" >"$log" 2>&1 </dev/null || status=$?
  [[ $status -eq 0 ]] && return 0
  warn "failed with status $status: $*"
  tail -n 40 "$log" >&2
  warn "the whole log: $log"
  return "$status"
}
