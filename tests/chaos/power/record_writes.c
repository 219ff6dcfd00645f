/* Recorder of writes, for LD_PRELOAD: what processes change below a folder, what of it they sync,
 * and when they answer 2xx over HTTP. `disk.py` makes of it what a power cut would leave.
 *
 * RECORD_ROOT names the folder, RECORD_SKIP one below it that is left out, RECORD_LOG the log, with
 * a line for each call that succeeded, in the order of all processes, its fields set apart by tabs:
 *
 *   mkdir PATH | create PATH INODE | write INODE | link PATH NEW | rename PATH NEW | unlink PATH
 *   sync TOKEN folder PATH | sync TOKEN file INODE   an fsync begins
 *   synced TOKEN SIZE       it has ended; RECORD_LOG.TOKEN is a hard link to the file
 *   answer REQUEST_ID       a 2xx answer is about to be sent
 *
 * Calls that change names hold a lock until they are logged, so that their order there is true. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { HEAD_BYTES = 2048, LOWEST_FD = 400 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static const char *root, *skip;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void before_fork(void) { pthread_mutex_lock(&mutex); }
static void after_fork(void) { pthread_mutex_unlock(&mutex); }

static void in_child(void) {
    /* An open file of its own: flock does not exclude those who share one. */
    if (log_fd >= 0) close(log_fd);
    log_fd = -1;
    pthread_mutex_unlock(&mutex);
}

__attribute__((constructor)) static void start(void) {
    root = getenv("RECORD_ROOT");
    skip = getenv("RECORD_SKIP");
    pthread_atfork(before_fork, after_fork, in_child);
}

static int is_below(const char *path, const char *folder) {
    size_t length = folder == NULL ? 0 : strlen(folder);
    if (length == 0 || strncmp(path, folder, length) != 0) return 0;
    return path[length] == '/' || path[length] == 0;
}

static int is_watched(const char *path) { return is_below(path, root) && !is_below(path, skip); }

static void lock(void) {
    pthread_mutex_lock(&mutex);
    if (log_fd < 0) {
        int flags = O_WRONLY | O_APPEND | O_CREAT;
        int fd = syscall(SYS_openat, AT_FDCWD, getenv("RECORD_LOG"), flags, 0600);
        log_fd = fcntl(fd, F_DUPFD_CLOEXEC, LOWEST_FD); /* not among the program's own numbers */
        syscall(SYS_close, fd);
    }
    if (log_fd < 0 || flock(log_fd, LOCK_EX) != 0) abort();
}

static void unlock(void) {
    flock(log_fd, LOCK_UN);
    pthread_mutex_unlock(&mutex);
}

/* Log a line; the lock is held. */
static void record(const char *format, ...) {
    char line[3 * PATH_MAX];
    int kept_errno = errno;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (syscall(SYS_write, log_fd, line, (size_t)length) != length) abort();
    errno = kept_errno;
}

static int path_of_fd(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlink, link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return length > 0;
}

/* The absolute path of `name` below the open folder `at`. */
static void absolute(int at, const char *name, char *path) {
    char folder[PATH_MAX] = "";
    if (name[0] != '/') {
        if (at == AT_FDCWD) {
            if (getcwd(folder, sizeof folder) == NULL) folder[0] = 0;
        } else {
            path_of_fd(at, folder);
        }
        strncat(folder, "/", sizeof folder - strlen(folder) - 1);
    }
    snprintf(path, PATH_MAX, "%s%s", folder, name);
}

/* ---- Names ---- */

static int opened(int at, const char *name, int flags, mode_t mode) {
    int (*real)(int, const char *, int, ...) = REAL(openat);
    char path[PATH_MAX];
    int may_write = (flags & (O_CREAT | O_TRUNC)) && (flags & O_TMPFILE) != O_TMPFILE;
    absolute(at, name, path);
    if (!may_write || !is_watched(path)) return real(at, name, flags, mode);
    lock();
    struct stat found;
    int was_there = syscall(SYS_newfstatat, AT_FDCWD, path, &found, 0) == 0;
    int fd = real(at, name, flags, mode);
    if (fd >= 0 && fstat(fd, &found) == 0) {
        if (!was_there) record("create\t%s\t%lu\n", path, found.st_ino);
        else if (flags & O_TRUNC) record("write\t%lu\n", found.st_ino);
    }
    unlock();
    return fd;
}

static mode_t mode_of(int flags, va_list arguments) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(function) \
    int function(const char *name, int flags, ...) { \
        va_list arguments; \
        va_start(arguments, flags); \
        mode_t mode = mode_of(flags, arguments); \
        va_end(arguments); \
        return opened(AT_FDCWD, name, flags, mode); \
    }
#define OPENAT(function) \
    int function(int at, const char *name, int flags, ...) { \
        va_list arguments; \
        va_start(arguments, flags); \
        mode_t mode = mode_of(flags, arguments); \
        va_end(arguments); \
        return opened(at, name, flags, mode); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* Call the real function and, where that succeeds on a watched path, log it. */
#define CHANGE(call, path, ...) \
    if (!is_watched(path)) return call; \
    lock(); \
    int result = call; \
    if (result == 0) record(__VA_ARGS__); \
    unlock(); \
    return result

int mkdirat(int at, const char *name, mode_t mode) {
    char path[PATH_MAX];
    absolute(at, name, path);
    CHANGE(REAL(mkdirat)(at, name, mode), path, "mkdir\t%s\n", path);
}

int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int unlinkat(int at, const char *name, int flags) {
    char path[PATH_MAX];
    absolute(at, name, path);
    CHANGE(REAL(unlinkat)(at, name, flags), path, "unlink\t%s\n", path);
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int linkat(int at, const char *name, int new_at, const char *new_name, int flags) {
    char path[PATH_MAX], new_path[PATH_MAX];
    absolute(at, name, path);
    absolute(new_at, new_name, new_path);
    CHANGE(REAL(linkat)(at, name, new_at, new_name, flags), new_path,
           "link\t%s\t%s\n", path, new_path);
}

int link(const char *name, const char *new_name) {
    return linkat(AT_FDCWD, name, AT_FDCWD, new_name, 0);
}

int renameat2(int at, const char *name, int new_at, const char *new_name, unsigned flags) {
    char path[PATH_MAX], new_path[PATH_MAX];
    absolute(at, name, path);
    absolute(new_at, new_name, new_path);
    CHANGE(REAL(renameat2)(at, name, new_at, new_name, flags), new_path,
           "rename\t%s\t%s\n", path, new_path);
}

int renameat(int at, const char *name, int new_at, const char *new_name) {
    return renameat2(at, name, new_at, new_name, 0);
}

int rename(const char *name, const char *new_name) {
    return renameat2(AT_FDCWD, name, AT_FDCWD, new_name, 0);
}

/* ---- Contents ---- */

static void written(int fd, ssize_t result) {
    char path[PATH_MAX];
    struct stat found;
    if (result < 0 || fstat(fd, &found) != 0 || !S_ISREG(found.st_mode)) return;
    if (!path_of_fd(fd, path) || !is_watched(path)) return;
    lock();
    record("write\t%lu\n", found.st_ino);
    unlock();
}

/* Log a 2xx answer before it is sent. */
static void answering(int fd, const void *data, size_t length) {
    static const char status[] = "HTTP/1.1 2", header[] = "\r\nx-request-id: ";
    struct stat found;
    char head[HEAD_BYTES + 1];
    if (length < sizeof status || memcmp(data, status, sizeof status - 1) != 0) return;
    if (fstat(fd, &found) != 0 || !S_ISSOCK(found.st_mode)) return;
    length = length < HEAD_BYTES ? length : HEAD_BYTES;
    memcpy(head, data, length);
    head[length] = 0;
    const char *id = strcasestr(head, header);
    if (id == NULL) return;
    id += sizeof header - 1;
    lock();
    record("answer\t%.*s\n", (int)strcspn(id, "\r\n"), id);
    unlock();
}

ssize_t write(int fd, const void *data, size_t length) {
    answering(fd, data, length);
    ssize_t result = REAL(write)(fd, data, length);
    written(fd, result);
    return result;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (count > 0) answering(fd, parts[0].iov_base, parts[0].iov_len);
    ssize_t result = REAL(writev)(fd, parts, count);
    written(fd, result);
    return result;
}

ssize_t send(int fd, const void *data, size_t length, int flags) {
    answering(fd, data, length);
    return REAL(send)(fd, data, length, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    const struct iovec *first = message->msg_iov;
    if (message->msg_iovlen > 0) answering(fd, first->iov_base, first->iov_len);
    return REAL(sendmsg)(fd, message, flags);
}

#define WRITE(type, function, target, parameters, arguments) \
    type function parameters { \
        type result = REAL(function) arguments; \
        written(target, result); \
        return result; \
    }
WRITE(ssize_t, pwrite, fd, (int fd, const void *data, size_t n, off_t at), (fd, data, n, at))
WRITE(ssize_t, pwrite64, fd, (int fd, const void *data, size_t n, off64_t at), (fd, data, n, at))
WRITE(int, ftruncate, fd, (int fd, off_t size), (fd, size))
WRITE(int, ftruncate64, fd, (int fd, off64_t size), (fd, size))
WRITE(ssize_t, sendfile, fd, (int fd, int from, off_t *at, size_t n), (fd, from, at, n))
WRITE(ssize_t, sendfile64, fd, (int fd, int from, off64_t *at, size_t n), (fd, from, at, n))
WRITE(ssize_t, copy_file_range, fd,
      (int from, off64_t *from_at, int fd, off64_t *at, size_t n, unsigned flags),
      (from, from_at, fd, at, n, flags))

/* ---- Syncs ---- */

static int synced(int fd, int (*real)(int)) {
    static unsigned count;
    char path[PATH_MAX], copy[PATH_MAX + 64], link[64];
    struct stat found;
    if (fstat(fd, &found) != 0 || !path_of_fd(fd, path) || !is_watched(path)) return real(fd);
    lock();
    unsigned number = ++count;
    int pid = getpid();
    if (S_ISDIR(found.st_mode)) record("sync\t%d-%u\tfolder\t%s\n", pid, number, path);
    else record("sync\t%d-%u\tfile\t%lu\n", pid, number, found.st_ino);
    unlock();
    int result = real(fd);
    if (result != 0) return result;
    lock();
    if (!S_ISDIR(found.st_mode)) {
        snprintf(copy, sizeof copy, "%s.%d-%u", getenv("RECORD_LOG"), pid, number);
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if (syscall(SYS_linkat, AT_FDCWD, link, AT_FDCWD, copy, AT_SYMLINK_FOLLOW) != 0) abort();
    }
    record("synced\t%d-%u\t%ld\n", pid, number, found.st_size);
    unlock();
    return 0;
}

int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }
