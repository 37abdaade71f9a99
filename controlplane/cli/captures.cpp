#include "controlplane/cli/captures.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

#include "controlplane/cli/cli.hpp"

namespace thalweg::cli {
namespace {

using api::Json;

constexpr std::int64_t kAnswer_ns = 5 * kSecond_ns;  // for the data plane to open or to finish the file
constexpr std::int64_t kLook_ns = 50 * kMillisecond_ns;

}  // namespace

Result<Captures> Captures::connect(const std::string& socket) {
  auto client = api::ControlClient::connect(socket);
  if (!client) return tl::unexpected{std::move(client.error())};
  return Captures{std::move(*client)};
}

Result<std::uint32_t> Captures::start(const CaptureWish& wish) {
  Json args{{"port", wish.port}, {"path", wish.path}};
  if (wish.snap_length > 0) args["snap_length"] = wish.snap_length;
  if (wish.frame_limit > 0) args["frame_limit"] = wish.frame_limit;
  if (wish.byte_limit > 0) args["byte_limit"] = wish.byte_limit;
  const auto answer = client_.call("capture-start", std::move(args));
  if (!answer) return tl::unexpected{answer.error()};
  return answer->value("capture", std::uint32_t{0});
}

Result<void> Captures::stop(std::uint32_t number) {
  const auto answer = client_.call("capture-stop", {{"capture", number}});
  if (!answer) return tl::unexpected{answer.error()};
  return {};
}

Result<Json> Captures::list() {
  const auto answer = client_.call("capture-status");
  if (!answer) return tl::unexpected{answer.error()};
  return answer->value("captures", Json::array());
}

Result<std::optional<CaptureState>> Captures::look(std::uint32_t number) {
  const auto all = list();
  if (!all) return tl::unexpected{all.error()};
  for (const Json& one : *all) {
    if (one.value("capture", ~std::uint32_t{0}) != number) continue;
    return CaptureState{one.value("state", std::string{}), one.value("error", std::string{}), one.value("frames", std::uint64_t{0}),
                        one.value("dropped", std::uint64_t{0})};
  }
  return std::optional<CaptureState>{};
}

Result<void> Recording::wait_open() {
  auto answered = look_until([this] { return last_.state != "none"; }, kAnswer_ns);
  if (!answered) return answered;
  if (last_.state == "failed") return fail(ErrorCode::kGeneric, last_.error.empty() ? "the data plane could not start the capture" : last_.error);
  if (last_.state == "none") return fail(ErrorCode::kTimeout, "the data plane did not start the capture", "thalweg top shows whether it runs");
  return {};
}

Result<void> Recording::look() {
  const auto seen = captures_.look(number_);
  if (!seen) return tl::unexpected{seen.error()};
  if (*seen) last_ = **seen;
  else last_.state = "done";
  return {};
}

Result<void> Recording::follow(std::int64_t duration_ns) {
  auto followed = look_until([this] { return is_over() || is_interrupted(); }, duration_ns);
  if (followed && last_.state == "failed") return fail(ErrorCode::kIo, "the capture ended early: " + last_.error, "what the file has is whole");
  return followed;
}

Result<void> Recording::end() {
  // Somebody else may have ended it: thalweg capture --stop.
  if (auto stopped = captures_.stop(number_); !stopped) return stopped.error().code == ErrorCode::kNotFound ? Result<void>{} : stopped;
  return look_until([this] { return last_.state == "done" || last_.state == "failed"; }, kAnswer_ns);
}

template <typename Done>
Result<void> Recording::look_until(Done&& is_done, std::int64_t patience_ns) {
  const std::int64_t deadline = monotonic_ns() + patience_ns;
  while (true) {
    if (auto looked = look(); !looked) return looked;
    if (is_done()) return {};
    const std::int64_t left = patience_ns == 0 ? kLook_ns : deadline - monotonic_ns();
    if (left <= 0) return {};
    // Not cut short by Ctrl-C: whoever waits for the end of a capture would ask without a pause.
    std::this_thread::sleep_for(std::chrono::nanoseconds{std::min(left, kLook_ns)});
  }
}

}  // namespace thalweg::cli
