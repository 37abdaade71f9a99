// thalweg capture against the real control socket, with a scripted data plane behind it.
#include <atomic>
#include <filesystem>
#include <semaphore>
#include <thread>

#include "controlplane/api/control_server.hpp"
#include "tests/unit/cli/instance_fixture.hpp"

namespace thalweg::cli {
namespace {

using api::Json;
using test::Outcome;
using test::thalweg;

// Answers as the control plane does; what the data plane makes of a capture is told by `states`, one for each capture-status.
class Capture : public ::testing::Test {
 protected:
  void SetUp() override {
    auto server = api::ControlServer::start({directory_.file("control.sock"), {}}, [this](const api::Request& request) { return answer(request); });
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }

  Result<Json> answer(const api::Request& request) {
    calls_.push_back(request.verb);
    if (request.verb == "capture-start") {
      args_ = request.args;
      if (request.args["port"] != "a") return fail(ErrorCode::kNotFound, "no port has this name", "look again");
      return Json{{"capture", 3}};
    }
    if (request.verb == "capture-stop" && is_forgotten_) return fail(ErrorCode::kNotFound, "no capture has this number");
    if (request.verb == "capture-stop") {
      is_stopped_ = true;
      return Json{{"capture", 3}, {"frames", 10}};
    }
    if (is_forgotten_ && looks_ >= states_.size()) return Json{{"captures", Json::array()}};
    if (looks_ == 2) seen_.release();
    const std::string state = is_stopped_ ? "done" : states_[std::min(looks_++, states_.size() - 1)];
    return Json{{"captures", Json::array({{{"capture", 3}, {"port", "a"}, {"path", "/x"}, {"state", state}, {"frames", 10}, {"dropped", 1}, {"error", "disk full"}}})}};
  }

  [[nodiscard]] Outcome here(std::vector<std::string> arguments) const {
    arguments.insert(arguments.end(), {"--directory", directory_.path()});
    return thalweg(arguments);
  }

  thalweg::test::TemporaryDirectory directory_{"capture"};
  std::vector<std::string> states_{"none", "active", "done"};
  std::size_t looks_{};
  std::counting_semaphore<> seen_{0};  // released with the third look
  bool is_stopped_{};
  bool is_forgotten_{};  // somebody else ends it after the last of `states_`
  Json args_;
  std::vector<std::string> calls_;  // read by tests between two runs of the command only
  std::unique_ptr<api::ControlServer> server_;
};

TEST_F(Capture, ends_by_itself_with_its_frames_and_is_let_go) {
  const Outcome outcome = here({"capture", "a", "x.pcapng", "--count", "10", "--file-size", "1MiB", "--snap-length", "64B", "--json"});
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_EQ(outcome.json()["frames"], 10);
  EXPECT_EQ(outcome.json()["dropped"], 1);
  EXPECT_EQ(args_["frame_limit"], 10);
  EXPECT_EQ(args_["byte_limit"], 1 << 20);
  EXPECT_EQ(args_["snap_length"], 64);
  EXPECT_EQ(args_["path"], std::filesystem::absolute("x.pcapng").string());
  EXPECT_TRUE(is_stopped_);
}

TEST_F(Capture, ends_after_the_time_asked_for) {
  states_ = {"active"};
  const Outcome outcome = here({"capture", "a", "/tmp/x.pcapng", "--duration", "20ms"});
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_TRUE(is_stopped_);
}

TEST_F(Capture, that_somebody_else_ended_is_over) {
  is_forgotten_ = true;
  states_ = {"active", "active"};
  const Outcome outcome = here({"capture", "a", "/tmp/x.pcapng", "--json"});
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_EQ(outcome.json()["frames"], 10) << "as they were seen last";
}

TEST_F(Capture, tells_why_the_data_plane_refused) {
  states_ = {"failed"};
  const Outcome outcome = here({"capture", "a", "/tmp/x.pcapng"});
  EXPECT_EQ(outcome.exit, 1);
  EXPECT_NE(outcome.err.find("disk full"), std::string::npos);
  EXPECT_TRUE(is_stopped_) << "its slot is given back";
}

TEST_F(Capture, that_fails_on_its_way_is_not_a_success) {
  states_ = {"active", "active", "failed"};
  const Outcome outcome = here({"capture", "a", "/tmp/x.pcapng", "--count", "1000"});
  EXPECT_EQ(outcome.exit, 1);
  EXPECT_NE(outcome.err.find("disk full"), std::string::npos);
}

TEST_F(Capture, of_an_instance_that_ends_tells_what_it_has_and_that_nobody_is_there) {
  states_ = {"active", "active"};
  std::thread end_of_the_instance{[this] {
    seen_.acquire();
    server_.reset();
  }};
  const Outcome outcome = here({"capture", "a", "/tmp/x.pcapng"});
  end_of_the_instance.join();
  EXPECT_EQ(outcome.exit, 3);
  EXPECT_NE(outcome.err.find("the control plane has ended"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.out.find("10"), std::string::npos) << outcome.out;
}

TEST_F(Capture, hands_on_errors_of_the_control_plane) {
  const Outcome outcome = here({"capture", "zz", "/tmp/x.pcapng", "--json"});
  EXPECT_EQ(outcome.exit, 1);
  EXPECT_EQ(nlohmann::json::parse(outcome.err)["error"]["code"], "not_found");
}

TEST_F(Capture, running_captures_are_listed_and_stopped_by_number) {
  const auto list = here({"capture", "--list", "--json"}).json();
  EXPECT_EQ(list["captures"][0]["capture"], 3);
  EXPECT_EQ(here({"capture", "--stop", "3"}).exit, 0);
  EXPECT_TRUE(is_stopped_);
}

TEST_F(Capture, needs_a_port_and_a_file) {
  EXPECT_EQ(here({"capture"}).exit, 2);
  EXPECT_EQ(here({"capture", "a"}).exit, 2);
}

TEST(CaptureOffline, without_an_instance_is_exit_3) { EXPECT_EQ(thalweg({"capture", "--list", "--directory", "/nonexistent"}).exit, 3); }

}  // namespace
}  // namespace thalweg::cli
