// A fake libamd_smi.so: as much of AMD SMI as one program reads of its GPUs, for boxes without one.
//
// Rule: all it knows stands in the file that FAKE_AMDSMI names, read again at each call. Replace that
// file in one step. All other functions of AMD SMI are there and not supported: the fixture makes
// them of the names in the binding.
//
//   gpu BUS SERIAL TOTAL USED BUSY NAME   memory in MiB; SERIAL 0: it has none; BUSY -1: untold
//   process BUS PID MIB                   a program on that GPU; 0 MiB: it has or shows none
//   fail FUNCTION CODE                    that function returns this code
//
// Without the file there is no driver.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long u64;
typedef unsigned u32;

// amdsmi.h: amdsmi_status_t, of amdsmi 7.0
enum { SUCCESS = 0, INVAL = 1, DRIVER_NOT_LOADED = 34 };

// amdsmi.h: amdsmi_asic_info_t, amdsmi_engine_usage_t, amdsmi_proc_info_t
typedef struct {
    char market_name[256];
    u32 vendor_id;
    char vendor_name[256];
    u32 subvendor_id;
    u64 device_id;
    u32 rev_id;
    char asic_serial[256];
    u32 oam_id, compute_units;
    u64 graphics_version;
    u32 subsystem_id, reserved[21];
} asic_t;
typedef struct { u32 gfx, umc, mm, reserved[13]; } activity_t;
typedef struct {
    char name[256];
    u32 pid;
    u64 mem;
    struct { u64 gfx, enc; u32 reserved[12]; } engine;
    struct { u64 gtt, cpu, vram; u32 reserved[10]; } memory;
    char container[256];
    u32 cu_occupancy, reserved[11];
} process_t;

#define GPUS 8
#define MIB (1ULL << 20)

typedef struct { unsigned bus; u64 total, used; int busy; char serial[32], name[96]; } gpu_t;
typedef struct {
    int count, failure;
    gpu_t gpus[GPUS];
    int programs;
    struct { unsigned bus, pid; u64 mib; } program[64];
} box_t;

static char devices[GPUS];  // a processor's handle is the address of its place here

static int ask(const char *function, box_t *box) {
    const char *path = getenv("FAKE_AMDSMI");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256], name[96];
    int code;

    memset(box, 0, sizeof *box);
    if (!file)
        return DRIVER_NOT_LOADED;
    while (fgets(line, sizeof line, file)) {
        gpu_t *gpu = &box->gpus[box->count];
        if (box->count < GPUS && sscanf(line, "gpu %x %31s %llu %llu %d %95[^\n]", &gpu->bus, gpu->serial,
                                        &gpu->total, &gpu->used, &gpu->busy, gpu->name) == 6)
            box->count++;
        else if (box->programs < 64 && sscanf(line, "process %x %u %llu", &box->program[box->programs].bus,
                                              &box->program[box->programs].pid,
                                              &box->program[box->programs].mib) == 3)
            box->programs++;
        else if (sscanf(line, "fail %95s %d", name, &code) == 2 && !strcmp(name, function))
            box->failure = code;
    }
    fclose(file);
    return box->failure;
}

static int ask_gpu(const char *function, void *device, box_t *box, gpu_t **gpu) {
    long index = (char *)device - devices;
    int failure = ask(function, box);

    if (failure)
        return failure;
    if (index < 0 || index >= box->count)
        return INVAL;
    *gpu = &box->gpus[index];
    return SUCCESS;
}

int amdsmi_init(u64 flags) {
    box_t box;

    (void)flags;
    return ask(__func__, &box);
}

int amdsmi_shut_down(void) {
    return SUCCESS;
}

// One socket, which holds every GPU.
int amdsmi_get_socket_handles(u32 *count, void **sockets) {
    box_t box;
    int failure = ask(__func__, &box);

    *count = 1;
    if (sockets)
        *sockets = devices;
    return failure;
}

int amdsmi_get_processor_handles(void *socket, u32 *count, void **processors) {
    box_t box;
    int failure = ask(__func__, &box);

    (void)socket;
    *count = box.count;
    for (int n = 0; processors && n < box.count; n++)
        processors[n] = &devices[n];
    return failure;
}

int amdsmi_get_gpu_device_bdf(void *device, u64 *bdf) {
    box_t box;
    gpu_t *gpu;
    int failure = ask_gpu(__func__, device, &box, &gpu);

    if (!failure)
        *bdf = (u64)gpu->bus << 8;
    return failure;
}

int amdsmi_get_gpu_asic_info(void *device, asic_t *asic) {
    box_t box;
    gpu_t *gpu;
    int failure = ask_gpu(__func__, device, &box, &gpu);

    if (failure)
        return failure;
    memset(asic, 0, sizeof *asic);
    strcpy(asic->market_name, gpu->name);
    if (strcmp(gpu->serial, "0"))
        strcpy(asic->asic_serial, gpu->serial);
    return SUCCESS;
}

int amdsmi_get_gpu_memory_total(void *device, int kind, u64 *bytes) {
    box_t box;
    gpu_t *gpu;
    int failure = ask_gpu(__func__, device, &box, &gpu);

    if (!failure)
        *bytes = kind == 0 ? gpu->total * MIB : 0;
    return failure;
}

int amdsmi_get_gpu_memory_usage(void *device, int kind, u64 *bytes) {
    box_t box;
    gpu_t *gpu;
    int failure = ask_gpu(__func__, device, &box, &gpu);

    if (!failure)
        *bytes = kind == 0 ? gpu->used * MIB : 0;
    return failure;
}

int amdsmi_get_gpu_activity(void *device, activity_t *activity) {
    box_t box;
    gpu_t *gpu;
    int failure = ask_gpu(__func__, device, &box, &gpu);

    if (!failure)
        *activity = (activity_t){.gfx = gpu->busy < 0 ? 0xFFFF : gpu->busy};
    return failure;
}

int amdsmi_get_gpu_process_list(void *device, u32 *count, process_t *processes) {
    box_t box;
    gpu_t *gpu;
    int failure = ask_gpu(__func__, device, &box, &gpu);
    u32 room = *count;

    if (failure)
        return failure;
    *count = 0;
    for (int n = 0; n < box.programs && *count < room; n++) {
        if (box.program[n].bus != gpu->bus)
            continue;
        processes[*count] = (process_t){.pid = box.program[n].pid, .mem = box.program[n].mib * MIB};
        processes[(*count)++].memory.vram = box.program[n].mib * MIB;
    }
    return SUCCESS;
}
