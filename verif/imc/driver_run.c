/* What verif/imc/driver.cpp carries: the example of docs/integrate.md between files and the simulated core of tiles.
 *
 * run() takes `cells PROGRAM DEVICE COUNT`, `calibrate PROGRAM WAY` or `images PROGRAM FIRST COUNT OUT`, PROGRAM a folder of
 * `compile --top imc`. It returns the driver's result, or NO_FILE, BAD_IRQ, BAD_COUNTS. What images give goes to OUT, a
 * record of expected.bin each. encode() makes an input block. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../c_files.h"
#include "spikeloom_imc_driver.h"
#include "spikeloom_imc_program.h"

int classify(const spikeloom_imc_device *device, const spikeloom_imc_network *network, const uint32_t *program,
             const uint32_t *block, int32_t *logits, uint32_t *class_index, uint32_t *steps);

enum { NO_FILE = 100, BAD_IRQ = 101, BAD_COUNTS = 102, POLLS = 10000, LOOKS = 20 };

typedef struct {
    const char *name;
    const spikeloom_imc_setting *settings;
    uint32_t count;
} device_of_cells;

#define DEVICE(name, list) { name, list, (uint32_t)(sizeof list / sizeof *list) }
#ifdef SPIKELOOM_IMC_WRITE_RRAM
static const spikeloom_imc_setting RRAM[] = SPIKELOOM_IMC_WRITE_RRAM;
#endif
#ifdef SPIKELOOM_IMC_WRITE_SRAM
static const spikeloom_imc_setting SRAM[] = SPIKELOOM_IMC_WRITE_SRAM;
#endif
static const device_of_cells DEVICES[] = {
#ifdef SPIKELOOM_IMC_WRITE_RRAM
    DEVICE("rram", RRAM),
#endif
#ifdef SPIKELOOM_IMC_WRITE_SRAM
    DEVICE("sram", SRAM),
#endif
};

static int (*interrupt)(void *);
static const spikeloom_imc_device *sleeper;
static uint32_t woken;

/* Let time pass, as a CPU that sleeps until an interrupt or a packet would: reads of a register, a few. */
static void sleep_until(void *context) {
    for (int look = 0; look < LOOKS && !interrupt(context); ++look) (void)spikeloom_imc_counter(sleeper, SPIKELOOM_IMC_CYCLES);
    woken += interrupt(context) != 0;
}

/* Return the words of a file of a folder, and their number. */
static uint32_t *load_words(const char *folder, const char *name, size_t *words) {
    char path[4096];
    long size = 0;
    uint32_t *data;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    data = (uint32_t *)(void *)load(path, &size);
    *words = size > 0 ? (size_t)size / sizeof(uint32_t) : 0;
    return data;
}

static int write_cells(const spikeloom_imc_device *device, const spikeloom_imc_network *network, char **words) {
    size_t size = 0;
    uint32_t *jobs = load_words(words[0], "jobs.bin", &size), answer[SPIKELOOM_IMC_NETWORK_ANSWER_WORDS];
    spikeloom_imc_network some = *network;
    spikeloom_imc_written written;
    int result = NO_FILE;
    if (!jobs || size != (size_t)network->jobs * network->job_words) return NO_FILE;
    some.jobs = (uint32_t)strtoul(words[2], NULL, 10);
    for (size_t index = 0; index < sizeof DEVICES / sizeof *DEVICES; ++index)
        if (strcmp(DEVICES[index].name, words[1]) == 0)
            result = spikeloom_imc_write_cells(device, &some, DEVICES[index].settings, DEVICES[index].count, jobs, answer,
                                               POLLS, &written);
    if (result == SPIKELOOM_IMC_OK && (written.jobs != some.jobs || written.failed || !written.sets || !written.comparisons))
        result = BAD_COUNTS;
    free(jobs);
    return result;
}

static int calibrate(const spikeloom_imc_device *device, const spikeloom_imc_network *network, char **words) {
    static const spikeloom_imc_calibration offsets = SPIKELOOM_IMC_OFFSETS, trims = SPIKELOOM_IMC_TRIMS;
    size_t size = 0;
    uint32_t *program = load_words(words[0], "program.bin", &size);
    int result = NO_FILE;
    if (program && size == network->program_words)
        result = spikeloom_imc_calibrate(device, network, program, strcmp(words[1], "trims") ? &offsets : &trims, POLLS);
    free(program);
    return result;
}

static int images(const spikeloom_imc_device *device, const spikeloom_imc_network *network, char **words) {
    size_t size = 0, inputs = 0;
    uint32_t *program = load_words(words[0], "program.bin", &size), *blocks = load_words(words[0], "inputs.bin", &inputs);
    const size_t first = strtoul(words[1], NULL, 10), count = strtoul(words[2], NULL, 10);
    FILE *out = fopen(words[3], "ab");
    int result = SPIKELOOM_IMC_OK;
    if (!program || !blocks || !out || size != network->program_words
        || inputs < (first + count) * network->input_words) return NO_FILE;
    for (size_t image = first; image < first + count && result == SPIKELOOM_IMC_OK; ++image) {
        int32_t logits[SPIKELOOM_IMC_NETWORK_LOGITS];
        uint32_t class_index = 0, steps = 0;
        result = classify(device, network, program, blocks + image * network->input_words, logits, &class_index, &steps);
        for (uint32_t index = 0; index < SPIKELOOM_IMC_NETWORK_LOGITS; ++index) put(out, (uint32_t)logits[index]);
        put(out, class_index);
        put(out, steps);
        if (result == SPIKELOOM_IMC_OK && (interrupt(device->context) || (device->wait && woken < network->layers)))
            result = BAD_IRQ;
        woken = 0;
    }
    fclose(out);
    free(program);
    free(blocks);
    return result;
}

#ifdef __cplusplus
extern "C" {
#endif
void encode(const int32_t *values, uint32_t *block);
int run(void (*write)(void *, uint32_t, uint32_t), uint32_t (*read)(void *, uint32_t),
        int (*send)(void *, const uint32_t *, uint32_t), uint32_t (*receive)(void *, uint32_t *, uint32_t),
        int (*irq)(void *), void *context, int argc, char **argv);
#ifdef __cplusplus
}
#endif

void encode(const int32_t *values, uint32_t *block) {
    static const spikeloom_imc_input input = SPIKELOOM_IMC_INPUT;
    static const spikeloom_imc_plane planes[] = SPIKELOOM_IMC_PLANES;
    spikeloom_imc_encode(&input, planes, values, block);
}

int run(void (*write)(void *, uint32_t, uint32_t), uint32_t (*read)(void *, uint32_t),
        int (*send)(void *, const uint32_t *, uint32_t), uint32_t (*receive)(void *, uint32_t *, uint32_t),
        int (*irq)(void *), void *context, int argc, char **argv) {
    static const spikeloom_imc_network network = SPIKELOOM_IMC_NETWORK;
    spikeloom_imc_device device = {write, read, send, receive, NULL, context};
    const int sleeps = argc > 2 && strcmp(argv[argc - 1], "sleep") == 0;
    int result = NO_FILE;
    interrupt = irq;
    sleeper = &device;
    if (sleeps) device.wait = sleep_until;
    if (strcmp(argv[0], "cells") == 0) result = write_cells(&device, &network, argv + 1);
    else if (strcmp(argv[0], "calibrate") == 0) result = calibrate(&device, &network, argv + 1);
    else if (strcmp(argv[0], "images") == 0) result = images(&device, &network, argv + 1);
    if (result != SPIKELOOM_IMC_OK) fprintf(stderr, "%d: %s\n", result, spikeloom_imc_text(result));
    return result;
}
