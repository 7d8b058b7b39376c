/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Preloaded into a program under test: counts its operations on files below FAULT_ROOT, and
 *   FAULT=fail:N:ERRNO  has the Nth fail, and all later ones of its kind,
 *   FAULT=once:N:ERRNO  has the Nth alone fail,
 *   FAULT=kill:N        kills the process at the Nth,
 *   FAULT_LOG=FILE      writes down each of them with its data, so that a disk can be simulated.
 * A line of the log: operation, inode, number, length of the text behind it; then the text: a path, two
 * paths with a zero byte between them, or data.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static const char *root;
static char mode[8], failing[16];
static long target = -1;
static int number, log_fd = -1;
static size_t root_length;

__attribute__((constructor)) static void begin(void) {
  const char *fault = getenv("FAULT"), *log = getenv("FAULT_LOG");
  root = getenv("FAULT_ROOT");
  root_length = root ? strlen(root) : 0;
  if (fault) sscanf(fault, "%7[^:]:%ld:%d", mode, &target, &number);
  if (log && root) {
    int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    log_fd = real(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  }
}

static int ours(const char *path) { return root && !strncmp(path, root, root_length); }

static int path_of(int fd, char *path, size_t size) {
  char link[40];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, size - 1);
  path[n > 0 ? n : 0] = 0;
  return ours(path);
}

/* Whether an operation is to fail; counts it. The counter is shared by forks through a file. */
static int fails(const char *operation) {
  static int counter_fd = -2;
  if (counter_fd == -2) {
    const char *name = getenv("FAULT_COUNT");
    int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    counter_fd = name ? real(name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
  }
  long count = 0;
  if (counter_fd >= 0) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    real(counter_fd, operation, 1);
    count = lseek(counter_fd, 0, SEEK_END) - 1;
  }
  if (*failing && !strcmp(failing, operation)) { errno = number; return 1; }
  if (count != target) return 0;
  if (!strcmp(mode, "kill")) kill(getpid(), SIGKILL);
  if (!strcmp(mode, "fail")) snprintf(failing, sizeof failing, "%s", operation);
  errno = number;
  return *mode && strcmp(mode, "kill");
}

static void note(char operation, ino_t inode, long long value, const void *text, size_t length) {
  if (log_fd < 0) return;
  static ssize_t (*real)(int, const void *, size_t);
  if (!real) real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
  char *line = malloc(length + 100);
  int n = sprintf(line, "%c %llu %lld %zu\n", operation, (unsigned long long)inode, value, length);
  memcpy(line + n, text, length);
  real(log_fd, line, n + length);
  free(line);
}

static ino_t inode_of(int fd) {
  struct stat found;
  return fstat(fd, &found) ? 0 : found.st_ino;
}

static int opened(const char *path, int flags, int fd) {
  struct stat found;
  char full[4096];
  if (fd >= 0 && flags & (O_CREAT | O_TRUNC) && path_of(fd, full, sizeof full) && !fstat(fd, &found))
    note('O', found.st_ino, found.st_size, full, strlen(full));
  return fd;
}

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    va_list rest; va_start(rest, flags); mode_t m = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    REAL(int, name, const char *, int, ...); \
    if (ours(path) && flags & (O_WRONLY | O_RDWR) && fails("open")) return -1; \
    return opened(path, flags, real(path, flags, m)); \
  }
OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *data, size_t size) {
  REAL(ssize_t, write, int, const void *, size_t);
  char path[4096];
  if (!path_of(fd, path, sizeof path)) return real(fd, data, size);
  if (fails("write")) return -1;
  long long at = fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
  ssize_t n = real(fd, data, size);
  if (n > 0) note('W', inode_of(fd), at, data, n);
  return n;
}

#define PWRITE(name, type) \
  ssize_t name(int fd, const void *data, size_t size, type at) { \
    REAL(ssize_t, name, int, const void *, size_t, type); \
    char path[4096]; \
    if (!path_of(fd, path, sizeof path)) return real(fd, data, size, at); \
    if (fails("pwrite")) return -1; \
    ssize_t n = real(fd, data, size, at); \
    if (n > 0) note('W', inode_of(fd), at, data, n); \
    return n; \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define SENDFILE(name, type) \
  ssize_t name(int out, int in, type *offset, size_t size) { \
    REAL(ssize_t, name, int, int, type *, size_t); \
    char path[4096]; \
    if (!path_of(out, path, sizeof path)) return real(out, in, offset, size); \
    if (fails("sendfile")) return -1; \
    long long from = lseek(in, 0, SEEK_CUR), to = lseek(out, 0, SEEK_CUR); \
    ssize_t n = real(out, in, offset, size); \
    if (n > 0) { \
      char *data = malloc(n); \
      if (pread(in, data, n, from) == n) note('W', inode_of(out), to, data, n); \
      free(data); \
    } \
    return n; \
  }
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

#define TRUNCATE(name, type) \
  int name(int fd, type length) { \
    REAL(int, name, int, type); \
    char path[4096]; \
    if (!path_of(fd, path, sizeof path)) return real(fd, length); \
    if (fails("truncate")) return -1; \
    int failed = real(fd, length); \
    if (!failed) note('T', inode_of(fd), length, "", 0); \
    return failed; \
  }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int close(int fd) {
  REAL(int, close, int);
  char path[4096];
  int writes = (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY;
  if (writes && path_of(fd, path, sizeof path) && fails("close")) {
    int wanted = errno;
    real(fd);
    errno = wanted;
    return -1;
  }
  return real(fd);
}

#define SYNC(name) \
  int name(int fd) { \
    REAL(int, name, int); \
    char path[4096]; \
    if (!path_of(fd, path, sizeof path)) return real(fd); \
    if (fails("sync")) return -1; \
    int failed = 0; /* the disk is simulated */ \
    if (!failed) note(#name[0] == 's' ? 'A' : 'S', inode_of(fd), 0, path, strlen(path)); \
    return failed; \
  }
SYNC(fsync)
SYNC(fdatasync)
SYNC(syncfs)

int rename(const char *from, const char *to) {
  REAL(int, rename, const char *, const char *);
  if (!ours(to)) return real(from, to);
  if (fails("rename")) return -1;
  int failed = real(from, to);
  char both[8192];
  int n = snprintf(both, sizeof both, "%s%c%s", from, 0, to);
  if (!failed) note('R', 0, 0, both, n);
  return failed;
}

int unlink(const char *path) {
  REAL(int, unlink, const char *);
  if (!ours(path)) return real(path);
  if (fails("unlink")) return -1;
  int failed = real(path);
  if (!failed) note('U', 0, 0, path, strlen(path));
  return failed;
}

int mkdir(const char *path, mode_t m) {
  REAL(int, mkdir, const char *, mode_t);
  if (!ours(path)) return real(path, m);
  if (fails("mkdir")) return -1;
  int failed = real(path, m);
  if (!failed) note('M', 0, 0, path, strlen(path));
  return failed;
}
