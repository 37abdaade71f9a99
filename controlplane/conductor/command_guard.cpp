#include "controlplane/conductor/command_guard.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

namespace thalweg::conductor {
namespace {

using Suspect = shm::CommandCrashes::Suspect;

// Types of what is no command.
constexpr std::int32_t kSetup = -1, kSlot = -2, kTimer = -3;

constexpr int kFaults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
std::atomic<std::uint32_t>* work_word{};  // for the signal handler
pid_t worker{};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free, "touched by a signal handler");

std::int64_t pair(std::uint32_t high, std::uint32_t low) noexcept { return static_cast<std::int64_t>(std::uint64_t{high} << 32 | low); }
std::uint32_t low_of(std::int64_t pair) noexcept { return static_cast<std::uint32_t>(pair); }

std::string_view name_of(shm::SlotKind kind) noexcept {
  using enum shm::SlotKind;
  switch (kind) {
    case kEndpoint: return "endpoint";
    case kPublication: return "publication";
    case kImage: return "image";
    case kInterest: return "interest";
    case kLink: return "link";
    case kLog: return "log";
    case kDestination: return "destination";
    default: return "other";
  }
}

std::string_view name_of(CommandGuard::Timer timer) noexcept {
  using enum CommandGuard::Timer;
  switch (timer) {
    case kExpireClient: return "the end of a client";
    case kPublications: return "the timers of publications";
    case kRelays: return "relays";
    case kFeeds: return "feeds";
    case kLossReport: return "the loss report";
    case kQuarantinedImages: return "quarantined images";
  }
  return "a timer";
}

}  // namespace

CommandGuard::Id CommandGuard::identify(std::int32_t type_id, shm::Bytes message) noexcept {
  const auto header = shm::decode<shm::CommandHeader>(message);
  return header ? Id{header->client_id, header->correlation_id, type_id} : Id{-1, -1, type_id};
}

CommandGuard::Id CommandGuard::identify(const shm::SetupSlot& setup) noexcept {
  return {pair(setup.endpoint_generation, setup.endpoint), pair(static_cast<std::uint32_t>(setup.session_id), static_cast<std::uint32_t>(setup.stream_id)), kSetup};
}
CommandGuard::Id CommandGuard::identify(shm::SlotKind kind, std::uint32_t index, std::uint32_t generation) noexcept {
  return {static_cast<std::int64_t>(kind), pair(generation, index), kSlot};
}
CommandGuard::Id CommandGuard::identify(Timer timer, std::int64_t client_id) noexcept { return {client_id, static_cast<std::int64_t>(timer), kTimer}; }

std::string text_of(const CommandGuard::Id& id) {
  if (id.type_id == kSetup) return fmt::format("a SETUP of stream {}", static_cast<std::int32_t>(low_of(id.correlation_id)));
  if (id.type_id == kSlot) return fmt::format("{} slot {}", name_of(static_cast<shm::SlotKind>(id.client_id)), low_of(id.correlation_id));
  if (id.type_id == kTimer) {
    const std::string_view name = name_of(static_cast<CommandGuard::Timer>(id.correlation_id));
    return id.client_id == 0 ? std::string{name} : fmt::format("{}, client {}", name, id.client_id);
  }
  return fmt::format("{} of client {}, correlation id {}", name_of(static_cast<shm::Command>(id.type_id)), id.client_id, id.correlation_id);
}

// Async-signal-safe. The fault happens again behind it, with the default action.
void CommandGuard::on_fault(int number) noexcept {
  if (work_word != nullptr && ::gettid() == worker && work_word->load(std::memory_order_relaxed) == kAtWork) work_word->store(kFaulted, std::memory_order_release);
  if (number == SIGABRT) ::raise(SIGABRT);
}

void CommandGuard::catch_faults() noexcept {
  work_word = &crashes_->is_at_work;
  worker = ::gettid();
  struct sigaction action {};
  action.sa_handler = [](int number) { on_fault(number); };
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
  for (const int number : kFaults) ::sigaction(number, &action, nullptr);
}

Suspect* CommandGuard::find(const Id& id) const noexcept {
  const auto found = std::find_if(crashes_->suspects.begin(), crashes_->suspects.end(), [&id](const Suspect& s) { return s.crashes != 0 && s.id == id; });
  return found == crashes_->suspects.end() ? nullptr : &*found;
}

// When all entries are taken the oldest one goes.
Suspect& CommandGuard::place() noexcept {
  const auto is_free = [](const Suspect& s) { return s.crashes == 0; };
  const auto found = std::find_if(crashes_->suspects.begin(), crashes_->suspects.end(), is_free);
  return found != crashes_->suspects.end() ? *found : crashes_->suspects[crashes_->next++ % shm::kCrashedCommandsMax];
}

std::optional<CommandGuard::Id> CommandGuard::recover() noexcept {
  const std::uint32_t work = crashes_->is_at_work.load(std::memory_order_acquire);
  if (work == kFinished) return crashes_->at_work;
  if (work == kNone || (work != kFaulted && !is_command(crashes_->at_work))) return std::nullopt;
  Suspect* suspect = find(crashes_->at_work);
  if (suspect == nullptr) {
    suspect = &place();
    *suspect = {crashes_->at_work, 0};
  }
  if (suspect->crashes < shm::kCrashesMax) ++suspect->crashes;
  crashes_->is_at_work.store(kNone, std::memory_order_release);
  return std::nullopt;
}

bool CommandGuard::is_quarantined(const Id& id) const noexcept {
  const Suspect* const suspect = find(id);
  return suspect != nullptr && suspect->crashes >= shm::kCrashesMax;
}

// The stores are for a successor in the same memory: release keeps the compiler from moving them into the work, or the work out of them.
void CommandGuard::begin(const Id& id) noexcept {
  crashes_->is_at_work.store(kNone, std::memory_order_release);
  std::atomic_signal_fence(std::memory_order_seq_cst);  // the one before is through: the new name must not be taken for it
  crashes_->at_work = id;
  crashes_->is_at_work.store(kAtWork, std::memory_order_release);
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

void CommandGuard::end(bool is_finished) noexcept {
  crashes_->is_at_work.store(is_finished ? kFinished : kNone, std::memory_order_release);
  if (!is_finished) return;
  if (Suspect* const suspect = find(crashes_->at_work); suspect != nullptr) suspect->crashes = 0;
}

std::vector<Suspect> CommandGuard::quarantined() const {
  std::vector<Suspect> result;
  std::copy_if(crashes_->suspects.begin(), crashes_->suspects.end(), std::back_inserter(result),
               [](const Suspect& s) { return s.crashes >= shm::kCrashesMax; });
  return result;
}

std::string_view name_of(shm::Command command) noexcept {
  using enum shm::Command;
  switch (command) {
    case kAddPublication: return "ADD_PUBLICATION";
    case kRemovePublication: return "REMOVE_PUBLICATION";
    case kAddExclusivePublication: return "ADD_EXCLUSIVE_PUBLICATION";
    case kAddSubscription: return "ADD_SUBSCRIPTION";
    case kRemoveSubscription: return "REMOVE_SUBSCRIPTION";
    case kClientKeepalive: return "CLIENT_KEEPALIVE";
    case kAddDestination: return "ADD_DESTINATION";
    case kRemoveDestination: return "REMOVE_DESTINATION";
    case kAddCounter: return "ADD_COUNTER";
    case kRemoveCounter: return "REMOVE_COUNTER";
    case kClientClose: return "CLIENT_CLOSE";
    case kAddReceiveDestination: return "ADD_RCV_DESTINATION";
    case kRemoveReceiveDestination: return "REMOVE_RCV_DESTINATION";
    case kTerminateDriver: return "TERMINATE_DRIVER";
    case kAddStaticCounter: return "ADD_STATIC_COUNTER";
    case kRejectImage: return "REJECT_IMAGE";
    case kRemoveDestinationById: return "REMOVE_DESTINATION_BY_ID";
    case kGetNextAvailableSessionId: return "GET_NEXT_AVAILABLE_SESSION_ID";
  }
  return "unknown command";
}

}  // namespace thalweg::conductor
