// A file is replaced whole or not at all.
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "io/files.hpp"
#include "weft/io/safetensors_writer.hpp"

using files::error_of;

namespace {

weft::tensor_writer filled(weft::index n, float x) {
  weft::array<float, 1> a({n});
  std::fill_n(a.data(), n, x);
  weft::tensor_writer writer;
  writer.add("a", a);
  return writer;
}

}  // namespace

TEST_CASE("A device without room leaves the old file and no other") {
  files::temporary_folder folder;
  filled(10, 1).write(folder / "f");
  const std::string old = files::slurp(folder / "f");

  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
  rlimit small = limit;
  small.rlim_cur = 4096;
  auto* handler = signal(SIGXFSZ, SIG_IGN);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  const auto e = error_of([&] { filled(100'000, 2).write(folder / "f"); });
  REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  signal(SIGXFSZ, handler);

  CHECK(e.code == weft::errc::file);
  CHECK(e.text.find("f: cannot be written: ") != std::string::npos);
  CHECK(files::slurp(folder / "f") == old);
  CHECK(folder.entries() == 1);
}

TEST_CASE("What cannot be written is an error that names the file") {
  files::temporary_folder folder;
  const auto none = error_of([&] { filled(1, 1).write(folder / "none/f"); });
  CHECK(none.code == weft::errc::file);
  CHECK(none.text.find("none/f: cannot be written in its folder: ") != std::string::npos);
  CHECK(error_of([&] { filled(1, 1).write(folder.path); }).text.ends_with(": expected a regular file or none to write to"));
  // A device is no file to be replaced, not even through a link.
  CHECK(error_of([&] { filled(1, 1).write("/dev/full"); }).code == weft::errc::file);
  std::filesystem::create_symlink("/dev/full", folder / "full");
  CHECK(error_of([&] { filled(1, 1).write(folder / "full"); }).code == weft::errc::file);
  CHECK(std::filesystem::is_character_file("/dev/full"));
  CHECK(folder.entries() == 1);
}

TEST_CASE("A folder that forbids writing keeps its file") {
  if (::geteuid() == 0) {
    // The superuser writes anywhere: a child without the privilege does the writing.
    files::temporary_folder folder;
    filled(1, 1).write(folder / "f");
    const std::string old = files::slurp(folder / "f");
    REQUIRE(::chmod(folder.path.c_str(), 0555) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(2);
      const auto e = error_of([&] { filled(1, 2).write(folder / "f"); });
      ::_exit(e.text.find("cannot be written in its folder: ") != std::string::npos ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(files::slurp(folder / "f") == old);
    return;
  }
  files::temporary_folder folder;
  filled(1, 1).write(folder / "f");
  const std::string old = files::slurp(folder / "f");
  REQUIRE(::chmod(folder.path.c_str(), 0555) == 0);
  CHECK(error_of([&] { filled(1, 2).write(folder / "f"); }).code == weft::errc::file);
  CHECK(files::slurp(folder / "f") == old);
  REQUIRE(::chmod(folder.path.c_str(), 0755) == 0);
}

TEST_CASE("Links stay, and so do permissions") {
  files::temporary_folder folder;
  filled(1, 1).write(folder / "f");
  REQUIRE(::chmod((folder / "f").c_str(), 0600) == 0);
  std::filesystem::create_symlink("f", folder / "link");
  filled(1, 2).write(folder / "link");
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(weft::to_array<float, 1>(weft::tensor_file::read(folder / "f").at("a"))(0) == 2);
  CHECK((std::filesystem::status(folder / "f").permissions() & std::filesystem::perms::mask) ==
        (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));
  CHECK(folder.entries() == 2);
}

TEST_CASE("Killed at any moment, a writer leaves the old file or the new one") {
  files::temporary_folder folder;
  const weft::index n = 50'000;
  filled(n, 0).write(folder / "f");
  int kills = 0;
  for (int round = 1; round <= 40; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      for (float x = 1;; ++x) filled(n, x).write(folder / "f");
    }
    const timespec pause{0, 400'000L + 137'000L * round};
    ::nanosleep(&pause, nullptr);
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    kills += WIFSIGNALED(status);
    const auto a = weft::to_array<float, 1>(weft::tensor_file::read(folder / "f").at("a"));
    CHECK(a.size() == n);
    CHECK(std::all_of(a.data(), a.data() + n, [&](float x) { return x == a(0); }));
  }
  CHECK(kills == 40);
}
