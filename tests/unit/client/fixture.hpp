#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "dataplane/client/thalweg.hpp"
#include "tests/support/ipc_driver.hpp"
#include "tests/support/temporary_directory.hpp"

namespace thalweg::client::test {

using thalweg::test::IpcDriver;
using thalweg::test::TemporaryDirectory;

inline constexpr const char* kChannel = "aeron:ipc";
inline constexpr std::int32_t kStream = 1001;

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span{text.data(), text.size()}); }
inline std::string text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// A client in invoker mode and the scripted driver, both in this thread, on a clock that moves only when a test moves it.
class WithDriver : public ::testing::Test {
 protected:
  explicit WithDriver(IpcDriver::Options options = {}) : options_{std::move(options)} {
    options_.directory = directory_.path();
    options_.epoch_ms = [this] { return epoch_ms_; };
  }

  void start_driver() { driver_ = std::make_unique<IpcDriver>(options_); }

  [[nodiscard]] Context context() {
    Context context;
    context.directory = directory_.path();
    context.mode = ConductorMode::kInvoker;
    context.client_name = "tester";
    context.on_error = [this](const Error& error) { errors_.push_back(error); };
    context.on_available_image = [this](const std::shared_ptr<Image>& image) { available_.push_back(image); };
    context.on_unavailable_image = [this](const std::shared_ptr<Image>& image) { unavailable_.push_back(image); };
    context.on_close = [this] { ++closed_; };
    context.clock = {[this] { return now_ns_; }, [this] { return epoch_ms_; }};
    context.idle = [this] {
      if (driver_) driver_->do_work();
      advance_ms(1);
    };
    return context;
  }
  void start_client() {
    auto connected = Client::connect(context());
    ASSERT_TRUE(connected) << connected.error().message;
    client_.emplace(std::move(*connected));
  }
  void start() {
    start_driver();
    start_client();
  }

  void advance_ms(std::int64_t ms) {
    now_ns_ += ms * kMillisecond_ns;
    epoch_ms_ += ms;
  }
  // Both sides, until neither has anything to do.
  void settle() {
    for (int i = 0; i < 4; ++i) {
      driver_->do_work();
      while (client_->do_work() > 0) {
      }
    }
  }
  // Lets time pass with a living driver and a client that is turned often enough.
  void pass_ms(std::int64_t ms) {
    for (std::int64_t step = 0; step < ms; step += 100) {
      advance_ms(100);
      driver_->beat();
      settle();
    }
  }

  Publication publication(std::string_view channel = kChannel, std::int32_t stream = kStream) {
    auto added = client_->add_publication(channel, stream);
    EXPECT_TRUE(added) << added.error().message;
    return added ? std::move(*added) : Publication{};
  }
  ExclusivePublication exclusive_publication(std::string_view channel = kChannel, std::int32_t stream = kStream) {
    auto added = client_->add_exclusive_publication(channel, stream);
    EXPECT_TRUE(added) << added.error().message;
    return added ? std::move(*added) : ExclusivePublication{};
  }
  Subscription subscription(std::string_view channel = kChannel, std::int32_t stream = kStream, SubscriptionHandlers handlers = {}) {
    auto added = client_->add_subscription(channel, stream, std::move(handlers));
    EXPECT_TRUE(added) << added.error().message;
    settle();
    return added ? std::move(*added) : Subscription{};
  }
  std::vector<std::string> drain(Subscription& subscription) {
    std::vector<std::string> received;
    while (subscription.poll([&](std::span<const std::byte> payload, const Header&) { received.push_back(text_of(payload)); }, 10) > 0) {
    }
    return received;
  }

  TemporaryDirectory directory_{"client"};
  std::int64_t now_ns_{kSecond_ns};
  std::int64_t epoch_ms_{1'700'000'000'000};
  std::vector<Error> errors_;
  std::vector<std::shared_ptr<Image>> available_;
  std::vector<std::shared_ptr<Image>> unavailable_;
  int closed_{};
  IpcDriver::Options options_;
  std::unique_ptr<IpcDriver> driver_;
  std::optional<Client> client_;
};

}  // namespace thalweg::client::test
