#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "dataplane/base/result.hpp"
#include "dataplane/client/detail/subscription_core.hpp"
#include "dataplane/client/error_code.hpp"
#include "dataplane/client/image.hpp"
#include "dataplane/shm/counters.hpp"

namespace thalweg::client {

// Names one ADD until its answer arrives, and afterwards the resource it made.
enum class RegistrationId : std::int64_t {};

// Names one handler that was added while the client runs.
enum class HandlerId : std::int64_t {};

// What a subscriber, here or far away, told the publisher of a stream (client-protocol 6.3).
struct PublicationError {
  std::int64_t registration_id{};              // original id of the publication
  std::int64_t destination_registration_id{};  // of the destination behind which the subscriber is; -1: none
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int64_t receiver_id{};                  // -1: a subscriber on this driver
  std::optional<std::int64_t> group_tag;
  std::string source_address;                  // "10.0.0.1:40123", "[::1]:40123"; empty when the driver does not know
  ErrorCode code{};                            // client_error::kImageRejected most of the time
  std::string text;
};

using ErrorHandler = std::function<void(const Error&)>;
using PublicationErrorHandler = std::function<void(const PublicationError&)>;
// (registration id, counter id)
using CounterHandler = std::function<void(std::int64_t, std::int32_t)>;
using CloseHandler = std::function<void()>;

// Who turns the client's conductor: reads the driver's answers, keeps the client alive, calls the handlers.
enum class ConductorMode : std::uint8_t {
  kOwnThread,  // a thread of the library, sleeping idle_sleep when there is nothing to do
  kInvoker,    // the application, by Client::do_work(), well inside the driver's client liveness timeout (10 s)
};

// Time, replaceable so that tests need not wait.
struct Clock {
  std::function<std::int64_t()> monotonic_ns;  // empty: CLOCK_MONOTONIC
  std::function<std::int64_t()> epoch_ms;      // empty: CLOCK_REALTIME
};

// Options of a client. Defaults are those of the field (client-protocol 9.1).
// Handlers run on the conductor's thread (the caller of do_work() in invoker mode), without any lock held: they may use the asynchronous
// functions of the client, but not those that wait.
struct Context {
  std::string directory;                               // empty: AERON_DIR, else /dev/shm/aeron-<user>
  std::string client_name;                             // shown in the driver's client-heartbeat counter; cut to 100 bytes
  std::chrono::nanoseconds connect_timeout{std::chrono::seconds{10}};        // how long connect() waits for a driver to appear
  std::chrono::nanoseconds driver_timeout{std::chrono::seconds{10}};         // answers to commands, and age of the driver's heartbeat
  std::chrono::nanoseconds keepalive_interval{std::chrono::milliseconds{500}};  // shorter where the driver gives clients up sooner
  std::chrono::nanoseconds idle_sleep{std::chrono::milliseconds{16}};        // own thread, nothing pending
  std::chrono::nanoseconds resource_linger{std::chrono::seconds{3}};         // mappings outlive their last user by this much
  bool pre_touch_mapped_memory{false};                 // fault log pages in when mapping
  ConductorMode mode{ConductorMode::kOwnThread};

  ErrorHandler on_error;                               // empty: one line on stderr
  ImageHandler on_available_image;                     // before the image is polled for the first time
  ImageHandler on_unavailable_image;                   // after the image is closed; position() is final
  PublicationErrorHandler on_publication_error;        // empty: they go to on_error
  CounterHandler on_available_counter;                 // of any client
  CounterHandler on_unavailable_counter;               // of any client; when this one closes, its own counters
  CloseHandler on_close;                               // the client closed, by itself or by close(); Client::close_reason() says why
  std::function<void()> idle;                          // invoker mode: called while a function waits; empty: sleeps 1 ms
  Clock clock;

  // Defaults with the environment applied: AERON_DIR, AERON_CLIENT_NAME, AERON_DRIVER_TIMEOUT (ms), AERON_CLIENT_RESOURCE_LINGER_DURATION and
  // AERON_CLIENT_IDLE_SLEEP_DURATION (ns, or with a suffix: 3s, 16ms), AERON_CLIENT_PRE_TOUCH_MAPPED_MEMORY (true). What is none is ignored.
  [[nodiscard]] static Context from_environment();
  // Error kInvalidArgument: a time-out or interval that is not above zero, or a name of more than one line.
  [[nodiscard]] Result<> validate() const;
};

}  // namespace thalweg::client
