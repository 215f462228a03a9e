// A fake libnvidia-ml.so.1: as much of NVML as one program reads of its GPUs, for boxes without one.
//
// Rule: all it knows stands in the file that FAKE_NVML names, read again at each call, so figures
// and faults change while a program runs. Replace that file in one step: it is read without a lock.
//
//   gpu TOTAL RESERVED USED UTILISATION UUID NAME   memory in MiB, utilisation -1: not supported;
//                                                   GPUs count from 0 in the order of their lines
//   fail FUNCTION CODE                              that NVML function returns this code
//   hang FUNCTION                                   it does not return while this line is there
//   lost INDEX                                      that GPU is lost, until NVML is initialised
//                                                   again after the line has gone
//   processes FOLDER                                the programs on the GPUs, in `fakeprocesses.h`
//   foreign-pids                                    they are listed by other pids, as to a container
//   untold-use                                      listed, but not what they use, as on Windows
//   graphics                                        listed among those that draw, too
//   lag SECONDS                                     their memory stays used for so long after them
//
// Without the file there is no driver.
// gcc -Wall -Wextra -Werror -shared -fPIC -o libnvidia-ml.so.1 fakenvml.c

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fakeprocesses.h"

// nvml.h: nvmlReturn_t
enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    GPU_IS_LOST = 15,
    ARGUMENT_VERSION_MISMATCH = 25,
};

// nvml.h: nvmlMemory_t, nvmlMemory_v2_t, nvmlUtilization_t, nvmlProcessInfo_t
typedef struct { bytes_t total, free, used; } memory_t;
typedef struct { unsigned version; bytes_t total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned gpu, memory; } utilisation_t;
typedef struct { unsigned pid; bytes_t used; unsigned gpu_instance, compute_instance; } process_t;
#define MEMORY_V2 (sizeof(memory_v2_t) | 2 << 24)
#define VALUE_NOT_AVAILABLE (~0ULL)

#define GPUS 16
#define MIB (1ULL << 20)
#define FOREIGN (1u << 30)  // above every pid of Linux

typedef struct {
    bytes_t total, reserved, used;
    int utilisation;
    char uuid[96], name[96];
} gpu_t;

typedef struct {
    int count;
    gpu_t gpus[GPUS];
    int lost[GPUS];
    char processes[256];
    double lag;
    int foreign_pids, untold_use, graphics;
    int failure;  // what the function that asks must return
    int hangs;    // or that it must not return at all
} box_t;

static int initialised;
static int seen_lost[GPUS];
static char devices[GPUS];  // a device's handle is the address of its place here

static void read_line(const char *line, const char *function, box_t *box) {
    gpu_t gpu;
    char name[96];
    int number;

    if (box->count < GPUS &&
        sscanf(line, "gpu %llu %llu %llu %d %95s %95[^\n]", &gpu.total, &gpu.reserved, &gpu.used,
               &gpu.utilisation, gpu.uuid, gpu.name) == 6)
        box->gpus[box->count++] = gpu;
    else if (sscanf(line, "fail %95s %d", name, &number) == 2 && !strcmp(name, function))
        box->failure = number;
    else if (sscanf(line, "hang %95s", name) == 1 && !strcmp(name, function))
        box->hangs = 1;
    else if (sscanf(line, "lost %d", &number) == 1 && number >= 0 && number < GPUS)
        box->lost[number] = 1;
    else if (sscanf(line, "processes %255s", box->processes) != 1 &&
             sscanf(line, "lag %lf", &box->lag) != 1) {
        box->foreign_pids |= !strcmp(line, "foreign-pids\n");
        box->untold_use |= !strcmp(line, "untold-use\n");
        box->graphics |= !strcmp(line, "graphics\n");
    }
}

static void read_box(const char *function, box_t *box) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512];

    memset(box, 0, sizeof *box);
    if (!file) {
        box->failure = DRIVER_NOT_LOADED;
        return;
    }
    while (fgets(line, sizeof line, file))
        read_line(line, function, box);
    fclose(file);
}

static int ask(const char *function, box_t *box) {
    const struct timespec moment = {.tv_nsec = 5 * 1000 * 1000};

    for (read_box(function, box); box->hangs; read_box(function, box))
        nanosleep(&moment, NULL);
    return box->failure;
}

static int ask_initialised(const char *function, box_t *box) {
    int failure = ask(function, box);

    return failure ? failure : initialised ? SUCCESS : UNINITIALIZED;
}

static int ask_box(const char *function, void *device, box_t *box, int *index) {
    int failure = ask_initialised(function, box);

    *index = (char *)device - devices;
    if (failure)
        return failure;
    if (*index < 0 || *index >= box->count)
        return INVALID_ARGUMENT;
    seen_lost[*index] |= box->lost[*index];
    return seen_lost[*index] ? GPU_IS_LOST : SUCCESS;
}

static int programs_of(const box_t *box, int index, program_t *programs) {
    return programs_on(index, box->gpus[index].uuid, box->processes, box->lag, programs);
}

static int ask_device(const char *function, void *device, gpu_t *gpu) {
    program_t programs[PROGRAMS];
    box_t box;
    int index, failure = ask_box(function, device, &box, &index);

    if (failure)
        return failure;
    *gpu = box.gpus[index];
    for (int n = programs_of(&box, index, programs); n--;)
        gpu->used += programs[n].mib;
    return SUCCESS;
}

static int list(const char *function, void *device, unsigned *count, process_t *processes) {
    program_t programs[PROGRAMS];
    unsigned room = *count;
    box_t box;
    int index, failure = ask_box(function, device, &box, &index);

    if (failure)
        return failure;
    *count = 0;
    if (strstr(function, "Graphics") && !box.graphics)
        return SUCCESS;
    for (int n = programs_of(&box, index, programs); n--;) {
        if (!programs[n].alive)
            continue;
        if (processes && *count < room)
            processes[*count] = (process_t){
                .pid = programs[n].listed + (box.foreign_pids ? FOREIGN : 0),
                .used = box.untold_use ? VALUE_NOT_AVAILABLE : programs[n].mib * MIB,
            };
        ++*count;
    }
    return *count > room ? INSUFFICIENT_SIZE : SUCCESS;
}

static int put(char *buffer, unsigned size, const char *text) {
    if (strlen(text) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
    box_t box;
    int failure = ask(__func__, &box);

    (void)flags;
    if (failure)
        return failure;
    if (!initialised++)
        memset(seen_lost, 0, sizeof seen_lost);
    return SUCCESS;
}

int nvmlShutdown(void) {
    if (!initialised)
        return UNINITIALIZED;
    initialised--;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    static char text[32];

    snprintf(text, sizeof text, "fake error %d", code);
    return text;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    box_t box;
    int failure = ask_initialised(__func__, &box);

    *count = box.count;
    return failure;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    box_t box;
    int failure = ask_initialised(__func__, &box);

    if (failure)
        return failure;
    if (index >= (unsigned)box.count)
        return INVALID_ARGUMENT;
    *device = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned size) {
    gpu_t gpu;
    int failure = ask_device(__func__, device, &gpu);

    return failure ? failure : put(uuid, size, gpu.uuid);
}

int nvmlDeviceGetName(void *device, char *name, unsigned size) {
    gpu_t gpu;
    int failure = ask_device(__func__, device, &gpu);

    return failure ? failure : put(name, size, gpu.name);
}

int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    gpu_t gpu;
    int failure = ask_device(__func__, device, &gpu);

    if (failure)
        return failure;
    memory->total = gpu.total * MIB;
    memory->used = (gpu.reserved + gpu.used) * MIB;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2_t *memory) {
    gpu_t gpu;
    int failure = ask_device(__func__, device, &gpu);

    if (failure)
        return failure;
    if (memory->version != MEMORY_V2)
        return ARGUMENT_VERSION_MISMATCH;
    memory->total = gpu.total * MIB;
    memory->reserved = gpu.reserved * MIB;
    memory->used = gpu.used * MIB;
    memory->free = memory->total - memory->reserved - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void *device, utilisation_t *utilisation) {
    gpu_t gpu;
    int failure = ask_device(__func__, device, &gpu);

    if (failure)
        return failure;
    if (gpu.utilisation < 0)
        return NOT_SUPPORTED;
    *utilisation = (utilisation_t){.gpu = gpu.utilisation};
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process_t *processes) {
    return list(__func__, device, count, processes);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, process_t *processes) {
    return list(__func__, device, count, processes);
}
