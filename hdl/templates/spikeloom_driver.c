#include "spikeloom_driver.h"

#include <string.h>

#include "spikeloom_program.h"

static const char *const ERRORS[] = SPIKELOOM_ERROR_TEXTS;

static void write_register(const spikeloom_device *device, uint32_t offset, uint32_t value) {
    device->write_register(device->context, offset, value);
}

static uint32_t read_register(const spikeloom_device *device, uint32_t offset) {
    return device->read_register(device->context, offset);
}

static void sync(const spikeloom_device *device, uint32_t offset, uint32_t bytes, int to_device) {
    if (device->sync) device->sync(device->context, offset, bytes, to_device);
}

static uint32_t word(const spikeloom_device *device, uint32_t offset) {
    const uint8_t *at = device->memory + offset;
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint32_t slot_offset(const spikeloom_network *network, uint32_t slot) {
    return slot == 0 ? network->inputs : network->memory_bytes + (slot - 1) * network->input_bytes;
}

uint64_t spikeloom_memory_bytes(const spikeloom_network *network, uint32_t slots) {
    return network->memory_bytes + (uint64_t)(slots - 1) * network->input_bytes;
}

int spikeloom_load(const spikeloom_device *device, const spikeloom_network *network, const uint8_t *program) {
    if (read_register(device, SPIKELOOM_MAGIC) != SPIKELOOM_MAGIC_RESET) return SPIKELOOM_NO_DEVICE;
    if ((read_register(device, SPIKELOOM_FORMAT_VERSION) ^ SPIKELOOM_FORMAT_VERSION_RESET)
        & SPIKELOOM_FORMAT_VERSION_MAJOR_MASK) return SPIKELOOM_OTHER_FORMAT;
    if (read_register(device, SPIKELOOM_CONFIG_HASH) != network->config_hash) return SPIKELOOM_OTHER_BUILD;
    write_register(device, SPIKELOOM_BASE_LO, (uint32_t)device->address);
    write_register(device, SPIKELOOM_BASE_HI, (uint32_t)(device->address >> 32));
    if (read_register(device, SPIKELOOM_BASE_LO) != (uint32_t)device->address
        || read_register(device, SPIKELOOM_BASE_HI) != (uint32_t)(device->address >> 32)) return SPIKELOOM_BAD_ADDRESS;
    memcpy(device->memory, program, network->program_bytes);
    sync(device, 0, network->program_bytes, 1);
    write_register(device, SPIKELOOM_PROGRAM, 0);
    write_register(device, SPIKELOOM_STATS, network->stats);
    return SPIKELOOM_OK;
}

static uint32_t operand(const spikeloom_input *input, const spikeloom_tensor *tensor, const int32_t *values,
                        uint32_t index) {
    const uint32_t frame = input->channels * input->height * input->width;
    uint32_t found = 0;
    if (!input->spikes)
        return (uint32_t)values[tensor->frame * frame + index] >> tensor->shift & ((1u << tensor->bits) - 1);
    for (uint32_t step = 0; step < input->steps; ++step)
        found |= ((uint32_t)values[step * frame + index] & 1u) << step;
    return found;
}

static void encode_pixel(const spikeloom_input *input, const spikeloom_tensor *tensor, const int32_t *values,
                         uint32_t pixel, uint8_t *block) {
    uint8_t *mask = block + tensor->masks + pixel * ((input->channels + 7) / 8);
    uint8_t *slot = block + tensor->values + pixel * ((input->channels * input->word_bits + 7) / 8);
    uint32_t at = 0;
    for (uint32_t channel = 0; channel < input->channels; ++channel) {
        const uint32_t found = operand(input, tensor, values, channel * input->height * input->width + pixel);
        if (found == 0) continue;
        mask[channel / 8] = (uint8_t)(mask[channel / 8] | 1u << channel % 8);
        for (uint32_t bit = 0; bit < input->word_bits; ++bit, ++at)
            slot[at / 8] = (uint8_t)(slot[at / 8] | (found >> bit & 1u) << at % 8);
    }
}

void spikeloom_encode(const spikeloom_input *input, const spikeloom_tensor *tensors, const int32_t *values,
                      uint8_t *block) {
    memset(block, 0, input->block_bytes);
    for (uint32_t tensor = 0; tensor < input->tensors; ++tensor)
        for (uint32_t pixel = 0; pixel < input->height * input->width; ++pixel)
            encode_pixel(input, tensors + tensor, values, pixel, block);
}

void spikeloom_write_input(const spikeloom_device *device, const spikeloom_network *network, uint32_t slot,
                           const uint8_t *block) {
    const uint32_t offset = slot_offset(network, slot);
    memcpy(device->memory + offset, block, network->input_bytes);
    sync(device, offset, network->input_bytes, 1);
}

void spikeloom_start(const spikeloom_device *device, const spikeloom_network *network, uint32_t slot, int interrupt) {
    write_register(device, SPIKELOOM_INPUT, slot_offset(network, slot) - network->inputs);
    write_register(device, SPIKELOOM_CONTROL,
                   SPIKELOOM_CONTROL_START_MASK | (interrupt ? SPIKELOOM_CONTROL_IRQ_ENABLE_MASK : 0));
}

int spikeloom_wait(const spikeloom_device *device, uint32_t polls) {
    while (polls-- > 0) {
        const uint32_t status = read_register(device, SPIKELOOM_STATUS);
        if (status & (SPIKELOOM_STATUS_DONE_MASK | SPIKELOOM_STATUS_ERROR_MASK)) {
            const uint32_t code = read_register(device, SPIKELOOM_ERROR) & SPIKELOOM_ERROR_CODE_MASK;
            write_register(device, SPIKELOOM_STATUS, SPIKELOOM_STATUS_DONE_MASK | SPIKELOOM_STATUS_ERROR_MASK);
            return status & SPIKELOOM_STATUS_ERROR_MASK ? (int)code : SPIKELOOM_OK;
        }
    }
    return SPIKELOOM_TIMEOUT;
}

void spikeloom_read(const spikeloom_device *device, const spikeloom_network *network, int32_t *logits) {
    const uint32_t pixels = network->height * network->width;
    sync(device, network->readout, 4 * pixels * network->channels, 0);
    for (uint32_t channel = 0; channel < network->channels; ++channel)
        for (uint32_t pixel = 0; pixel < pixels; ++pixel)
            *logits++ = (int32_t)word(device, network->readout + 4 * (pixel * network->channels + channel));
}

uint32_t spikeloom_class(const int32_t *logits, uint32_t count) {
    uint32_t best = 0;
    for (uint32_t index = 1; index < count; ++index)
        if (logits[index] > logits[best]) best = index;
    return best;
}

uint64_t spikeloom_counter(const spikeloom_device *device, uint32_t offset) {
    const uint32_t low = read_register(device, offset);
    return (uint64_t)read_register(device, offset + 4) << 32 | low;
}

uint32_t spikeloom_layer_counter(const spikeloom_device *device, const spikeloom_network *network, uint32_t layer,
                                 uint32_t index) {
    const uint32_t offset = network->stats + SPIKELOOM_STATS_BYTES * layer + 4 * index;
    sync(device, network->stats, SPIKELOOM_STATS_BYTES * network->layers, 0);
    return layer == 0 ? word(device, offset) : word(device, offset) - word(device, offset - SPIKELOOM_STATS_BYTES);
}

uint32_t spikeloom_error_layer(const spikeloom_device *device) {
    return (read_register(device, SPIKELOOM_ERROR) & SPIKELOOM_ERROR_LAYER_MASK) >> SPIKELOOM_ERROR_LAYER_SHIFT;
}

const char *spikeloom_text(int result) {
    if (result >= 0 && result < (int)(sizeof ERRORS / sizeof *ERRORS)) return ERRORS[result];
    switch (result) {
        case SPIKELOOM_NO_DEVICE: return "no accelerator answers at the registers";
        case SPIKELOOM_OTHER_FORMAT: return "the accelerator runs another program format";
        case SPIKELOOM_OTHER_BUILD: return "the network was compiled for other parameters than the accelerator's";
        case SPIKELOOM_BAD_ADDRESS: return "the buffer's address is no multiple of 64, or beyond the accelerator's bus";
        case SPIKELOOM_TIMEOUT: return "the accelerator is still busy";
        default: return "unknown error";
    }
}
