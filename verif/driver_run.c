/* What verif/driver.cpp loads: the example of docs/integrate.md between files and the simulated registers.
 *
 * run() returns 0 after writing RESULTS; 1 when a file is missing; 2, with the reason on standard error, when a run
 * ends with an error; 3 when irq does not follow the run; 4 when the counters of layers and run differ.
 * Last arguments: PROGRAM INPUTS RESULTS IMAGES MODE. MODE is "coherent", or "cached": then the CPU sees a copy of the
 * memory that only sync() moves. encode() makes an input block. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "c_files.h"
#include "spikeloom_driver.h"
#include "spikeloom_program.h"

int classify(const spikeloom_device *device, const spikeloom_network *network, const uint8_t *program,
             const uint8_t *block, int32_t *logits, uint32_t *class_index);

enum { SLOTS = 3, PATIENCE = 10000 };

static uint8_t *shared;
static uint8_t *copy;

static void move(void *context, uint32_t offset, uint32_t bytes, int to_device) {
    (void)context;
    if (to_device) memcpy(shared + offset, copy + offset, bytes);
    else memcpy(copy + offset, shared + offset, bytes);
}

/* Run image after image in slots 1 and 2 with the interrupt on; the next input is written while one runs. */
static int overlapped(const spikeloom_device *device, const spikeloom_network *network, const uint8_t *blocks,
                      long images, int (*irq)(void *), FILE *out) {
    int32_t logits[SPIKELOOM_NETWORK_LOGITS];
    spikeloom_write_input(device, network, 1, blocks);
    for (long image = 0; image < images; ++image) {
        const uint32_t slot = (uint32_t)(1 + image % 2);
        int result;
        if (irq(device->context)) return 3;
        spikeloom_start(device, network, slot, 1);
        if (image + 1 < images)
            spikeloom_write_input(device, network, 3 - slot, blocks + (image + 1) * (long)network->input_bytes);
        if (spikeloom_wait(device, 1) != SPIKELOOM_TIMEOUT) return 3;
        for (uint32_t poll = 0; poll < PATIENCE && !irq(device->context); ++poll)
            (void)spikeloom_counter(device, SPIKELOOM_CYCLES_LO);
        if (!irq(device->context)) return 3;
        result = spikeloom_wait(device, 1);
        if (result != SPIKELOOM_OK) return 2;
        if (irq(device->context)) return 3;
        spikeloom_read(device, network, logits);
        for (uint32_t index = 0; index < SPIKELOOM_NETWORK_LOGITS; ++index) put(out, (uint32_t)logits[index]);
        put(out, spikeloom_class(logits, SPIKELOOM_NETWORK_LOGITS));
    }
    return 0;
}

static int counters_agree(const spikeloom_device *device, const spikeloom_network *network) {
    uint64_t matches = 0;
    for (uint32_t layer = 0; layer < network->layers; ++layer) {
        const uint32_t added = spikeloom_layer_counter(device, network, layer, SPIKELOOM_STATS_MATCHES);
        if (added == 0) return 0;
        matches += added;
    }
    return matches == spikeloom_counter(device, SPIKELOOM_MATCHES_LO);
}

#ifdef __cplusplus
extern "C" {
#endif
void encode(const int32_t *values, uint8_t *block);
int run(void (*write)(void *, uint32_t, uint32_t), uint32_t (*read)(void *, uint32_t), int (*irq)(void *),
        uint8_t *memory, uint64_t address, int argc, char **argv);
#ifdef __cplusplus
}
#endif

void encode(const int32_t *values, uint8_t *block) {
    static const spikeloom_input input = SPIKELOOM_NETWORK_INPUT;
    static const spikeloom_tensor tensors[] = SPIKELOOM_NETWORK_TENSORS;
    spikeloom_encode(&input, tensors, values, block);
}

int run(void (*write)(void *, uint32_t, uint32_t), uint32_t (*read)(void *, uint32_t), int (*irq)(void *),
        uint8_t *memory, uint64_t address, int argc, char **argv) {
    static const spikeloom_network network = SPIKELOOM_NETWORK;
    spikeloom_device device = {write, read, NULL, NULL, memory, address};
    char **words = argv + argc - 5;
    const long images = strtol(words[3], NULL, 10);
    long program_size = 0, inputs_size = 0;
    uint8_t *program = load(words[0], &program_size), *inputs = load(words[1], &inputs_size);
    FILE *out = fopen(words[2], "wb");
    int32_t logits[SPIKELOOM_NETWORK_LOGITS];
    uint32_t index, class_index = 0;
    int result;
    if (!program || !inputs || !out || program_size != (long)network.program_bytes
        || inputs_size != images * (long)network.input_bytes) return 1;
    if (strcmp(words[4], "cached") == 0) {
        shared = memory;
        device.memory = copy = (uint8_t *)calloc(1, (size_t)spikeloom_memory_bytes(&network, SLOTS));
        device.sync = move;
    }
    result = classify(&device, &network, program, inputs, logits, &class_index);
    if (result != SPIKELOOM_OK) {
        fprintf(stderr, "%d: %s (layer %u)\n", result, spikeloom_text(result),
                (unsigned)spikeloom_error_layer(&device));
        return 2;
    }
    for (index = 0; index < SPIKELOOM_NETWORK_LOGITS; ++index) put(out, (uint32_t)logits[index]);
    put(out, class_index);
    if (!counters_agree(&device, &network)) return 4;
    if (images > 1) result = overlapped(&device, &network, inputs + network.input_bytes, images - 1, irq, out);
    fclose(out);
    return result;
}
