/*
 * Records the calls of a program that change or flush files below one directory.
 *
 * Loaded with LD_PRELOAD. DOWNBEAT_RECORD_ROOT is the directory (absolute, without symbolic links),
 * and DOWNBEAT_RECORD_LOG the file that gets the records. Several processes can use the same log,
 * one after the other.
 *
 * A change and its record are made under one lock, so the order of the records is the order of the
 * changes. A flush has two records, and runs without the lock: it covers the changes before its
 * first record, once its second record is there. `recording.rs` reads the records.
 *
 * Not recorded: writes through a shared mapping (the mapping itself is), calls that bypass the C
 * library, and `fallocate` by such a call.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAX_FDS 65536

/* All numbers in the byte order of the machine. The text and the data follow. */
struct record {
    uint8_t kind;
    uint8_t flags;
    uint16_t unused;
    int32_t fd;
    int32_t other; /* the second file descriptor, or the thread of a flush */
    uint32_t text_len;
    uint64_t data_len;
    uint64_t offset;
    uint64_t length;
    uint64_t time; /* nanoseconds of the monotonic clock */
};

enum { CREATED = 1, TRUNCATED = 2 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[4096];
static size_t root_len;
static int log_fd = -1;
static unsigned char is_recorded[MAX_FDS];

/* The function of the C library with this name. */
#define REAL(result, name, ...)                                                                    \
    static result (*real)(__VA_ARGS__);                                                            \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static void fail(const char *reason)
{
    fprintf(stderr, "recorder: %s: %s\n", reason, strerror(errno));
    _exit(70);
}

static void write_all(struct iovec *parts, int count)
{
    while (count > 0) {
        ssize_t written = syscall(SYS_writev, log_fd, parts, count);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) fail("cannot write the log");
        while (count > 0 && (size_t)written >= parts->iov_len) {
            written -= parts->iov_len;
            parts++, count--;
        }
        if (count > 0) {
            parts->iov_base = (char *)parts->iov_base + written;
            parts->iov_len -= written;
        }
    }
}

/* Call with the lock. Keeps errno. */
static void put(struct record record, const char *text, const void *data)
{
    int saved = errno;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    record.time = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    struct iovec parts[] = {
        { &record, sizeof record },
        { (void *)text, record.text_len },
        { (void *)data, record.data_len },
    };
    write_all(parts, 3);
    errno = saved;
}

static void put_text(uint8_t kind, uint8_t flags, int fd, const char *text)
{
    put((struct record){ .kind = kind, .flags = flags, .fd = fd, .text_len = strlen(text) }, text, "");
}

/* A call that the reader does not understand. It refuses the recording. */
static void put_unsupported(const char *call)
{
    put_text('X', 0, -1, call);
}

__attribute__((constructor)) static void begin(void)
{
    const char *dir = getenv("DOWNBEAT_RECORD_ROOT"), *log = getenv("DOWNBEAT_RECORD_LOG");
    if (!dir || !log) return;
    root_len = strlen(dir);
    if (root_len >= sizeof root) return;
    memcpy(root, dir, root_len + 1);
    log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (log_fd < 0) fail("cannot open the log");
    pthread_mutex_lock(&lock);
    put_text('S', 0, -1, "");
    pthread_mutex_unlock(&lock);
}

static int is_below(const char *path)
{
    return log_fd >= 0 && path && strncmp(path, root, root_len) == 0 &&
           (path[root_len] == '/' || path[root_len] == 0);
}

static int has(int fd)
{
    return log_fd >= 0 && fd >= 0 && fd < MAX_FDS && is_recorded[fd];
}

/* A path relative to an open directory below the root cannot be resolved here. */
static void check_relative(int dir, const char *path, const char *call)
{
    if (path[0] != '/' && has(dir)) put_unsupported(call);
}

static int open_at(int dir, const char *path, int flags, mode_t mode)
{
    REAL(int, "openat64", int, const char *, int, ...);
    if (log_fd < 0) return real(dir, path, flags, mode);
    pthread_mutex_lock(&lock);
    int below = is_below(path);
    int is_new = below && (flags & O_CREAT) && faccessat(AT_FDCWD, path, F_OK, 0) != 0;
    int fd = real(dir, path, flags, mode);
    if (fd >= MAX_FDS) put_unsupported("open: too many files");
    if (fd >= 0 && fd < MAX_FDS) {
        if (flags & (O_CREAT | O_TRUNC)) check_relative(dir, path, "openat");
        is_recorded[fd] = below;
        if (below) {
            if ((flags & O_TMPFILE) == O_TMPFILE) put_unsupported("open with O_TMPFILE");
            put_text('O', (is_new ? CREATED : 0) | (flags & O_TRUNC ? TRUNCATED : 0), fd, path);
        }
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE(flags, mode)                                                                          \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                         \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode = va_arg(rest, mode_t);                                                               \
        va_end(rest);                                                                              \
    }
int open(const char *path, int flags, ...) { MODE(flags, mode) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, mode) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags, mode) return open_at(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE(flags, mode) return open_at(dir, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int fd)
{
    REAL(int, "close", int);
    if (!has(fd)) return real(fd);
    pthread_mutex_lock(&lock);
    is_recorded[fd] = 0;
    put((struct record){ .kind = 'C', .fd = fd }, "", "");
    int result = real(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

/* Call with the lock. */
static int duplicated(int fd, int copy)
{
    if (copy >= 0 && copy < MAX_FDS) {
        is_recorded[copy] = has(fd);
        if (has(fd)) put((struct record){ .kind = 'D', .fd = fd, .other = copy }, "", "");
    }
    return copy;
}

#define DUPLICATE(name, parameters, arguments, types)                                              \
    int name parameters                                                                            \
    {                                                                                              \
        REAL(int, #name, types);                                                                   \
        pthread_mutex_lock(&lock);                                                                 \
        int copy = duplicated(fd, real arguments);                                                 \
        pthread_mutex_unlock(&lock);                                                               \
        return copy;                                                                               \
    }
#define TYPES(...) __VA_ARGS__
DUPLICATE(dup, (int fd), (fd), int)
DUPLICATE(dup2, (int fd, int to), (fd, to), TYPES(int, int))
DUPLICATE(dup3, (int fd, int to, int flags), (fd, to, flags), TYPES(int, int, int))

static int control(int fd, int command, void *argument)
{
    REAL(int, "fcntl64", int, int, ...);
    if (!has(fd) || (command != F_DUPFD && command != F_DUPFD_CLOEXEC)) return real(fd, command, argument);
    pthread_mutex_lock(&lock);
    int copy = duplicated(fd, real(fd, command, argument));
    pthread_mutex_unlock(&lock);
    return copy;
}

#define ARGUMENT(last)                                                                             \
    va_list rest;                                                                                  \
    va_start(rest, last);                                                                          \
    void *argument = va_arg(rest, void *);                                                         \
    va_end(rest);
int fcntl(int fd, int command, ...) { ARGUMENT(command) return control(fd, command, argument); }
int fcntl64(int fd, int command, ...) { ARGUMENT(command) return control(fd, command, argument); }

static void put_write(int fd, uint64_t offset, const struct iovec *parts, int count, ssize_t written)
{
    for (int i = 0; i < count && written > 0; i++) {
        uint64_t len = parts[i].iov_len < (size_t)written ? parts[i].iov_len : (size_t)written;
        put((struct record){ .kind = 'W', .fd = fd, .offset = offset, .data_len = len }, "", parts[i].iov_base);
        offset += len;
        written -= len;
    }
}

/* Where the next `write` of this file goes. */
static uint64_t position(int fd)
{
    struct stat stat;
    if ((syscall(SYS_fcntl, fd, F_GETFL) & O_APPEND) && fstat(fd, &stat) == 0) return stat.st_size;
    return lseek64(fd, 0, SEEK_CUR);
}

#define WRITE(name, parameters, arguments, types, before, at, parts, count)                        \
    ssize_t name parameters                                                                        \
    {                                                                                              \
        REAL(ssize_t, #name, types);                                                               \
        if (!has(fd)) return real arguments;                                                       \
        pthread_mutex_lock(&lock);                                                                 \
        uint64_t start = at;                                                                       \
        before;                                                                                    \
        ssize_t written = real arguments;                                                          \
        put_write(fd, start, parts, count, written);                                               \
        pthread_mutex_unlock(&lock);                                                               \
        return written;                                                                            \
    }
#define ONE struct iovec one = { (void *)data, len }
WRITE(write, (int fd, const void *data, size_t len), (fd, data, len), TYPES(int, const void *, size_t), ONE, position(fd), &one, 1)
WRITE(pwrite, (int fd, const void *data, size_t len, off_t at), (fd, data, len, at), TYPES(int, const void *, size_t, off_t), ONE, at, &one, 1)
WRITE(pwrite64, (int fd, const void *data, size_t len, off64_t at), (fd, data, len, at), TYPES(int, const void *, size_t, off64_t), ONE, at, &one, 1)
WRITE(writev, (int fd, const struct iovec *parts, int count), (fd, parts, count), TYPES(int, const struct iovec *, int), , position(fd), parts, count)
WRITE(pwritev, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at), TYPES(int, const struct iovec *, int, off_t), , at, parts, count)
WRITE(pwritev64, (int fd, const struct iovec *parts, int count, off64_t at), (fd, parts, count, at), TYPES(int, const struct iovec *, int, off64_t), , at, parts, count)

/* A call that changes the length of an open file. */
#define LENGTH(name, parameters, arguments, types, is_plain, call_kind, call_length)               \
    int name parameters                                                                            \
    {                                                                                              \
        REAL(int, #name, types);                                                                   \
        if (!has(fd)) return real arguments;                                                       \
        pthread_mutex_lock(&lock);                                                                 \
        if (!(is_plain)) put_unsupported(#name);                                                   \
        int result = real arguments;                                                               \
        if (result == 0) put((struct record){ .kind = call_kind, .fd = fd, .length = call_length }, "", ""); \
        pthread_mutex_unlock(&lock);                                                               \
        return result;                                                                             \
    }
LENGTH(ftruncate, (int fd, off_t len), (fd, len), TYPES(int, off_t), 1, 'T', len)
LENGTH(ftruncate64, (int fd, off64_t len), (fd, len), TYPES(int, off64_t), 1, 'T', len)
LENGTH(fallocate, (int fd, int mode, off_t at, off_t len), (fd, mode, at, len), TYPES(int, int, off_t, off_t), mode == 0, 'A', at + len)
LENGTH(fallocate64, (int fd, int mode, off64_t at, off64_t len), (fd, mode, at, len), TYPES(int, int, off64_t, off64_t), mode == 0, 'A', at + len)
LENGTH(posix_fallocate, (int fd, off_t at, off_t len), (fd, at, len), TYPES(int, off_t, off_t), 1, 'A', at + len)
LENGTH(posix_fallocate64, (int fd, off64_t at, off64_t len), (fd, at, len), TYPES(int, off64_t, off64_t), 1, 'A', at + len)

/* A call that changes a directory. */
#define NAME(name, parameters, arguments, types, path, call_kind)                                  \
    int name parameters                                                                            \
    {                                                                                              \
        REAL(int, #name, types);                                                                   \
        if (!is_below(path)) return real arguments;                                                \
        pthread_mutex_lock(&lock);                                                                 \
        int result = real arguments;                                                               \
        if (result == 0) put_text(call_kind, 0, -1, path);                                         \
        pthread_mutex_unlock(&lock);                                                               \
        return result;                                                                             \
    }
NAME(unlink, (const char *path), (path), const char *, path, 'U')
NAME(remove, (const char *path), (path), const char *, path, 'U')
NAME(rmdir, (const char *path), (path), const char *, path, 'U')
NAME(unlinkat, (int dir, const char *path, int flags), (dir, path, flags), TYPES(int, const char *, int), path, 'U')
NAME(mkdir, (const char *path, mode_t mode), (path, mode), TYPES(const char *, mode_t), path, 'M')
NAME(mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode), TYPES(int, const char *, mode_t), path, 'M')
NAME(truncate, (const char *path, off_t len), (path, len), TYPES(const char *, off_t), path, 'X')
NAME(truncate64, (const char *path, off64_t len), (path, len), TYPES(const char *, off64_t), path, 'X')
NAME(link, (const char *from, const char *to), (from, to), TYPES(const char *, const char *), to, 'X')
NAME(symlink, (const char *from, const char *to), (from, to), TYPES(const char *, const char *), to, 'X')

int rename(const char *from, const char *to)
{
    REAL(int, "rename", const char *, const char *);
    if (!is_below(from) && !is_below(to)) return real(from, to);
    pthread_mutex_lock(&lock);
    int result = real(from, to);
    size_t from_len = strlen(from), to_len = strlen(to);
    char *both = malloc(from_len + to_len + 1);
    if (!both) fail("no memory");
    memcpy(both, from, from_len + 1);
    memcpy(both + from_len + 1, to, to_len);
    if (result == 0) put((struct record){ .kind = 'R', .text_len = from_len + to_len + 1 }, both, "");
    free(both);
    pthread_mutex_unlock(&lock);
    return result;
}

static void put_flush(uint8_t kind, int fd)
{
    pthread_mutex_lock(&lock);
    put((struct record){ .kind = kind, .fd = fd, .other = syscall(SYS_gettid) }, "", "");
    pthread_mutex_unlock(&lock);
}

#define FLUSH(name)                                                                                \
    int name(int fd)                                                                               \
    {                                                                                              \
        REAL(int, #name, int);                                                                     \
        if (!has(fd)) return real(fd);                                                             \
        put_flush('F', fd);                                                                        \
        int result = real(fd);                                                                     \
        if (result == 0) put_flush('f', fd);                                                       \
        return result;                                                                             \
    }
FLUSH(fsync)
FLUSH(fdatasync)

int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags)
{
    REAL(int, "sync_file_range", int, off64_t, off64_t, unsigned);
    int result = real(fd, offset, length, flags);
    if (has(fd) && result == 0) {
        pthread_mutex_lock(&lock);
        put((struct record){ .kind = 'G', .fd = fd, .offset = offset, .length = length }, "", "");
        pthread_mutex_unlock(&lock);
    }
    return result;
}

static void *map(void *at, size_t len, int access, int flags, int fd, off64_t offset)
{
    REAL(void *, "mmap64", void *, size_t, int, int, int, off64_t);
    if ((flags & MAP_SHARED) && (access & PROT_WRITE) && has(fd)) {
        pthread_mutex_lock(&lock);
        put((struct record){ .kind = 'P', .fd = fd }, "", "");
        pthread_mutex_unlock(&lock);
    }
    return real(at, len, access, flags, fd, offset);
}
void *mmap(void *at, size_t len, int access, int flags, int fd, off_t offset) { return map(at, len, access, flags, fd, offset); }
void *mmap64(void *at, size_t len, int access, int flags, int fd, off64_t offset) { return map(at, len, access, flags, fd, offset); }

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t len, unsigned flags)
{
    REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
    if (has(to)) put_unsupported("copy_file_range");
    return real(from, from_at, to, to_at, len, flags);
}
