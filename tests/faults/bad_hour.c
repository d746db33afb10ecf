/* System faults for one program into which this library is preloaded: a shifted clock, unresolvable names, a full disk. A file
 * controls each fault and is read again each time, so a fault can begin and end while the program runs.
 *
 *   BAD_CLOCK  a file with the offset of the wall clock in seconds; monotonic clocks are not changed
 *   BAD_NAMES  if the file exists, no name resolves; otherwise every name resolves to this machine
 *   BAD_DISK   if the file exists, writes to files whose names end with .aof fail */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char clock_file[512], names_file[512], disk_file[512];

static void keep(char *place, const char *name) {
    const char *value = getenv(name);
    if (value && strlen(value) < 512) strcpy(place, value);
}

/* As early as can be: a program may rearrange its environment later. */
__attribute__((constructor)) static void read_environment(void) {
    keep(clock_file, "BAD_CLOCK");
    keep(names_file, "BAD_NAMES");
    keep(disk_file, "BAD_DISK");
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int outcome = (int)syscall(SYS_clock_gettime, clock, now);
    if (outcome != 0 || clock != CLOCK_REALTIME || !clock_file[0]) return outcome;
    char text[32] = "";
    int error = errno, file = open(clock_file, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        if (read(file, text, sizeof text - 1) > 0) now->tv_sec += atol(text);
        close(file);
    }
    errno = error;
    return 0;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*really)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    if (!names_file[0]) return really(name, service, hints, found);
    return access(names_file, F_OK) == 0 ? EAI_AGAIN : really("127.0.0.1", service, hints, found);
}

ssize_t write(int file, const void *bytes, size_t length) {
    ssize_t (*really)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (disk_file[0] && access(disk_file, F_OK) == 0) {
        char link[64], name[512];
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        ssize_t known = readlink(link, name, sizeof name);
        if (known > 4 && memcmp(name + known - 4, ".aof", 4) == 0) {
            errno = ENOSPC;
            return -1;
        }
    }
    return really(file, bytes, length);
}
