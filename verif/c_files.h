/* Files of a C driver under test: all bytes of one, and words to one, little endian. */

#ifndef C_FILES_H
#define C_FILES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint8_t *load(const char *name, long *size) {
    FILE *file = fopen(name, "rb");
    uint8_t *data;
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *size = ftell(file);
    rewind(file);
    data = (uint8_t *)malloc((size_t)*size + 1);
    if (data && fread(data, 1, (size_t)*size, file) != (size_t)*size) *size = -1;
    fclose(file);
    return data;
}

static void put(FILE *file, uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) fputc((int)(value >> shift & 255u), file);
}

#endif
