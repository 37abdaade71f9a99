// The verbs of the control socket and an archive that ends under them. docs/reference/archive-control.md.
#include "controlplane/archive/archive_verbs.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/support/temporary_directory.hpp"

namespace thalweg::archive {
namespace {

TEST(ArchiveVerbs, are_answered_when_the_archive_ends_before_it_comes_to_them) {
  const test::TemporaryDirectory directory{"archive-verbs"};
  Settings settings;
  settings.directory = directory.path() + "/archive";
  settings.instance_directory = directory.path();
  auto started = Archive::start(settings, {});
  ASSERT_TRUE(started) << started.error().message;
  std::unique_ptr<Archive> archive = std::move(*started);
  const ArchiveVerbs verbs{archive.get(), Error{}};
  std::atomic<bool> is_busy{false};
  std::atomic<bool> is_ending{false};
  archive->post([&](Archive::World&) {
    is_busy.store(true);
    while (!is_ending.load()) std::this_thread::yield();
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();  // the end is said meanwhile, in nearly every run
  });
  while (!is_busy.load()) std::this_thread::yield();
  Result<api::Json> answer = fail(ErrorCode::kGeneric, "none yet");
  std::thread asker{[&] { answer = verbs.run({"archive-status", api::Json::object()}); }};
  while (archive->task_count() == 0) std::this_thread::yield();
  is_ending.store(true);
  archive.reset();
  asker.join();
  if (!answer) {
    EXPECT_EQ(answer.error().code, ErrorCode::kClosed) << answer.error().message;
  }
}

TEST(ArchiveVerbs, that_are_unknown_are_refused_with_those_there_are) {
  const test::TemporaryDirectory directory{"archive-verbs"};
  Settings settings;
  settings.directory = directory.path() + "/archive";
  settings.instance_directory = directory.path();
  const auto archive = Archive::start(settings, {});
  ASSERT_TRUE(archive) << archive.error().message;
  const auto refused = ArchiveVerbs{archive->get(), Error{}}.run({"archive-nothing", api::Json::object()});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().hint.find("archive-checksum"), std::string::npos);
}

}  // namespace
}  // namespace thalweg::archive
