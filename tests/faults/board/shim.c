/* A disk that fails on command: LD_PRELOAD, steered by a file mapped into this process and the harness's.
 *
 * Only files whose name begins with BOARD_SHIM_PATH are touched. Control words (int32): errno for write, errno for
 * sync, errno for opening to write (and making, renaming, removing), microseconds a write takes, microseconds a sync
 * takes, and a count of the calls that were hit.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE, SYNC, OPEN, SLOW_WRITE, SLOW_SYNC, HITS };
static volatile int *control;
static const char *prefix;

static int (*real_openat)(int, const char *, int, ...);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("BOARD_SHIM_CONTROL");
    prefix = getenv("BOARD_SHIM_PATH");
    real_openat = dlsym(RTLD_NEXT, "openat");
    if (!path || !prefix) return;
    int fd = real_openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED) control = at;
}

static int named_ours(const char *path) { return path && prefix && !strncmp(path, prefix, strlen(prefix)); }

static int ours(int fd) {
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, name, sizeof name - 1);
    if (n <= 0) return 0;
    name[n] = 0;
    return named_ours(name);
}

/* 1: the call fails, errno is set. */
static int hit_fd(int fd, int which, int slow) {
    if (!control || !(control[which] || (slow && control[slow])) || !ours(fd)) return 0;
    if (slow && control[slow]) {
        __sync_fetch_and_add(&control[HITS], 1);
        usleep((useconds_t)control[slow]);
    }
    if (!control[which]) return 0;
    __sync_fetch_and_add(&control[HITS], 1);
    errno = control[which];
    return 1;
}

static int hit_name(const char *path) {
    if (!control || !control[OPEN] || !named_ours(path)) return 0;
    __sync_fetch_and_add(&control[HITS], 1);
    errno = control[OPEN];
    return 1;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *b, size_t n) { REAL(write); return hit_fd(fd, WRITE, SLOW_WRITE) ? -1 : real(fd, b, n); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { REAL(pwrite); return hit_fd(fd, WRITE, SLOW_WRITE) ? -1 : real(fd, b, n, o); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { REAL(pwrite64); return hit_fd(fd, WRITE, SLOW_WRITE) ? -1 : real(fd, b, n, o); }
ssize_t writev(int fd, const struct iovec *v, int n) { REAL(writev); return hit_fd(fd, WRITE, SLOW_WRITE) ? -1 : real(fd, v, n); }
int ftruncate(int fd, off_t n) { REAL(ftruncate); return hit_fd(fd, WRITE, 0) ? -1 : real(fd, n); }
int ftruncate64(int fd, off64_t n) { REAL(ftruncate64); return hit_fd(fd, WRITE, 0) ? -1 : real(fd, n); }
int posix_fallocate(int fd, off_t o, off_t n) { REAL(posix_fallocate); return hit_fd(fd, WRITE, 0) ? errno : real(fd, o, n); }
int fsync(int fd) { REAL(fsync); return hit_fd(fd, SYNC, SLOW_SYNC) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return hit_fd(fd, SYNC, SLOW_SYNC) ? -1 : real(fd); }
int unlink(const char *p) { REAL(unlink); return hit_name(p) ? -1 : real(p); }
int rename(const char *a, const char *b) { REAL(rename); return hit_name(b) ? -1 : real(a, b); }
int mkdir(const char *p, mode_t m) { REAL(mkdir); return hit_name(p) ? -1 : real(p, m); }

#define FOR_WRITING(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))
#define MODE(flags) mode_t mode = 0; \
    if ((flags) & O_CREAT) { va_list a; va_start(a, flags); mode = va_arg(a, mode_t); va_end(a); }

int open(const char *p, int flags, ...) { REAL(open); MODE(flags) return FOR_WRITING(flags) && hit_name(p) ? -1 : real(p, flags, mode); }
int open64(const char *p, int flags, ...) { REAL(open64); MODE(flags) return FOR_WRITING(flags) && hit_name(p) ? -1 : real(p, flags, mode); }
int openat(int d, const char *p, int flags, ...) { MODE(flags) return FOR_WRITING(flags) && hit_name(p) ? -1 : real_openat(d, p, flags, mode); }
