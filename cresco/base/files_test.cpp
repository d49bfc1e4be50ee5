#include "cresco/base/files.h"

#include "cresco/base/hash.h"
#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace cresco {
namespace {

TEST(AtomicFile, LeavesNothingWithoutCommit) {
  const TemporaryFolder folder;
  write_file(folder / "a", "old");
  {
    AtomicFile file(folder / "a");
    file.write("new");
  }
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(AtomicFile, KeepsTheOldFileWhenTheDiskIsFull) {
  const TemporaryFolder folder;
  write_file(folder / "a", "old");
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);  // the write then fails with EFBIG, as it would with ENOSPC
    const rlimit limit{1 << 16, 1 << 16};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      AtomicFile file(folder / "a");
      file.write(std::string(1 << 21, 'x'));
      file.commit();
    } catch (const Error&) {
      _exit(7);
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_EQ(read_file(folder / "a"), "old");
}

TEST(AtomicFolder, AppearsWhole) {
  const TemporaryFolder folder;
  {
    AtomicFolder made(folder / "step5");
    write_file(made.folder() / "x", "1");
    EXPECT_FALSE(std::filesystem::exists(folder / "step5"));
    made.commit();
  }
  EXPECT_EQ(read_file(folder / "step5" / "x"), "1");
  {
    AtomicFolder again(folder / "step5");
    write_file(again.folder() / "x", "2");
    again.commit(/*replace=*/true);
  }
  EXPECT_EQ(read_file(folder / "step5" / "x"), "2");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(FolderLock, RefusesASecondProcess) {
  const TemporaryFolder folder;
  const FolderLock lock(folder.path());
  const pid_t child = fork();
  if (child == 0) {
    try {
      const FolderLock second(folder.path());
    } catch (const Error& e) {
      _exit(std::string(e.what()).find(std::to_string(getppid())) != std::string::npos ? 7 : 8);
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST(Files, SayWhatIsWrong) {
  const TemporaryFolder folder;
  EXPECT_THROW(read_file(folder / "none"), Error);
  EXPECT_THROW(read_file(folder.path()), Error);
  EXPECT_THROW(MappedFile(folder / "none"), Error);
  write_file(folder / "big", std::string(100, 'x'));
  EXPECT_THROW(read_file(folder / "big", 99), Error);
  EXPECT_EQ(MappedFile(folder / "big").size(), 100u);
  write_file(folder / "empty", "");
  EXPECT_EQ(MappedFile(folder / "empty").size(), 0u);
}

TEST(Files, RefuseAnExistingOutputUnlessToldTo) {
  const TemporaryFolder folder;
  make_output_folder(folder / "out", false);
  make_output_folder(folder / "out", false);  // an empty one is no loss
  write_file(folder / "out" / "a", "x");
  EXPECT_THROW(make_output_folder(folder / "out", false), Error);
  EXPECT_THROW(make_output_file(folder / "out" / "a", false), Error);
  EXPECT_NO_THROW(make_output_file(folder / "out" / "a", true, {folder / "none"}));
  std::filesystem::create_symlink(folder / "out" / "a", folder / "link");
  EXPECT_THROW(make_output_file(folder / "out" / "a", true, {folder / "link"}), Error);
  EXPECT_THROW(make_output_folder(folder / "out", true), Error);  // no output of ours
  write_file(folder / "out" / "manifest.json", "{}");
  EXPECT_THROW(make_output_folder(folder / "out", true, {folder / "out" / "a"}), Error);
  make_output_folder(folder / "out", true, {folder / "in"});
  EXPECT_TRUE(std::filesystem::is_empty(folder / "out"));
}

TEST(Sha256, AgreesWithTheStandard) {
  EXPECT_EQ(sha256_hex(as_bytes("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

}  // namespace
}  // namespace cresco
