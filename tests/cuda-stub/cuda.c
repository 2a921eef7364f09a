/* A driver that computes nothing: CubeCL starts with it, NVRTC compiles the kernels, and launches are counted.
 *
 * With it the kernels for NVIDIA GPUs can be compiled on a machine without one, and a whole run can be followed: which
 * kernels it launches, how often, and what memory it asks for. Numbers that are read back are all 1.0.
 *
 *     sh tests/cuda-stub/build.sh FOLDER
 *
 * makes FOLDER/libcuda.so.1. Put FOLDER and that of libnvrtc.so.12 on LD_LIBRARY_PATH, and let CUDA_PATH name a toolkit (the
 * wheel `triton` has headers in triton/backends/nvidia). STUB_PTX names a folder for what NVRTC made, STUB_LOG a file for
 * the counts. `cargo test -p collimate-backend --features cuda every_kernel_compiles` compiles them all.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long pointer;
typedef struct Function { char *name; long launches; struct Function *next; } Function;

static Function *functions;
static long launches, allocations, frees, live, peak, uploads, downloads, modules;
static int context;

static void write_names(void) {
    const char *log = getenv("STUB_LOG");
    if (!log) return;
    char path[4096];
    snprintf(path, sizeof path, "%s.names", log);
    FILE *file = fopen(path, "w");
    if (!file) return;
    for (Function *f = functions; f; f = f->next)
        if (f->launches) fprintf(file, "%ld %s\n", f->launches, f->name);
    fclose(file);
}

static void *report(void *unused) {
    FILE *file = fopen(getenv("STUB_LOG"), "w");
    for (double seconds = 0.5; file; seconds += 0.5) {
        usleep(500000);
        fprintf(file, "%.1f s: launches %ld, allocations %ld, frees %ld, MiB %ld, peak MiB %ld, uploads %ld, downloads %ld\n",
                seconds, launches, allocations, frees, live >> 20, peak >> 20, uploads, downloads);
        fflush(file);
    }
    return unused;
}

__attribute__((constructor)) static void begin(void) {
    pthread_t thread;
    if (getenv("STUB_LOG")) pthread_create(&thread, 0, report, 0);
}

__attribute__((destructor)) static void end(void) { write_names(); }

static int allocate(pointer *p, size_t size) {
    size = size ? size : 1;
    unsigned *memory = malloc(size + 8);
    if (!memory) return 2;
    /* 1.0 in bfloat16, a little more in float32. */
    for (size_t i = 0; i < size / 4; i++) memory[i] = 0x3f803f80u;
    *p = (pointer)memory;
    __sync_add_and_fetch(&allocations, 1);
    long now = __sync_add_and_fetch(&live, malloc_usable_size(memory));
    if (now > peak) peak = now;
    return 0;
}

static int release(pointer p) {
    if (!p) return 0;
    __sync_add_and_fetch(&frees, 1);
    __sync_sub_and_fetch(&live, malloc_usable_size((void *)p));
    free((void *)p);
    return 0;
}

static void ones(char *to, size_t size) {
    static const char one[4] = {0, 0, (char)0x80, 0x3f};
    for (size_t i = 0; i < size; i++) to[i] = one[i & 3];
}

int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 12080; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = 0; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "a stub of a GPU", size); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 12ull << 30; return 0; }
int cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, 1, 16); return 0; }
int cuMemGetInfo_v2(size_t *available, size_t *total) { *available = *total = 12ull << 30; return 0; }

/* Those of an H100 (compute capability 9.0). */
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
        case 1: case 2: case 3: *value = 1024; break;
        case 4: *value = 64; break;
        case 5: *value = 2147483647; break;
        case 6: case 7: *value = 65535; break;
        case 8: *value = 49152; break;
        case 10: *value = 32; break;
        case 12: *value = 65536; break;
        case 16: *value = 132; break;
        case 39: *value = 2048; break;
        case 75: *value = 9; break;
        case 76: *value = 0; break;
        case 81: *value = 233472; break;
        case 97: *value = 232448; break;
        default: *value = 1;
    }
    return 0;
}

int cuDevicePrimaryCtxRetain(void **result, int device) { *result = &context; return 0; }
int cuCtxGetCurrent(void **result) { *result = &context; return 0; }
int cuCtxGetDevice(int *device) { *device = 0; return 0; }
int cuStreamCreate(void **stream, unsigned flags) { *stream = malloc(8); return 0; }
int cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) { *stream = malloc(8); return 0; }
int cuEventCreate(void **event, unsigned flags) { *event = malloc(8); return 0; }
int cuEventElapsedTime_v2(float *milliseconds, void *from, void *to) { *milliseconds = 1; return 0; }

int cuMemAlloc_v2(pointer *p, size_t size) { return allocate(p, size); }
int cuMemAllocAsync(pointer *p, size_t size, void *stream) { return allocate(p, size); }
int cuMemFree_v2(pointer p) { return release(p); }
int cuMemFreeAsync(pointer p, void *stream) { return release(p); }
int cuMemAllocHost_v2(void **p, size_t size) { *p = calloc(1, size ? size : 1); return 0; }
int cuMemFreeHost(void *p) { free(p); return 0; }

int cuMemcpyHtoDAsync_v2(pointer to, const void *from, size_t size, void *stream) {
    __sync_add_and_fetch(&uploads, 1);
    memcpy((void *)to, from, size);
    return 0;
}

int cuMemcpyDtoHAsync_v2(void *to, pointer from, size_t size, void *stream) {
    __sync_add_and_fetch(&downloads, 1);
    ones(to, size);
    return 0;
}

typedef struct Copy {
    size_t from_x, from_y; int from_kind; const char *from_host; pointer from_device; void *from_array; size_t from_pitch;
    size_t to_x, to_y; int to_kind; char *to_host; pointer to_device; void *to_array; size_t to_pitch;
    size_t width, height;
} Copy;

int cuMemcpy2DAsync_v2(const Copy *copy, void *stream) {
    const char *from = copy->from_kind == 1 ? copy->from_host : (const char *)copy->from_device;
    char *to = copy->to_kind == 1 ? copy->to_host : (char *)copy->to_device;
    __sync_add_and_fetch(copy->from_kind == 1 ? &uploads : &downloads, 1);
    for (size_t row = 0; row < copy->height; row++) {
        char *place = to + copy->to_x + (copy->to_y + row) * copy->to_pitch;
        if (copy->to_kind == 1) ones(place, copy->width);
        else memcpy(place, from + copy->from_x + (copy->from_y + row) * copy->from_pitch, copy->width);
    }
    return 0;
}

int cuModuleLoadData(void **module, const void *ptx) {
    const char *folder = getenv("STUB_PTX");
    *module = malloc(8);
    if (folder) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%ld.ptx", folder, modules++);
        FILE *file = fopen(path, "w");
        if (file) { fputs(ptx, file); fclose(file); }
    }
    return 0;
}

int cuModuleGetFunction(void **result, void *module, const char *name) {
    Function *function = calloc(1, sizeof *function);
    function->name = strdup(name);
    function->next = functions;
    functions = function;
    *result = function;
    return 0;
}

int cuFuncGetAttribute(int *value, int attribute, void *function) { *value = 0; return 0; }

int cuLaunchKernel(Function *function) {
    __sync_add_and_fetch(&launches, 1);
    __sync_add_and_fetch(&function->launches, 1);
    return 0;
}

int cuGetErrorName(int error, const char **name) { *name = "an error of the stub"; return 0; }
int cuGetErrorString(int error, const char **text) { *text = "an error of the stub"; return 0; }
