# shellcheck shell=bash disable=SC2034
# Shared by the scripts of this folder; sourced, never run. Sets `root` to the repository and defines the helpers below.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

say() { if [ -t 2 ]; then printf '\033[1m==> %s\033[0m\n' "$*" >&2; else printf '==> %s\n' "$*" >&2; fi; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Runs a command as root: directly, or with sudo; says plainly what is missing when neither is possible.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null 2>&1; then sudo "$@"
  else die "this step needs root or sudo: $*"; fi
}

packages_build=(meson ninja-build ccache g++ gcc pkg-config python3 libdpdk-dev libnuma-dev libhwloc-dev libyaml-cpp-dev libspdlog-dev libfmt-dev
  libcli11-dev nlohmann-json3-dev libexpected-dev libsystemd-dev libcap-dev liburing-dev libzstd-dev liblz4-dev scdoc)
packages_test=(libgtest-dev libgmock-dev cmake clang-14 clang-format-14 clang-tidy-14 libclang-rt-14-dev lld-14 llvm-14 shellcheck iproute2 ethtool tcpdump tshark
  socat iputils-ping procps gzip zlib1g-dev gdb util-linux systemd)
packages_bench=(libbenchmark-dev linux-perf fio)
packages_runtime=(librte-meta-all librte-meta-allpmds libnuma1 libhwloc15 libyaml-cpp0.7 libspdlog1.10 libfmt9 libsystemd0 libcap2 liburing2 libzstd1 liblz4-1)

# install_packages NAME...: installs what is missing of the named lists, and nothing when all is there.
install_packages() {
  local list missing=() package
  for list in "$@"; do
    local -n names="packages_$list"
    for package in "${names[@]}"; do
      dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  command -v apt-get >/dev/null 2>&1 || die "not a Debian system; install by hand: ${missing[*]}"
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# configure DIR [meson options...]: sets a build directory up once, and again with new options when they changed.
configure() {
  local dir=$1
  shift
  if [ -f "$dir/build.ninja" ]; then
    [ "$(cat "$dir/.options" 2>/dev/null)" = "$*" ] && return 0
    meson setup "$dir" "$root" --reconfigure "$@" >&2
  else
    meson setup "$dir" "$root" "$@" >&2
  fi
  printf '%s' "$*" >"$dir/.options"
}
