// The scripted driver for the checks in C.
#include "tests/unit/client/c_abi_checks.h"

#include <gtest/gtest.h>

#include <thread>

#include "dataplane/client/c/thalweg.h"
#include "tests/support/ipc_driver.hpp"
#include "tests/support/temporary_directory.hpp"

namespace thalweg::test {
namespace {

void expect_none(const char* complaint) {
  if (complaint != nullptr) ADD_FAILURE() << complaint;
}

class CAbi : public ::testing::Test {
 protected:
  static void turn(void* driver) {
    static_cast<IpcDriver*>(driver)->do_work();
    static_cast<IpcDriver*>(driver)->beat();
  }
  TemporaryDirectory directory_{"c-abi"};
};

TEST_F(CAbi, tells_what_went_wrong) { expect_none(check_errors(directory_.path().c_str())); }
TEST_F(CAbi, publishes_and_polls) {
  IpcDriver driver{{.directory = directory_.path()}};
  expect_none(check_streams(directory_.path().c_str(), turn, &driver));
}
TEST_F(CAbi, adds_and_finds_resources) {
  IpcDriver driver{{.directory = directory_.path()}};
  expect_none(check_resources(directory_.path().c_str(), turn, &driver));
}
TEST_F(CAbi, builds_channels) { expect_none(check_channels()); }

TEST_F(CAbi, keeps_the_last_error_of_each_thread) {
  thalweg_cnc_t* cnc = nullptr;
  EXPECT_EQ(thalweg_cnc_open(directory_.path().c_str(), &cnc), THALWEG_ERROR_NOT_FOUND);
  std::thread{[] {
    EXPECT_EQ(thalweg_error_code(), THALWEG_OK);
    EXPECT_STREQ(thalweg_error_text(), "");
    thalweg_uri_t* uri = nullptr;
    EXPECT_EQ(thalweg_uri_parse("x", &uri), THALWEG_ERROR_INVALID_CHANNEL);
  }}.join();
  EXPECT_EQ(thalweg_error_code(), THALWEG_ERROR_NOT_FOUND);
}

}  // namespace
}  // namespace thalweg::test
