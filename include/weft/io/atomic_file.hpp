// A file that is replaced whole or not at all (POSIX): written under a temporary name beside it, flushed to the device, renamed.
#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>

#include "../core/error.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace io {

// Until commit() returns, the file under the path is the old one; without it the temporary file goes with this object.
// Throws errc::file. A killed process leaves the old file or the new one, and perhaps a temporary ".weft-*" beside it.
class atomic_file {
 public:
  explicit atomic_file(const std::filesystem::path& path) : path_(path) {
    std::error_code none;
    if (std::filesystem::is_symlink(path_, none)) path_ = std::filesystem::weakly_canonical(path_, none);  // the link stays
    struct stat old {};
    const bool replaces = ::stat(path_.c_str(), &old) == 0;
    require(!replaces || S_ISREG(old.st_mode), errc::file, path.string(), ": expected a regular file or none to write to");
    for (int attempt = 0; attempt < 1000 && file_ < 0; ++attempt) {
      temporary_ = path_;
      temporary_.replace_filename(".weft-" + std::to_string(::getpid()) + "-" + std::to_string(attempt));
      file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (file_ < 0 && errno != EEXIST) break;
    }
    if (file_ < 0) wrong("cannot be written in its folder");
    if (replaces) static_cast<void>(::fchmod(file_, old.st_mode & 07777));
  }
  atomic_file(const atomic_file&) = delete;
  atomic_file& operator=(const atomic_file&) = delete;
  ~atomic_file() {
    if (file_ >= 0) ::close(file_);
    if (!committed_) ::unlink(temporary_.c_str());
  }

  void write(const void* data, std::size_t bytes) {
    for (auto* from = static_cast<const char*>(data); bytes > 0;) {
      const ssize_t n = ::write(file_, from, bytes);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) wrong("cannot be written");
      from += n;
      bytes -= static_cast<std::size_t>(n);
    }
  }

  void commit() {
    if (::fsync(file_) != 0) wrong("cannot be flushed to the device");
    const int file = std::exchange(file_, -1);
    if (::close(file) != 0) wrong("cannot be closed");
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) wrong("cannot be replaced");
    committed_ = true;
    // The new name reaches the device too. The file is whole either way, so a failure here is not one of the write.
    const auto folder = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
    if (const int f = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); f >= 0) {
      static_cast<void>(::fsync(f));
      ::close(f);
    }
  }

 private:
  [[noreturn]] void wrong(const char* what) const {
    const std::string reason = std::strerror(errno);
    fail(errc::file, path_.string(), ": ", what, ": ", reason);
  }

  std::filesystem::path path_, temporary_;
  int file_ = -1;
  bool committed_ = false;
};

}  // namespace io
}  // namespace WEFT_ISA
}  // namespace weft
