// The programs on the fake GPUs: each puts a file into one folder, named by its pid, and keeps it up
// to date. One that has ended uses nothing any more, whether its file is still there or not.
//
// A file has a line for each GPU that the program uses, by index or UUID:
//
//   GPU MIB [LISTED_PID]     LISTED_PID: whose name NVML gives it, unless its own
//
// Files are replaced in one step; other names than pids are drafts.

#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef unsigned long long bytes_t;
typedef struct { unsigned listed; bytes_t mib; int alive; } program_t;

#define PROGRAMS 64

static struct { int pid; double at; } ends[PROGRAMS];  // when a program was first seen to have ended

static double seconds_since_end(int pid) {
    struct timespec now;
    int place = 0;

    clock_gettime(CLOCK_MONOTONIC, &now);
    while (place < PROGRAMS - 1 && ends[place].pid && ends[place].pid != pid)
        place++;
    if (ends[place].pid != pid) {
        ends[place].pid = pid;
        ends[place].at = now.tv_sec + now.tv_nsec / 1e9;
    }
    return now.tv_sec + now.tv_nsec / 1e9 - ends[place].at;
}

static int read_program(const char *path, int pid, int index, const char *uuid, program_t *program) {
    FILE *file = fopen(path, "r");
    char line[256], gpu[96], number[16];
    int found = 0;

    if (!file)
        return 0;
    snprintf(number, sizeof number, "%d", index);
    while (!found && fgets(line, sizeof line, file)) {
        program->listed = pid;
        found = sscanf(line, "%95s %llu %u", gpu, &program->mib, &program->listed) >= 2 &&
                (!strcmp(gpu, number) || !strcmp(gpu, uuid));
    }
    fclose(file);
    return found;
}

static int programs_on(int index, const char *uuid, const char *folder, double lag,
                       program_t *programs) {
    DIR *entries = *folder ? opendir(folder) : NULL;
    struct dirent *entry;
    char path[600];
    int count = 0;

    while (entries && count < PROGRAMS && (entry = readdir(entries))) {
        program_t *program = &programs[count];
        int pid = atoi(entry->d_name);

        if (!isdigit(*entry->d_name) || strchr(entry->d_name, '.'))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        program->alive = kill(pid, 0) == 0;
        if (read_program(path, pid, index, uuid, program) &&
            (program->alive || seconds_since_end(pid) < lag))
            count++;
    }
    if (entries)
        closedir(entries);
    return count;
}
