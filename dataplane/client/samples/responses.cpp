// Questions and answers over response channels, in which each asker hears its own answers only: `responses answer` in one terminal,
// `responses ask` in others.
#include <chrono>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "dataplane/client/thalweg.hpp"

namespace {
using namespace thalweg::client;

constexpr std::int32_t kQuestions = 1010;
constexpr std::int32_t kAnswers = 1011;
const std::string kEndpoint = "localhost:20120";
const std::string kControl = "localhost:20121";

ChannelUriBuilder answers() { return ChannelUriBuilder::udp().control_mode(ControlMode::kResponse).control(kControl); }
void pause() { std::this_thread::sleep_for(std::chrono::milliseconds{1}); }

int answer() {
  std::mutex mutex;
  std::vector<std::int64_t> askers;  // images that no publication answers yet
  auto context = Context::from_environment();
  context.on_available_image = [&](const std::shared_ptr<Image>& image) {
    const std::lock_guard lock{mutex};
    askers.push_back(image->correlation_id());
  };
  auto client = Client::connect(std::move(context));
  if (!client) return std::fprintf(stderr, "%s\n", client.error().message.c_str()), 1;
  auto questions = client->add_subscription(*ChannelUriBuilder::udp().endpoint(kEndpoint).build(), kQuestions);
  if (!questions) return std::fprintf(stderr, "%s\n", questions.error().message.c_str()), 1;

  std::map<std::int64_t, Publication> publications;  // by image
  while (!questions->is_closed()) {
    std::vector<std::int64_t> unanswered;
    {
      const std::lock_guard lock{mutex};
      unanswered.swap(askers);
    }
    for (const std::int64_t image : unanswered) {
      if (auto publication = client->add_publication(*answers().response_correlation_id(image).build(), kAnswers)) publications[image] = std::move(*publication);
    }
    const int fragments = questions->poll(
        [&](std::span<const std::byte> question, const Header& header) {
          const auto publication = publications.find(header.image().correlation_id());
          if (publication == publications.end()) return;
          const std::string text = "you said: " + std::string{reinterpret_cast<const char*>(question.data()), question.size()};
          while (publication->second.offer(std::as_bytes(std::span{text})).is_retryable() && !questions->is_closed()) pause();
        },
        10);
    if (fragments == 0) pause();
  }
  return 0;
}

int ask() {
  auto client = Client::connect(Context::from_environment());
  if (!client) return std::fprintf(stderr, "%s\n", client.error().message.c_str()), 1;
  auto heard = client->add_subscription(*answers().build(), kAnswers);
  if (!heard) return std::fprintf(stderr, "%s\n", heard.error().message.c_str()), 1;
  auto questions = client->add_publication(*ChannelUriBuilder::udp().endpoint(kEndpoint).response_correlation_id(heard->registration_id()).build(), kQuestions);
  if (!questions) return std::fprintf(stderr, "%s\n", questions.error().message.c_str()), 1;
  const std::string text = "hello from client " + std::to_string(client->client_id());
  while (!heard->is_connected() && !heard->is_closed()) pause();
  while (questions->offer(std::as_bytes(std::span{text})).is_retryable()) pause();
  const auto print = [](std::span<const std::byte> bytes, const Header&) {
    std::printf("%.*s\n", static_cast<int>(bytes.size()), reinterpret_cast<const char*>(bytes.data()));
  };
  while (heard->poll(print, 1) == 0 && !heard->is_closed()) pause();
  return 0;
}
}  // namespace

int main(int argc, char** argv) {
  const std::string_view verb = argc > 1 ? argv[1] : "";
  if (verb == "answer") return answer();
  if (verb == "ask") return ask();
  return std::fputs("usage: responses answer|ask\n", stderr), 2;
}
