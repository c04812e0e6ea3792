#include "os/private_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace hecaton {
namespace {

using testing::HasSubstr;

class PrivateFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "hecaton-private-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& name = "token") const { return folder_ + "/" + name; }

  std::string problem_;

 private:
  std::string folder_;
};

TEST_F(PrivateFile, IsMadeForTheUserOnlyAndReadBack) {
  const mode_t before = umask(0);
  ASSERT_TRUE(create_private_file(path(), "s3cret\n", &problem_).ok()) << problem_;
  umask(before);
  struct stat info;
  ASSERT_EQ(stat(path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(read_private_file(path(), &problem_).value(), "s3cret\n");
}

TEST_F(PrivateFile, IsNeverOverwritten) {
  ASSERT_TRUE(create_private_file(path(), "first", &problem_).ok());
  EXPECT_EQ(create_private_file(path(), "second", &problem_).error().code, ErrorCode::kBusy);
  EXPECT_EQ(read_private_file(path(), &problem_).value(), "first");
  std::filesystem::create_symlink(path("elsewhere"), path("link"));
  EXPECT_FALSE(create_private_file(path("link"), "through", &problem_).ok());
  EXPECT_FALSE(std::filesystem::exists(path("elsewhere")));
}

TEST_F(PrivateFile, ThatOthersCanReadOrChangeIsRefusedWithTheCommandThatMendsIt) {
  ASSERT_TRUE(create_private_file(path("it's"), "s3cret", &problem_).ok());
  for (mode_t mode : {0640, 0604, 0620, 0602, 0666}) {
    ASSERT_EQ(chmod(path("it's").c_str(), mode), 0);
    auto read = read_private_file(path("it's"), &problem_);
    ASSERT_FALSE(read.ok()) << mode;
    EXPECT_EQ(read.error().code, ErrorCode::kPermission);
    EXPECT_THAT(problem_, HasSubstr("chmod 600 '"));
    EXPECT_THAT(problem_, HasSubstr("/it'\\''s'"));
  }
  ASSERT_EQ(chmod(path("it's").c_str(), 0400), 0);
  EXPECT_TRUE(read_private_file(path("it's"), &problem_).ok());
}

TEST_F(PrivateFile, OfAnotherUserIsRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  ASSERT_TRUE(create_private_file(path(), "s3cret", &problem_).ok());
  ASSERT_EQ(chown(path().c_str(), 12345, 12345), 0);
  EXPECT_EQ(read_private_file(path(), &problem_).error().code, ErrorCode::kPermission);
  EXPECT_THAT(problem_, HasSubstr("chown 0 "));
}

TEST_F(PrivateFile, ThatIsNotThereNotAFileOrHugeIsExplained) {
  EXPECT_EQ(read_private_file(path(), &problem_).error().code, ErrorCode::kNotFound);
  EXPECT_THAT(problem_, HasSubstr("No such file"));
  EXPECT_FALSE(read_private_file(testing::TempDir(), &problem_).ok());
  ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
  EXPECT_FALSE(read_private_file(path("fifo"), &problem_).ok());
  EXPECT_THAT(problem_, HasSubstr("not a regular file"));
  ASSERT_TRUE(create_private_file(path("huge"), std::string(70'000, 'x'), &problem_).ok());
  EXPECT_FALSE(read_private_file(path("huge"), &problem_).ok());
  EXPECT_FALSE(create_private_file(path("no/such/folder"), "x", &problem_).ok());
}

}  // namespace
}  // namespace hecaton
