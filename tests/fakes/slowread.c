/* A slow disk: preloaded into a program, it makes each fread take a second per hundred megabytes,
   so that a test can watch a load of a file that the page cache would give away at once. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>

size_t fread(void *to, size_t size, size_t count, FILE *file) {
    static size_t (*real)(void *, size_t, size_t, FILE *);
    if (!real)
        real = dlsym(RTLD_NEXT, "fread");
    long long ns = 10LL * size * count;
    struct timespec pause = {ns / 1000000000, ns % 1000000000};
    nanosleep(&pause, NULL);
    return real(to, size, count, file);
}
