/* Simulation of a power cut: records the length of each file when it was last written out.
 *
 * Preloaded into a server. Each successful fsync or fdatasync of a regular file adds a line to the file that POWER_CUT_LOG
 * names: device, inode, and the length of the file *before* the call. What was written during the call may be on the disk or
 * not, so it does not count. The line is there before the call returns, so nothing is acknowledged that is not noted. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int notes = -1;

/* As early as can be: a program may rearrange its environment later, to show a title among the processes. */
__attribute__((constructor)) static void open_notes(void) {
    const char *path = getenv("POWER_CUT_LOG");
    if (path) notes = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int noted(const char *name, int file) {
    int (*really)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct stat before;
    int known = fstat(file, &before) == 0 && S_ISREG(before.st_mode);
    int outcome = really(file);
    int error = errno;
    if (outcome == 0 && known && notes >= 0) {
        char line[80];
        int length = snprintf(line, sizeof line, "%llu %llu %lld\n", (unsigned long long)before.st_dev,
                              (unsigned long long)before.st_ino, (long long)before.st_size);
        /* Without its note the file would be cut too short, and the test would fail: no loss goes unseen. */
        if (write(notes, line, (size_t)length) != length) abort();
    }
    errno = error;
    return outcome;
}

int fsync(int file) { return noted("fsync", file); }
int fdatasync(int file) { return noted("fdatasync", file); }
