#include "cpu.h"

#include <string.h>

extern const struct instruction_set set_portable;

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern const struct instruction_set set_avx2, set_avx512, set_amx;

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18
#define AMX_TILE (1u << 24)
#define AMX_INT8 (1u << 25)

static int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

#if !defined(TILES_EMULATED)
static int allow_tiles(void) { return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0; }

/* Load a tile's shape and let it go: on some hosts that lend the bit but not the unit this is the end of a process. */
static void touch_tiles(void) {
    static const unsigned char shapes[64] __attribute__((aligned(64))) = {1};
    __asm__ volatile("ldtilecfg %0\n\ttilerelease" : : "m"(shapes));
}

static int tiles_work(void) {
    const pid_t child = fork();
    int status = 1;
    if (child == 0) {
        if (allow_tiles()) {
            touch_tiles();
            _exit(0);
        }
        _exit(1);
    }
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Asked of a child process first, and once: the answer does not change. */
static int has_amx(void) {
    static int known = -1;
    unsigned a, b, c, d = 0;
    if (known < 0)
        known = has_avx512() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & AMX_TILE) && (d & AMX_INT8) &&
                tiles_work() && allow_tiles();
    return known;
}
#else
static int has_amx(void) { return has_avx512(); }
#endif
#endif

#if defined(__aarch64__)
extern const struct instruction_set set_neon;
#if defined(__linux__)
#include <sys/auxv.h>
#define HWCAP_DOT_PRODUCT (1ul << 20)
static int has_neon(void) { return (getauxval(AT_HWCAP) & HWCAP_DOT_PRODUCT) != 0; }
#else
static int has_neon(void) { return 1; } /* every Apple processor of this kind */
#endif
#endif

static int always(void) { return 1; }

static const struct {
    const struct instruction_set *set;
    int (*has)(void);
} SETS[] = {
#if defined(__x86_64__)
    {&set_avx512, has_avx512},
    {&set_amx, has_amx}, /* no faster, measured on a Sapphire Rapids for 16 to 256 rows */
    {&set_avx2, has_avx2},
#endif
#if defined(__aarch64__)
    {&set_neon, has_neon},
#endif
    {&set_portable, always},
};
#define SET_COUNT ((int)(sizeof SETS / sizeof *SETS))

const struct instruction_set *find_set(const char *name) {
    for (int i = 0; i < SET_COUNT; i++)
        if (strcmp(SETS[i].set->name, name) == 0 && SETS[i].has()) return SETS[i].set;
    return NULL;
}

const char *set_name(int n) {
    for (int i = 0; i < SET_COUNT; i++)
        if (SETS[i].has() && n-- == 0) return SETS[i].set->name;
    return NULL;
}

void set_encode(const struct instruction_set *set, const float *rows, int count, int width, uint8_t *wire) {
    set->encode(rows, count, width, wire);
}

int set_decode(const struct instruction_set *set, const uint8_t *wire, int count, int width, float *rows) {
    return set->decode(wire, count, width, rows);
}
